"""The command ``aurora-actors``: ``demo``, ``lab``, ``plugins`` and ``commit-outcome``.

Nothing but the standard library is imported until :func:`main` runs, so that a missing extra is one clear line.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["build", "main"]

OURS = "aurora_actors"
NEEDED = ("jinja2", "rich", "typer")
INSTALL = "pip install 'aurora-actors[cli,lab]'"


def main() -> None:
    """Run the command line in the main thread; exits with the status of the command that ran."""
    try:
        application = build()
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == OURS:
            raise
        raise SystemExit(f"aurora-actors: the module {missing.name!r} is not installed: {INSTALL}") from None
    application(prog_name="aurora-actors")


def build() -> typer.Typer:
    """The typer application with every command that is installed; imports typer and the commands."""
    for needed in NEEDED:
        import_module(needed)
    import typer

    application = typer.Typer(
        help="Connections that survive an Aurora failover: see one, or run a local cluster to test with.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @application.callback(invoke_without_command=True)
    def options(
        version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
    ) -> None:
        if version:
            from importlib.metadata import version as installed

            print(installed("aurora-actors"))
            raise typer.Exit

    if lab := _command("lab"):
        application.add_typer(lab.app, name="lab")
    if demo := _command("demo"):
        application.command("demo")(demo.demo)
    if plugins := _command("plugins"):
        application.command("plugins")(plugins.plugins)
    if outcome := _command("commit_outcome"):
        application.add_typer(outcome.app, name="commit-outcome")
    return application


def _command(name: str) -> ModuleType | None:
    module = f"{__name__}.{name}"
    return import_module(module) if find_spec(module) else None
