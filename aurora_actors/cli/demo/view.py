"""What the terminal shows while it happens: a live picture, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from aurora_actors.cli.demo.account import Recovery, Rows
from aurora_actors.cli.demo.application import BUCKET_SECONDS, Application
from aurora_actors.cli.demo.story import Kind, Moment, Story
from aurora_actors.lab import HostStatus
from aurora_actors.model.hosts import Role

__all__ = ["View", "line_of", "show_account"]

PICTURES_A_SECOND = 5
SHOWN_SECONDS = 30.0
"""How much of the throughput is in the picture."""
CELL_BUCKETS = 5
"""Buckets of throughput for one character."""
BLOCKS = " ▁▂▃▄▅▆▇█"
AROUND_TIMELINE = 18
"""Lines of the terminal that the other parts of the picture take."""
FEWEST_LINES = 5

STYLES = {
    Kind.PHASE: "dim",
    Kind.FAULT: "bold red",
    Kind.VERDICT: "magenta",
    Kind.SEARCH: "yellow",
    Kind.PROMOTION: "bold green",
    Kind.WRITER: "green",
    Kind.UP: "cyan",
    Kind.TROUBLE: "bold white on red",
}


def line_of(moment: Moment, began: float) -> Text:
    """One line of the timeline."""
    return Text.assemble(f"{moment.at - began:6.2f} s  ", (moment.text, STYLES[moment.kind]))


class View:
    """The picture; drawn by a thread of rich's."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._story: Story | None = None
        self._application: Application | None = None

    @contextmanager
    def showing(self, story: Story, application: Application) -> Iterator[None]:
        """Within this the terminal, if there is one, is kept up to date."""
        self._story, self._application = story, application
        if not self.console.is_terminal:
            yield
            return
        with Live(self, console=self.console, refresh_per_second=PICTURES_A_SECOND):
            yield

    def tell(self, moment: Moment) -> None:
        """Print a moment where there is no picture that shows it."""
        if self._story is not None and not self.console.is_terminal:
            self.console.print(line_of(moment, self._story.began), highlight=False, soft_wrap=True)

    def __rich__(self) -> RenderableType:
        if self._story is None or self._application is None:
            return Text()
        return Group(
            _hosts(self._story),
            _throughput(self._application),
            _timeline(self._story, max(FEWEST_LINES, self.console.height - AROUND_TIMELINE)),
        )


def _hosts(story: Story) -> Table:
    table = Table(expand=True, title_justify="left", title="the hosts, as the library knows them")
    for column in ("host", "role", "what was done to it"):
        table.add_column(column, no_wrap=True)
    table.add_column("health", no_wrap=True, ratio=1)
    for status in story.states[-1][1] if story.states else ():
        table.add_row(status.id, _role(story, status), _state(status), _health(story, status))
    return table


def _role(story: Story, status: HostStatus) -> Text:
    role = story.roles.get(status.id, Role(status.role.lower()))
    return Text(role.value, "bold green" if role is Role.WRITER else "")


def _health(story: Story, status: HostStatus) -> Text:
    reason = story.down.get(status.id)
    return Text("up", "green") if reason is None else Text(f"down: {reason}", "magenta")


def _state(status: HostStatus) -> Text:
    return Text("", "") if status.state == "available" else Text(status.state, "bold red")


def _throughput(application: Application) -> Panel:
    now = monotonic()
    cells = round(SHOWN_SECONDS / BUCKET_SECONDS / CELL_BUCKETS)
    last = application.bucket(now) // CELL_BUCKETS
    rates = [
        application.rate(cell * CELL_BUCKETS, (cell + 1) * CELL_BUCKETS - 1) for cell in range(max(0, last - cells), last)
    ]
    highest = max(rates, default=0.0) or 1.0
    bars = "".join(BLOCKS[round(rate / highest * (len(BLOCKS) - 1))] for rate in rates)
    waiting = application.waiting(now)
    return Panel(
        Text.assemble(
            (bars.ljust(cells), "green"),
            f"\n{application.count} rows acknowledged, {rates[-1] if rates else 0.0:.0f} a second; ",
            (f"{waiting} of {len(application.clients)} connections wait", "bold red" if waiting else "dim"),
        ),
        title=f"throughput, the last {SHOWN_SECONDS:g} s",
        title_align="left",
    )


def _timeline(story: Story, lines: int) -> Panel:
    shown = [line_of(moment, story.began) for moment in story.in_order[-lines:]]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Panel(Group(*shown), title="timeline", title_align="left", height=lines + 2)


def show_account(console: Console, found: tuple[Recovery, ...], rows: Rows, failures: list[str]) -> None:
    """Print what each failover took, why connections gave up if any did, and what became of the rows."""
    if found:
        console.print(_ledger(found))
    for failure in failures:
        console.print(f"gave up: {failure}", highlight=False, markup=False, soft_wrap=True)
    if rows.unread:
        console.print(f"{rows.unread} rows were acknowledged and not found when read back", highlight=False)
    console.print(str(rows), highlight=False)


def _ledger(found: tuple[Recovery, ...]) -> Table:
    table = Table(
        title="ms after the fault, median to last connection; and how many connections",
        title_justify="left",
    )
    table.add_column("")
    for recovery in found:
        table.add_column(f"{recovery.loss.number} {recovery.loss.fault}", justify="right")
    table.add_row("lost", *(recovery.loss.host for recovery in found))
    table.add_row("in its place", *(recovery.loss.promoted for recovery in found), end_section=True)
    columns = [recovery.lines() for recovery in found]
    for row in zip(*columns, strict=True):
        table.add_row(row[0][0], *(value for _, value in row))
    return table
