"""Healthy hosts under every load at once: how many calls are ended, how many hosts blamed. Each is one too many."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psycopg

import aurora_actors
from aurora_actors import signals
from aurora_actors.actors.system import system
from aurora_actors.lab import LabError, PostgresLab
from tests.benchmarks.harness import Plan, Table

__all__ = ["tables"]

SECONDS, QUICK_SECONDS = 30, 5
LOSS_PERCENT = 2.0
QUICKEST: dict[str, Any] = {
    "failure_detection_time_ms": 1000,
    "failure_detection_interval_ms": 500,
    "failure_detection_count": 3,
}
LONG_SECONDS = 20.0
"""Ten times the 2 s in which a dead host is found."""
STATEMENTS = (
    "SELECT 1",
    "SELECT count(*) FROM generate_series(1, 20000)",
    f"SELECT pg_catalog.pg_sleep({LONG_SECONDS})",
)
BUSY = "SELECT count(*) FROM (SELECT generate_series(1, 2000000000)) AS numbers"
"""A set in the select list is made row by row; in FROM it would first fill the disk."""


@dataclass
class Score:
    """What was seen while the applications worked."""

    calls: int = 0
    ended: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)

    def blame(self, _: object, event: Any) -> None:
        self.blamed.append(f"{event.host.id}: {event.reason}")


def tables(plan: Plan) -> list[Table]:
    """Each condition alone, then all at once for as long as ``PATIENCE_SECONDS`` in the environment says."""
    alone = float(plan.count(SECONDS, QUICK_SECONDS))
    together = float(os.environ.get("PATIENCE_SECONDS", alone))
    table = Table("Healthy hosts under load", ["seconds", "calls", "calls ended", "hosts blamed"])
    conditions: dict[str, tuple[Callable[[PostgresLab], Any], ...]] = {
        "quiet": (),
        "server's CPUs saturated": (busy_servers,),
        "client's CPUs saturated": (busy_clients,),
        f"{LOSS_PERCENT:g} % of packets lost": (losing,),
        "all of these": (busy_servers, busy_clients, losing),
    }
    for name, loads in conditions.items():
        seconds = together if len(loads) > 1 else alone
        try:
            score = _watched(loads, seconds)
        except LabError as error:
            table.add(name, f"not run: {error}", None, None, None)
            continue
        table.add(name, seconds, score.calls, len(score.ended), len(score.blamed))
        table.target(f"{name}: nobody is blamed", not score.ended and not score.blamed)
        table.notes += [f"{name}: {text}" for text in (*score.ended, *score.blamed)]
        plan.say(f"patience, {name}: {score.calls} calls")
    table.notes.append(
        f"Three applications at the writer and at a reader, 1000/500/3, one of them in statements of {LONG_SECONDS:g} s."
    )
    return [table]


def _watched(loads: tuple[Callable[[PostgresLab], Any], ...], seconds: float) -> Score:
    score = Score()
    with PostgresLab(hosts=2) as lab, ExitStack() as stack:
        before = aurora_actors.set_resolver(lab.resolve)
        stack.callback(aurora_actors.set_resolver, before)
        stack.callback(system.stop, 5.0)
        signals.host_down.connect(score.blame)
        for load in loads:
            stack.enter_context(load(lab))
        stop = threading.Event()
        threads = [
            threading.Thread(target=_work, args=(lab, endpoint, statement, stop, score), daemon=True)
            for endpoint in (lab.writer, lab.readers[0])
            for statement in STATEMENTS
        ]
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join(2 * LONG_SECONDS)
        signals.settle(5.0)
    return score


def _work(lab: PostgresLab, endpoint: str, statement: str, stop: threading.Event, score: Score) -> None:
    conninfo = lab.conninfo(endpoint)
    with aurora_actors.connect(psycopg.connect, conninfo, autocommit=True, plugins="efm", **QUICKEST) as conn:
        while not stop.is_set():
            began = monotonic()
            try:
                conn.execute(statement)
            except psycopg.Error as error:
                score.ended.append(f"{statement[:20]}… after {monotonic() - began:.1f} s: {str(error).splitlines()[0]}")
                return
            score.calls += 1


@contextmanager
def busy_servers(lab: PostgresLab) -> Iterator[None]:
    """Backends that compute, twice as many as there are cores, until the servers stop."""
    conns: list[psycopg.Connection[Any]] = []
    for number in range(2 * (os.cpu_count() or 1)):
        host = lab.hosts[number % 2]
        address, port = lab.address(host)
        conn = psycopg.connect(lab.conninfo(host, hostaddr=address, port=port), autocommit=True)
        conn.pgconn.send_query(BUSY.encode())
        conns.append(conn)
    try:
        yield
    finally:
        for conn in conns:
            conn.cancel()
            conn.close()


@contextmanager
def busy_clients(_: PostgresLab) -> Iterator[None]:
    """Processes that compute, twice as many as there are cores, and a thread that does within the application's own."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    stop = threading.Event()
    thread = threading.Thread(target=_spin_until, args=(stop,), daemon=True)
    for process in processes:
        process.start()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def losing(lab: PostgresLab) -> Iterator[None]:
    """Packets lost at random in both directions."""
    for host in lab.hosts:
        lab.drop_packets(host, LOSS_PERCENT)
    try:
        yield
    finally:
        for host in lab.hosts:
            lab.heal(host)


def _spin() -> None:
    _spin_until(threading.Event())


def _spin_until(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))
