"""``aurora-actors plugins``: the extensions that are installed, from which distributions, and whether they can be used."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aurora_actors.flow import discovery
from aurora_actors.flow.discovery import GROUPS, Record, Status, found, kind_of

__all__ = ["plugins"]

COLUMNS = ("name", "group", "distribution", "status")
STYLES = {Status.FOUND: "dim", Status.LOADED: "green", Status.LOAD_ERROR: "bold red", Status.UNUSABLE: "bold yellow"}


def plugins(
    load: Annotated[bool, typer.Option(help="Load each to see whether it can be used; this runs its code.")] = True,
    problems: Annotated[bool, typer.Option("--problems", help="Only those that cannot be used.")] = False,
) -> None:
    """List every extension that is installed, of every group: plugins, monitors, host selectors and the rest."""
    records = [record for group in GROUPS for record in found(group)]
    if load:
        # What does not load is logged as well; here the list says it.
        logging.getLogger("aurora_actors").addHandler(logging.NullHandler())
        records = [record if record.error else discovery.load(record.group, record.name) for record in records]
    if problems:
        records = [record for record in records if record.error]
    console = Console()
    if console.is_terminal:
        console.print(_table(records))
    else:
        for line in _lines(records):
            print(line)


def _rows(records: list[Record]) -> list[tuple[str, str, str, str]]:
    return [(r.name, kind_of(r.group), r.distribution, _status(r)) for r in records]


def _status(record: Record) -> str:
    # What an extension raised may have lines of its own.
    reason = " ".join(record.error.split())
    return f"{record.status.value}: {reason}" if reason else record.status.value


def _table(records: list[Record]) -> Table:
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for record, row in zip(records, _rows(records), strict=True):
        table.add_row(*(Text(cell) for cell in row[:3]), Text(row[3], style=STYLES[record.status]))
    return table


def _lines(records: list[Record]) -> list[str]:
    """Columns of plain text, for pipes and logs."""
    rows = [COLUMNS, *_rows(records)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join((*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3])) for row in rows]
