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

from tests.benchmarks import plots
from tests.benchmarks.harness import Beside, Cell, Spread, Table, as_json

__all__ = ["show", "stood_beside", "write"]

WIDE = 10_000
ALONE = 0.1
"""What a figure that was taken once may be off, as a share of it."""


def show(console: Console, table: Table) -> None:
    """Print one table with its notes."""
    console.print()
    console.print(table.title, style="bold", highlight=False)
    console.print(_made(table, box.SIMPLE_HEAD))
    for note in (*table.notes, _taken(table)):
        console.print(f"  {note}", highlight=False, style="dim")
    for what, reached in table.targets:
        console.print(f"  {_verdict(reached)}: {what}", highlight=False, style="green" if reached else "bold red")


def stood_beside(tables: Sequence[Table]) -> Table | None:
    """All rows in which we stand beside the others as one table, if any was measured."""
    rows = [row for table in tables for row in table.beside]
    if not rows:
        return None
    columns = ["raw", "libpq loop", "ours", "peer", "ours to peer's", "physical limit", "off it", "verdict"]
    one = Table("Beside the raw driver, libpq's loop and the AWS Advanced Python Wrapper 3.1.0", columns)
    verdicts = {row.what: _compared(row) for row in rows}
    for row in rows:
        ours, peer = _middle(row.ours), _middle(row.peer)
        ratio = f"{ours / peer:.2f}" if ours is not None and peer else None
        off = f"{ours - row.limit:+.2f}" if ours is not None and row.limit is not None else None
        bound = f"{row.limit:.2f}: {row.bound}" if row.limit is not None else None
        one.add(row.what, row.raw, row.libpq, row.ours, row.peer, ratio, bound, off, verdicts[row.what])
    one.notes = [
        "Less is better in every row. ahead, BEHIND: beyond the quartiles of both (10 % where taken once); even: within.",
        "'added to' rows: what is on top of the driver's own call; under raw is the noise, raw against raw.",
        "off it: how far the median of ours is above the physical limit. peer: its default plugins.",
    ]
    one.load = (tables[0].load[0], tables[-1].load[1])
    one.seconds = sum({table.seconds for table in tables})  # tables that were made together have taken the same
    behind = [what for what, verdict in verdicts.items() if verdict == "BEHIND"]
    named = f": {'; '.join(behind)}" if behind else ""
    one.target(f"no row behind the peer beyond the spread of the two{named}", not behind)
    one.targets += [target for table in tables if table.beside for target in table.targets]
    return one


def _middle(cell: Cell) -> float | None:
    if isinstance(cell, Spread):
        return cell.median
    return float(cell) if isinstance(cell, (int, float)) else None


def _compared(row: Beside) -> str:
    ours, peer = _middle(row.ours), _middle(row.peer)
    if ours is None or peer is None:
        # What is no figure says who did not come back, or cannot do it at all.
        return "neither" if ours is peer is None else "BEHIND" if ours is None else "ahead"
    (low, high), (least, most) = (
        cell.quartiles if isinstance(cell, Spread) and cell.count > 1 else (middle * (1 - ALONE), middle * (1 + ALONE))
        for cell, middle in ((row.ours, ours), (row.peer, peer))
    )
    return "ahead" if high < least else "BEHIND" if low > most else "even"


def write(directory: Path, tables: Sequence[Table], machine: dict[str, Any], arguments: str) -> tuple[Path, Path]:
    """Write ``results.md`` and ``results.json``; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    page, data = directory / "results.md", directory / "results.json"
    if (first := stood_beside(tables)) is not None:
        tables = [first, *tables]
    drawn = plots.draw(directory, tables)
    figures = "".join(f"\n![{path.stem}]({path.name})" for path in drawn)
    page.write_text(_page(tables, machine, arguments) + (f"\n## Curves\n{figures}\n" if drawn else ""), "utf-8")
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
