"""What the guard adds to a call: CPU over a wait that returns at once, and on a real server."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import psycopg

import aurora_actors
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from aurora_actors.plugin import Execute, Plugin, Proceed
from tests.benchmarks import faces
from tests.benchmarks.harness import Plan, Spread, Table, differences, rounds

__all__ = ["Bystander", "tables"]

ROWS = 100_000
BASE, NOISE = "raw", "raw again"
OURS = ("ours, plugins=''", "ours, default", "ours, one execute hook")


class Bystander(Plugin):
    """A third party's plugin that looks at every call and does nothing."""

    name = "bench_bystander"

    async def execute(self, call: Execute, proceed: Proceed[Execute, Any]) -> Any:
        """Pass it on."""
        return await proceed(call)


@contextmanager
def installed() -> Iterator[str]:
    """The bystander as an installed distribution: an entry point in a directory on the path."""
    with tempfile.TemporaryDirectory() as directory:
        about = Path(directory) / "bench_bystander-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-bystander\nVersion: 1\n", "utf-8")
        (about / "entry_points.txt").write_text(
            f"[aurora_actors.plugins]\n{Bystander.name} = {__name__}:{Bystander.__name__}\n", "utf-8"
        )
        sys.path.insert(0, directory)
        try:
            yield directory
        finally:
            sys.path.remove(directory)


class Switched(psycopg.Connection[Any]):
    """The real class, over a wait that can be made to return at once."""

    at_once = False

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if Switched.at_once:
            gen.close()
            return None
        return super().wait(gen, *args, **kwargs)


def tables(plan: Plan) -> list[Table]:
    """Over a stub, then over the network, then the other faces over stubs."""
    with installed(), PostgresLab(hosts=1) as lab:
        aurora_actors.set_resolver(lab.resolve)
        try:
            found = [_stubbed(plan, lab), _on_the_lab(plan, lab)]
        finally:
            system.stop(5.0)
            aurora_actors.set_resolver(None)
    return [*found, _faces(plan)]


def _faces(plan: Plan) -> Table:
    calls, count = plan.count(4_000, 2_000), plan.count(50, 10)
    table = Table("CPU per execute + fetchone over a transport that returns at once, other faces, µs", list(faces.SUBJECTS))
    for face in faces.FACES:
        found = faces.measured(face, calls, count)
        if not found:
            table.notes.append(f"{face}: not measured: it loads neither here nor in the environment of its tests.")
            continue
        _add(table, face, found, 1e6 / calls)
        added = Spread.of(differences(found, OURS[1], BASE), scale=1e6 / calls)
        assert added is not None
        table.target(f"{face}: under 2 µs of CPU added per execute + fetchone, default plugins", added.median < 2.0)
        plan.say(f"cost, stubbed: {face}")
    table.notes.append(
        f"Process CPU, medians of {count} rounds of {calls} calls in shuffled order, as above. psycopg: over its wait;"
        " MySQL Connector pure and asyncio: over a socket that plays back a server's answers; C: over the library's"
        " session, in an environment with an extension that loads. Unbuffered: fetchone reads a row, and ahead to the end."
    )
    return table


@contextmanager
def _connections(lab: PostgresLab, base: type[psycopg.Connection[Any]]) -> Iterator[dict[str, Any]]:
    address, port = lab.address(lab.writer)
    direct, name = lab.conninfo("writer", hostaddr=address, port=port), lab.conninfo("writer")
    failover = f"initial_connection,aurora_connection_tracker,failover,{Bystander.name}"
    with ExitStack() as stack:
        opened = {
            BASE: base.connect(direct),
            NOISE: base.connect(direct),
            OURS[0]: aurora_actors.connect(base.connect, name, plugins=""),
            OURS[1]: aurora_actors.connect(base.connect, name),
            OURS[2]: aurora_actors.connect(base.connect, name, plugins=failover),
        }
        for conn in opened.values():
            stack.callback(conn.close)
        yield opened


