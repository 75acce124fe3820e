"""A MkDocs hook: the pages that are written from the code, README.md and CHANGELOG.md at every build."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aurora_actors import errors, signals
from aurora_actors.settings import SETTINGS, Setting
from aurora_actors_plugins.aws_secrets_manager import SecretLogin
from aurora_actors_plugins.federated_auth import FederatedLogin, OktaLogin
from aurora_actors_plugins.iam import Iam

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["on_files", "pages"]

ROOT = Path(__file__).resolve().parent.parent
NOTHING = "-"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs: add the generated pages to those found in docs/."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Path within docs/ to the Markdown of each generated page."""
    own = {key: row for one in (Iam, SecretLogin, FederatedLogin, OktaLogin) for key, row in one.parameters.items()}
    return {
        "reference/parameters.md": parameters({**SETTINGS, **own}),
        "reference/signals.md": signal_page(),
        "reference/errors.md": error_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        "index.md": front_page((ROOT / "README.md").read_text("utf-8")),
    }


def front_page(readme: str) -> str:
    """The README with its links as seen from docs/."""
    return readme.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")


def parameters(settings: Mapping[str, Setting]) -> str:
    present = [setting for setting in settings.values() if setting.available]
    absent = [setting for setting in settings.values() if not setting.available]
    parts = [PARAMETERS]
    for reader in dict.fromkeys(setting.used_by[0] for setting in present):
        rows = [setting for setting in present if setting.used_by[0] == reader]
        parts += [f"### Read by: {reader}", table(PARAMETER_COLUMNS, map(parameter_row, rows))]
    parts += [
        ABSENT_PARAMETERS,
        table(
            ("name", "the AWS wrapper's default", "meaning"),
            ((f"`{one.name}`", code(one.wrapper_default), one.meaning or NOTHING) for one in absent),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def parameter_row(setting: Setting) -> tuple[str, ...]:
    notes = [setting.meaning, *limits(setting)]
    if setting.aliases:
        notes.append("also " + ", ".join(f"`{alias}`" for alias in setting.aliases))
    if setting.secret:
        notes.append("never shown")
    theirs = "*ours alone*" if setting.is_ours else code(setting.wrapper_default)
    unit = {"ms": ", milliseconds", "s": ", seconds"}.get(setting.unit, setting.unit)
    return (f"`{setting.name}`", setting.kind + unit, code(setting.default), theirs, "; ".join(filter(None, notes)))


def limits(setting: Setting) -> Iterable[str]:
    if setting.choices:
        yield "one of " + ", ".join(f"`{choice}`" for choice in setting.choices)
    least, most = (f"{value:,.10g}" for value in (setting.least, setting.most))
    if setting.least > float("-inf"):
        yield f"{least} to {most}" if setting.most < float("inf") else f"at least {least}"


def signal_page() -> str:
    parts = [SIGNALS]
    for name, signal in sorted(signals.namespace.items()):
        event = event_of(name)
        said = prose(signal.__doc__).replace(f" Event: `{event.__name__}`.", "")
        more = prose(inspect.getdoc(event))
        columns = (f"field of `{event.__name__}`", "type")
        rows = ((f"`{one.name}`", code(one.type)) for one in fields(event))
        parts += [f"## {name}", said, *([more] if more != said else []), table(columns, rows)]
    return "\n\n".join(parts) + "\n"


def event_of(signal: str) -> type[Any]:
    """The class of a signal's events: `host_down` has `HostDown`."""
    event = getattr(signals, "".join(word.capitalize() for word in signal.split("_")))
    assert isinstance(event, type), signal
    assert is_dataclass(event), signal
    return event


def error_page() -> str:
    found = [(name, getattr(errors, name)) for name in errors.__all__]
    raised = [value for _, value in found if issubclass(value, BaseException)]
    families = (errors.FailoverError, errors.AwsWrapperError)
    ours = sorted((one for one in raised if issubclass(one, families)), key=rank)
    standard = sorted((one for one in raised if not issubclass(one, families)), key=rank)
    parts = [ERRORS]
    for error in ours:
        state = getattr(error, "sqlstate", None)
        parts += [f"## {error.__name__}", f"A kind of {bases(error)}." + (f" SQLSTATE `{state}`." if state else "")]
        parts.append(prose(inspect.getdoc(error)))
    parts += ["## What they carry"]
    for name, value in found:
        if value not in raised:
            parts += [f"### {name}", prose(inspect.getdoc(value)), *contents(value)]
    parts += [STANDARD_ERRORS]
    rows = ((f"`{one.__name__}`", bases(one), prose(inspect.getdoc(one)).removeprefix("PEP 249: ")) for one in standard)
    parts.append(table(("name", "a kind of", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def rank(error: type[BaseException]) -> tuple[bool, int, str]:
    """Failover errors first, and a class before those derived from it."""
    return not issubclass(error, errors.FailoverError), len(error.__mro__), error.__name__


def bases(error: type[BaseException]) -> str:
    return " and ".join(f"`{base.__name__}`" for base in error.__bases__)


def contents(value: type[Any]) -> Iterable[str]:
    if is_dataclass(value):
        yield table(("field", "type"), ((f"`{one.name}`", code(one.type)) for one in fields(value)))
    elif members := getattr(value, "__members__", None):
        yield ", ".join(f"`{name}`" for name in members) + "."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(value: object) -> str:
    if value is None or value in ("", ()):
        return NOTHING
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def prose(text: str | None) -> str:
    """A docstring as Markdown: roles such as ``:class:`X``` become plain code."""
    return re.sub(r":(?:\w+:)+`~?([^`]+)`", r"`\1`", inspect.cleandoc(text or ""))


PARAMETER_COLUMNS = ("name", "type", "default", "the AWS wrapper's default", "meaning")

PARAMETERS = """# Parameters

*Written from the code at every build of this page.*

Parameters are given to `connect()` as keywords or in the connection string, under the names and with the units of the
AWS wrapper: `_sec` is seconds, `_ms` milliseconds. Keywords win over the connection string. A value that is given is
honoured; where a default differs from the AWS wrapper's, both are listed.

A name of this page is this package's; a name that resembles one of them is an error that says which one was meant;
every other name goes to the driver untouched. A parameter may be given with a prefix for the connections that this
package opens for itself, where one is listed.

## In this version
"""

ABSENT_PARAMETERS = """## Known, and not in this version

The AWS wrapper has these. Giving one is an error that says so: it is never silently ignored.
"""

SIGNALS = """# Signals

*Written from the code at every build of this page.*

Every signal is a [blinker](https://blinker.readthedocs.io) signal in `aurora_actors.signals`. The sender is the id of
the cluster, a string, so that `sender=` filters by value; the payload is one frozen `event`.

Receivers run in one thread of their own, one after the other, in the order in which the facts happened: none of them
can delay a statement or a failover. A receiver that raises is logged and stays connected. Receivers are held weakly, as
blinker does; `weak=False` keeps them. Times named `at` are seconds on the clock of `time.monotonic()`.
"""

STANDARD_ERRORS = """## The errors of PEP 249

For code that catches by the names of this package whatever the driver.
"""

ERRORS = """# Errors

*Written from the code at every build of this page.*

An error that this package does not understand reaches the application as the very object that the driver raised. The
classes below are this package's own. On a driver each failover error is that driver's class as well: the
`FailoverSuccessError` of a psycopg connection is a `psycopg.OperationalError`, so that handlers, pools and ORMs
classify it without knowing this package. The driver's own error is its `__cause__`.
"""
