"""`aurora-actors demo`: an application that goes on while its cluster loses writers, and the count of its rows."""

from __future__ import annotations

import statistics
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from aurora_actors import signals
from aurora_actors.actors.names import set_resolver
from aurora_actors.actors.system import system
from aurora_actors.connecting import connect
from aurora_actors.errors import FailoverError
from aurora_actors.model.outcome import Ledger

if TYPE_CHECKING:
    from aurora_actors.lab import PostgresLab

__all__ = ["demo"]

CALM_SECONDS = 2.0
"""How long the application works undisturbed before and after each loss."""
OUTAGE_SECONDS = 1.0
"""From the death of a writer to the promotion of another; on Aurora it is some seconds more."""
LOOK_SECONDS = 0.25
STEPS = ("verdict", "writer_known", "connected", "verified", "restored")


class Application:
    """Connections that insert and read, each in a thread of its own. The table has no unique constraint."""

    def __init__(self, lab: PostgresLab) -> None:
        self.lab = lab
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self.stop = threading.Event()

    def work(self) -> None:
        try:
            with self.connection() as conn:
                while not self.stop.is_set():
                    self.write(conn, uuid.uuid4().hex)
        except Exception as error:  # noqa: BLE001 - whatever ends a connection's work is counted and shown
            self.failures.append(f"{type(error).__name__}: {error}")

    def connection(self) -> Any:
        import psycopg

        return connect(psycopg.Connection.connect, self.lab.conninfo("writer"), autocommit=True)

    def write(self, conn: Any, row: str) -> None:
        """Insert *row* once, however often the connection is lost."""
        sent = False
        while not self.stop.is_set() or sent:
            try:
                if not sent or not conn.execute("SELECT 1 FROM demo WHERE id = %s", (row,)).fetchone():
                    conn.execute("INSERT INTO demo VALUES (%s)", (row,))
            except FailoverError as error:
                # Only what may have happened has to be looked up before it is done again.
                sent = sent or not error.outcome.safe_to_repeat
            else:
                self.acknowledged.append(row)
                return


class Report:
    """What happened, for the terminal: a live table where there is one, lines where there is none."""

    def __init__(self, console: Console, lab: PostgresLab, application: Application) -> None:
        self.console = console
        self.lab = lab
        self.application = application
        self.began = monotonic()
        self.lines: list[str] = []
        self.ledgers: list[list[Ledger]] = []

    def say(self, text: str) -> None:
        line = f"{monotonic() - self.began:6.2f} s  {text}"
        self.lines.append(line)
        if not self.console.is_terminal:
            self.console.print(line, highlight=False)

    def switched(self, _: str, event: signals.ConnectionSwitched) -> None:
        if self.ledgers:
            self.ledgers[-1].append(event.ledger)

    def changed(self, _: str, event: signals.WriterChanged) -> None:
        self.say(f"writer_changed: {event.old_writer} -> {event.new_writer}")

    def __rich__(self) -> Table:
        table = Table(title=f"{len(self.application.acknowledged)} rows acknowledged", caption="\n".join(self.lines))
        for column in ("host", "role", "state"):
            table.add_column(column)
        for host in self.lab.status():
            table.add_row(host.id, str(host.role), str(host.state))
        return table


def demo(
    connections: Annotated[int, typer.Option(min=1, help="Connections of the application.")] = 20,
    failovers: Annotated[int, typer.Option(min=1, help="How many times the writer is killed.")] = 2,
    sabotage: Annotated[
        bool, typer.Option(envvar="SABOTAGE", help="Drop one acknowledged row and repeat one: the count must fail.")
    ] = False,
) -> None:
    """Kill the writer of a local cluster under an application, and count what became of its rows."""
    from aurora_actors.lab import PostgresLab

    console = Console()
    console.print("starting three hosts …")
    with PostgresLab() as lab:
        before = set_resolver(lab.resolve)
        try:
            lost, doubled = _run(console, lab, connections, failovers, sabotage=sabotage)
        finally:
            set_resolver(before)
            system.stop()
    if lost or doubled:
        raise typer.Exit(1)


def _run(console: Console, lab: PostgresLab, connections: int, failovers: int, *, sabotage: bool) -> tuple[int, int]:
    application = Application(lab)
    with application.connection() as conn:
        conn.execute("CREATE TABLE demo (id text)")
    report = Report(console, lab, application)
    signals.connection_switched.connect(report.switched)
    signals.writer_changed.connect(report.changed)
    threads = [threading.Thread(target=application.work, daemon=True) for _ in range(connections)]
    with _live(console, report):
        for thread in threads:
            thread.start()
        report.say(f"{connections} connections insert and read")
        _calm(report)
        for _ in range(failovers):
            report.ledgers.append([])
            report.say(f"SIGKILL {lab.writer}")
            lab.failover(how="crash", after_seconds=OUTAGE_SECONDS)
            report.say(f"{lab.writer} is promoted")
            _calm(report)
            lab.wait_ready()
        application.stop.set()
        for thread in threads:
            thread.join()
    signals.settle(5.0)
    return _count(console, application, report, sabotage=sabotage)


@contextmanager
def _live(console: Console, report: Report) -> Iterator[None]:
    if not console.is_terminal:
        yield
        return
    with Live(report, console=console, refresh_per_second=1 / LOOK_SECONDS):
        yield


def _calm(report: Report) -> None:
    before, began = len(report.application.acknowledged), monotonic()
    report.application.stop.wait(CALM_SECONDS)
    rate = (len(report.application.acknowledged) - before) / (monotonic() - began)
    report.say(f"{rate:.0f} rows a second")


def _count(console: Console, application: Application, report: Report, *, sabotage: bool) -> tuple[int, int]:
    acknowledged = application.acknowledged
    with application.connection() as conn:
        if sabotage:
            conn.execute("DELETE FROM demo WHERE id = %s", (acknowledged[0],))
            conn.execute("INSERT INTO demo VALUES (%s)", (acknowledged[1],))
        found = Counter(row[0] for row in conn.execute("SELECT id FROM demo"))
    lost = len(set(acknowledged) - found.keys())
    doubled = sum(count > 1 for count in found.values())
    for number, ledgers in enumerate(report.ledgers, 1):
        table = Table(title=f"failover {number}: {len(ledgers)} connections, ms after the first symptom")
        for column in ("step", "median", "last"):
            table.add_column(column)
        for step in STEPS:
            times = [1000 * at for ledger in ledgers if (at := getattr(ledger, step)) is not None]
            if times:
                table.add_row(step.replace("_", " "), f"{statistics.median(times):.1f}", f"{max(times):.1f}")
        console.print(table)
    for failure in application.failures:
        console.print(f"a connection gave up: {failure}", highlight=False)
    console.print(
        f"acknowledged {len(acknowledged)}, found {found.total()}, lost {lost}, duplicated {doubled}", highlight=False
    )
    return lost + len(application.failures), doubled