def _stubbed(plan: Plan, lab: PostgresLab) -> Table:
    calls, count = plan.count(20_000, 4_000), plan.count(25, 7)
    table = Table("CPU per call over a wait that returns at once, µs", ["raw", "raw again", *OURS])
    with _connections(lab, Switched) as opened:
        pairs: list[float] = []
        jobs = {
            "execute + fetchone": _pairs,
            "execute": _executes,
            "cursor()": _cursors,
            "commit": _commits,
        }
        try:
            for job, make in jobs.items():
                ready = {name: make(conn, calls) for name, conn in opened.items()}
                Switched.at_once = True
                found = rounds(ready, count)
                Switched.at_once = False
                _add(table, job, found, 1e6 / calls)
                pairs = pairs or differences(found, OURS[1], BASE)
                plan.say(f"cost, stubbed: {job}")
            ready = {name: _fetches(conn, ROWS) for name, conn in opened.items()}
            _add(table, "fetchone, per row in memory", rounds(ready, plan.count(11, 3)), 1e6 / ROWS)
        finally:
            Switched.at_once = False
    table.notes = [
        (f"Process CPU, medians of {count} rounds of {calls} calls in shuffled order. Rows 'added': the difference from raw"
        " within a round, median (quartiles); under 'raw again' it is the noise."),
        "psycopg's own classes; only Connection.wait is replaced, for raw and ours alike.",
    ]
    added = Spread.of(pairs, scale=1e6 / calls)
    if added is not None:
        table.target("under 1 µs of CPU added per execute + fetchone with the default plugins", added.median < 1.0)
    return table


def _on_the_lab(plan: Plan, lab: PostgresLab) -> Table:
    calls, count = plan.count(500, 200), plan.count(40, 10)
    table = Table("execute('SELECT 1') + fetchone on the lab, µs", ["raw", "raw again", *OURS])
    with _connections(lab, psycopg.Connection) as opened:
        for conn in opened.values():
            conn.autocommit = True
        for name, clock in (("CPU", process_time), ("wall", perf_counter)):
            ready = {one: _pairs(conn, calls, clock) for one, conn in opened.items()}
            found = rounds(ready, count)
            _add(table, name, found, 1e6 / calls)
            ratios = {
                one: [ours / raw for ours, raw in zip(values, found[BASE], strict=True)] for one, values in found.items()
            }
            table.add(f"{name}, ratio to raw", *(_quartiles(ratios[one], "", 1.0) for one in table.columns))
            plan.say(f"cost, on the lab: {name}")
    table.notes = [
        (f"Medians of {count} rounds of {calls} calls in shuffled order; differences and ratios within a round, median"
        " (quartiles). 'raw again' is the noise."),
    ]
    return table


def _add(table: Table, name: str, found: dict[str, list[float]], scale: float) -> None:
    table.add(name, *(_quartiles(found[column], "µs", scale) for column in table.columns))
    added = [_quartiles(differences(found, column, BASE), "µs", scale) for column in table.columns[1:]]
    table.add(f"{name}: added", None, *added)


def _quartiles(values: list[float], unit: str, scale: float) -> Spread | None:
    return Spread.of(values, unit, scale=scale, digits=3, shown="quartiles")


def _pairs(conn: Any, calls: int, clock: Callable[[], float] = process_time) -> Callable[[], float]:
    cursor = conn.cursor()
    # Over a stub no statement replaces this result, so that there is a row for every fetchone.
    cursor.execute("SELECT 1 FROM generate_series(1, %s)", (ROWS,))

    def measure() -> float:
        if Switched.at_once:
            cursor.scroll(0, "absolute")
        execute, fetchone = cursor.execute, cursor.fetchone
        began = clock()
        for _ in range(calls):
            execute("SELECT 1")
            fetchone()
        return clock() - began

    return measure


def _executes(conn: Any, calls: int) -> Callable[[], float]:
    cursor = conn.cursor()

    def measure() -> float:
        execute = cursor.execute
        began = process_time()
        for _ in range(calls):
            execute("SELECT 1")
        return process_time() - began

    return measure


def _cursors(conn: Any, calls: int) -> Callable[[], float]:
    def measure() -> float:
        cursor = conn.cursor
        began = process_time()
        for _ in range(calls):
            cursor()
        return process_time() - began

    return measure


def _commits(conn: Any, calls: int) -> Callable[[], float]:
    def measure() -> float:
        commit = conn.commit
        began = process_time()
        for _ in range(calls):
            commit()
        return process_time() - began

    return measure


def _fetches(conn: Any, rows: int) -> Callable[[], float]:
    cursor = conn.cursor()
    cursor.execute("SELECT n, 'text' FROM generate_series(1, %s) AS n", (rows,))

    def measure() -> float:
        cursor.scroll(0, "absolute")
        fetchone = cursor.fetchone
        began = process_time()
        while fetchone() is not None:
            pass
        return process_time() - began

    return measure
