"""What a connection costs: round trips, time and CPU of the first and the next connect; what importing costs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import psycopg

import aurora_actors
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.benchmarks.clients import once, python
from tests.benchmarks.harness import Plan, Spread, Table
from tests.benchmarks.relay import Relay, Talk
from tests.benchmarks.servers import MONITOR, running

__all__ = ["tables"]

BESIDE_SECONDS = 1.0
"""How long to watch for sessions that a connect leaves to the background."""
TIMES = 20


def tables(plan: Plan) -> list[Table]:
    """Round trips, then times, then the import."""
    return [_trips(), _times(plan), _imports(plan)]


def _trips() -> Table:
    table = Table(
        "Connect to a cluster of three: what the servers see",
        ["round trips", "statements", "bytes sent", "bytes received", "sessions beside", "statements of those"],
    )
    notes: list[str] = []
    with PostgresLab() as lab, ExitStack() as stack:
        relays = {lab.address(host): stack.enter_context(Relay(lab.address(host))) for host in lab.hosts}

        def resolve(host: str, port: int) -> list[tuple[str, int]]:
            return [relays[place].address for place in lab.resolve(host, port)]

        def seen(connect: Callable[[], Any]) -> tuple[Any, list[Talk], list[Talk]]:
            known = {talk_id for relay in relays.values() for talk_id in map(id, relay.talks)}
            conn = connect()
            until = monotonic() + BESIDE_SECONDS
            while monotonic() < until:
                sleep(BESIDE_SECONDS / 10)
            fresh = [talk for relay in relays.values() for talk in relay.talks if id(talk) not in known]
            return conn, [t for t in fresh if t.application != MONITOR], [t for t in fresh if t.application == MONITOR]

        aurora_actors.set_resolver(resolve)
        address, port = relays[lab.address(lab.writer)].address
        cases: dict[str, Callable[[], Any]] = {
            "raw": lambda: psycopg.connect(lab.conninfo("writer", hostaddr=address, port=port)),
            "ours, first (writer endpoint)": lambda: aurora_actors.connect(psycopg.connect, lab.conninfo("writer")),
            "ours, next": lambda: aurora_actors.connect(psycopg.connect, lab.conninfo("writer")),
            "ours, next (reader endpoint)": lambda: aurora_actors.connect(psycopg.connect, lab.conninfo("reader")),
            "ours, next (instance endpoint)": lambda: aurora_actors.connect(psycopg.connect, lab.conninfo(lab.writer)),
        }
        for name, connect in cases.items():
            conn, own, beside = seen(connect)
            stack.callback(conn.close)
            sums = [sum(x) for x in zip(*((t.trips, len(t.statements), t.sent, t.received) for t in own), strict=True)]
            table.add(name, *sums, len(beside), sum(len(talk.statements) for talk in beside))
            notes += [f"{name}: {text[:60]} …" for talk in own for text in talk.statements]
        stack.callback(aurora_actors.set_resolver, None)
        stack.callback(system.stop, 5.0)
    table.notes = [
        ("Counted by a relay between client and servers; the TCP handshake is one more for each. psycopg asks for TLS"
        " first, which the lab's servers decline: that is one of the round trips of all."),
        f"Sessions beside: opened in the background within {BESIDE_SECONDS:g} s after the connect returned.",
        *notes,
    ]
    return table


def _times(plan: Plan) -> Table:
    table = Table("Connect, ms", ["first: wall", "first: CPU", "next: wall", "next: CPU"])
    found: dict[str, list[dict[str, Any]]] = {"raw": [], "ours": []}
    with running(["bench_ours", "bench_raw"]) as servers:
        for number in range(plan.count(9, 3)):
            for subject in found if number % 2 == 0 else reversed(found):
                found[subject].append(once(servers.order(subject, f"bench_{subject}", do="connects", times=TIMES)))
            plan.say(f"connect: process {number + 1} of each")
    for subject, runs in found.items():
        cells = [Spread.of((run["first"][n] for run in runs), "ms", scale=1000, digits=2) for n in (0, 1)]
        cells += [
            Spread.of((taken[n] for run in runs for taken in run["next"]), "ms", scale=1000, digits=2) for n in (0, 1)
        ]
        table.add(subject, *cells)
    table.notes = [
        ("Fresh processes in turns, driver and library imported before; first: the process knows no cluster yet; next: the"
        f" {TIMES} connects after it, while it is open. CPU of all threads, up to the return of connect."),
        "Through the cluster endpoint; wall and CPU as median (least to most).",
    ]
    return table


IMPORTED = """
import sys, json, threading, time
{before}
modules, wall, cpu = len(sys.modules), time.perf_counter(), time.process_time()
{statement}
print(json.dumps([(time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3, len(sys.modules) - modules,
                  threading.active_count()]))
"""
DEPENDENCIES = "import pykka, blinker"
OVER = "aurora_actors over its two dependencies"
CASES = {
    "pykka, blinker": ("", DEPENDENCIES),
    "psycopg": ("", "import psycopg"),
    OVER: (DEPENDENCIES, "import aurora_actors"),
    "… and connect, signals": (DEPENDENCIES, "from aurora_actors import connect, signals"),
    "aurora_actors, connect, signals over nothing": ("", "from aurora_actors import connect, signals"),
    "… over nothing, with psycopg's part": (
        "import psycopg", "from aurora_actors import connect, signals; import aurora_actors.drivers.psycopg"
    ),
}  # fmt: skip


def _imports(plan: Plan) -> Table:
    table = Table("Import, ms", ["wall", "CPU", "modules", "threads after"])
    found: dict[str, list[list[float]]] = {name: [] for name in CASES}
    for number in range(plan.count(15, 5) + 1):
        for name, (before, statement) in CASES.items():
            taken = json.loads(python(IMPORTED.format(before=before, statement=statement)))
            if number:  # the first writes bytecode
                found[name].append(taken)
    for name, runs in found.items():
        wall, cpu, modules, threads = zip(*runs, strict=True)
        table.add(name, Spread.of(wall, "ms"), Spread.of(cpu, "ms"), int(modules[0]), int(threads[0]))
    table.notes = [
        "Fresh processes in turns, bytecode cached. Modules: those that the statement loaded.",
        "One thread is the main one.",
    ]
    over = [(wall, threads) for wall, _, _, threads in found[OVER]]
    table.target(
        "import aurora_actors under 50 ms over its two dependencies, no thread started",
        statistics.median(wall for wall, _ in over) < 50.0 and all(threads == 1 for _, threads in over),
    )
    return table
