"""``aurora-actors commit-outcome``: the table that ``commit_outcome=True`` needs, made, granted and kept small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from aurora_actors import connecting
from aurora_actors.dialects.markers import Markers, by_scheme
from aurora_actors.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(help="The table for connections with commit_outcome=True.", no_args_is_help=True)

Url = Annotated[
    str, typer.Argument(metavar="URL", help="Where, as a user that may create it: postgresql://owner@host/database.")
]


@app.command()
def install(
    url: Url,
    grant_to: Annotated[list[str] | None, typer.Option(help="A user that may then use it; may be given again.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the statements, and do nothing.")] = False,
) -> None:
    """Create the table and what writes to it, unless they are there, and grant their use."""
    markers = _markers(url)
    statements = [*markers.install, *(each for user in grant_to or () for each in markers.granting(user))]
    if show:
        for statement in statements:
            print(f"{statement};")
    else:
        _run(url, statements)


@app.command()
def prune(
    url: Url,
    days: Annotated[int, typer.Option(min=1, help="Since when they committed nothing.")] = 7,
) -> None:
    """Delete the rows of sessions that are long gone."""
    _run(url, [_markers(url).prune.format(days=days)])


def _markers(url: str) -> Markers:
    try:
        return by_scheme(url.partition("://")[0])
    except KeyError:
        raise typer.BadParameter("a URL such as postgresql://owner@host/database or mysql://… is needed") from None


def _run(url: str, statements: Iterable[str]) -> None:
    try:
        # Of the driver's alone: it is done once, by hand, where the URL leads.
        conn: Any = connecting.connect(url, plugins="", autocommit=True)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        cursor = conn.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
    finally:
        conn.close()
