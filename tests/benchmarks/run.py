"""`make bench`: what aurora_actors costs and how soon it recovers, beside raw psycopg and libpq's own loop, in one run.

    make bench ARGS='--rows cost,failover --events 7'      or      python -m tests.benchmarks.run --quick

Prints each table and writes all of them as Markdown and JSON. Nothing here is asserted: figures are medians of one run,
with their spread and the load of the machine beside them.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.harness import ROOT, Plan, Table, Watch, machine

# Always in this order. What needs a quiet machine most comes first, and with it the only one whose plugin has to be found
# before anything else looks for plugins; the long outages come last.
ROWS = (
    *("cost", "connect", "identity", "plain", "threads", "failover", "mysql", "many", "search", "detection", "patience"),
    *("peer-calls", "peer-connect", "peer-failover", "peer-crowd", "peer-scale", "peer-fleet"),
)
GROUPS = {"peer": [name for name in ROWS if name.startswith("peer-")]}
OUT = ROOT / "docs" / "benchmarks"
EVENTS, QUICK_EVENTS = 15, 3
ROUNDS, QUICK_ROUNDS = 7, 2
WIDTH = 160
"""Columns of a table that is not printed on a terminal."""


def main(
    rows: Annotated[str, typer.Option(help=f"Which tables, of {','.join((*ROWS, *GROUPS))}; all if not given.")] = "",
    counted: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds beside the peer, 7 if not given.")] = None,
    events: Annotated[int | None, typer.Option(min=1, help=f"Failovers per habit, {EVENTS} if not given.")] = None,
    quick: Annotated[bool, typer.Option(help="As little as still shows something; below two minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Where results.md and results.json are written.")] = OUT,
) -> None:
    """Measure, print, and write down."""
    given = [name for name in rows.replace(" ", "").split(",") if name] or list(ROWS)
    asked = [row for name in given for row in GROUPS.get(name, [name])]
    unknown = [name for name in asked if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"no rows named {', '.join(unknown)}; there are {', '.join(ROWS)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    say = partial(console.print, style="dim", highlight=False)
    plan = Plan(events or (QUICK_EVENTS if quick else EVENTS), quick, say, counted or (QUICK_ROUNDS if quick else ROUNDS))
    about, made = machine(), list[Table]()
    paths: tuple[Path, ...] = ()
    for name, value in about.items():
        console.print(f"{name}: {value}", highlight=False)
    for name in (name for name in ROWS if name in asked):
        watch = Watch()
        found = import_module(f"tests.benchmarks.{name.replace('-', '_')}").tables(plan)
        watch.close(found)
        for table in found:
            report.show(console, table)
        made += found
        # After each, so that a run that is cut short leaves what it has.
        paths = report.write(out, made, about, shlex.join(sys.argv[1:]))
    if (one := report.stood_beside(made)) is not None:
        report.show(console, one)
    console.print(f"\nwritten: {' and '.join(str(path) for path in paths)}", highlight=False)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
