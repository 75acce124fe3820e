"""Tables for the terminal, and as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.harness import Table, as_json

__all__ = ["show", "write"]

WIDE = 10_000


def show(console: Console, table: Table) -> None:
    """Print one table with its notes."""
    console.print()
    console.print(table.title, style="bold", highlight=False)
    console.print(_made(table, box.SIMPLE_HEAD))
    for note in (*table.notes, _taken(table)):
        console.print(f"  {note}", highlight=False, style="dim")
    for what, reached in table.targets:
        console.print(f"  {_verdict(reached)}: {what}", highlight=False, style="green" if reached else "bold red")


def write(directory: Path, tables: Sequence[Table], machine: dict[str, Any], arguments: str) -> tuple[Path, Path]:
    """Write ``results.md`` and ``results.json``; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    page, data = directory / "results.md", directory / "results.json"
    page.write_text(_page(tables, machine, arguments), "utf-8")
    document = {"machine": machine, "arguments": arguments, "tables": as_json(tables)}
    data.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return page, data


def _page(tables: Sequence[Table], machine: dict[str, Any], arguments: str) -> str:
    out = StringIO()
    console = Console(file=out, width=WIDE, no_color=True, highlight=False)
    lines = ["# Benchmarks", "", f"Made by `make bench{f' ARGS={arguments!r}' if arguments else ''}`.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    for table in tables:
        out.truncate(0)
        out.seek(0)
        console.print(_made(table, box.MARKDOWN))
        rows = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
        lines += ["", f"## {table.title}", "", *rows, "", *(f"- {note}" for note in (*table.notes, _taken(table)))]
        lines += [f"- **{_verdict(reached)}**: {what}" for what, reached in table.targets]
    return "\n".join(lines) + "\n"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT REACHED"


def _taken(table: Table) -> str:
    before, after = table.load
    return f"Taken in {table.seconds:.0f} s; load average {before:.2f} before, {after:.2f} after."


def _made(table: Table, edges: box.Box) -> RichTable:
    made = RichTable(box=edges, pad_edge=edges is box.MARKDOWN)
    made.add_column("")
    for column in table.columns:
        made.add_column(column, justify="right")
    for name, cells in table.rows:
        made.add_row(name, *("-" if cell is None else _text(cell) for cell in cells))
    return made


def _text(cell: object) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
