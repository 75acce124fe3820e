"""What a process may cost, counted: threads, sessions on the servers, searches, work per connect."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.names import names
from aurora_actors.actors.system import system
from aurora_actors.drivers.psycopg import PsycopgDriver
from aurora_actors.lab import PostgresLab
from tests.failover.applications import (
    Noted,
    connect,
    connections,
    forget_clusters,
    server_log,
    where,
)
from tests.lab.sessions import eventually

CONNECTIONS = 50
HOSTS = 3
THREADS = HOSTS + 7
"""The main thread included."""


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """What the threads of the product that were started in this test do."""
    names.reset()  # workers of earlier tests go on waiting for a while, and would be used again
    before = set(threading.enumerate())
    return lambda: [
        thread.name.removeprefix("aurora_actors-").partition(" ")[0]
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith("aurora_actors-")
    ]


def test_fifty_connections_through_a_failover(
    aurora_lab: PostgresLab, signals_noted: Noted, threads: Callable[[], list[str]]
) -> None:
    running: list[list[str]] = []

    def lose(conn: Any) -> str:
        with pytest.raises(FailoverSuccessError):
            conn.execute("CREATE TEMP TABLE t (id int)")
        running.append(threads())
        return where(conn)

    with connections(aurora_lab, CONNECTIONS) as conns:
        for conn in conns:
            conn.execute("CREATE TEMP TABLE kept (id int)")  # so that nobody moves silently
        running.append(threads())
        aurora_lab.failover(rejoin=False)
        with server_log(aurora_lab) as log, ThreadPoolExecutor(CONNECTIONS) as pool:
            assert set(pool.map(lose, conns)) == {aurora_lab.writer}
            sessions = log.sessions()
        assert sessions["application"] <= CONNECTIONS
        assert sessions.total() <= CONNECTIONS + 2 * HOSTS
        assert len(system.clusters) == 1
    most = max(running, key=len)
    assert len(most) + 1 <= THREADS, most
    alone = ("clock", "topology", "failover")
    assert sorted(name for name in most if name in alone) == sorted(alone)
    assert len(signals_noted.of("failover_started")) == len(signals_noted.of("failover_completed")) == 1
    assert len(signals_noted.of("connection_switched")) == CONNECTIONS


def test_no_thread_is_left_after_the_last_connection_and_the_grace_period(
    aurora_lab: PostgresLab, threads: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora_actors.actors.names.IDLE_SECONDS", 0.05)
    with connections(aurora_lab, 5, monitor_disposal_time_ms=50) as conns:
        aurora_lab.kill_session(aurora_lab.writer, conns[0].info.backend_pid)
        with pytest.raises(FailoverSuccessError):
            conns[0].execute("SELECT 1")
        assert threads()
    eventually(lambda: not threads())
    assert system.clusters == ()


def test_a_connection_dropped_without_close_lets_its_cluster_go(aurora_lab: PostgresLab) -> None:
    held = [connect(aurora_lab, monitor_disposal_time_ms=1)]
    with pytest.warns(ResourceWarning, match="deleted while still open"):
        held.clear()
    gc.collect()
    eventually(lambda: system.clusters == ())


# The cost of a connect does not grow with the connections that are open.


def python_calls(fn: Callable[[], Any]) -> tuple[int, Any]:
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        made = fn()
    finally:
        sys.setprofile(None)
    return count, made


def test_a_connect_costs_the_same_however_many_are_open(aurora_lab: PostgresLab) -> None:
    def cost() -> int:
        calls, conn = python_calls(lambda: connect(aurora_lab))
        closing, _ = python_calls(conn.close)
        return calls + closing

    with connections(aurora_lab, 2):
        cost()  # the first profiled connect fills caches
        few = min(cost() for _ in range(5))
        with connections(aurora_lab, 40), server_log(aurora_lab) as log:
            many = min(cost() for _ in range(5))
            sessions = log.sessions()
    assert sessions == {"application": 5}
    assert many <= few * 1.05


def test_the_statements_of_a_connect(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round trip at a cluster endpoint, two where the engine has to be found out, none once the cluster is known.

    The server tells its role with the login then (PostgreSQL 14 and newer).
    """
    asked: list[str] = []
    query = PsycopgDriver.query

    async def noting(self: Any, wire: Any, sql: str, sockets: Any) -> Any:
        asked.append(sql)
        return await query(self, wire, sql, sockets)

    monkeypatch.setattr(PsycopgDriver, "query", noting)
    counts: list[int] = []
    reader = aurora_lab.readers[0]
    for endpoint, given in (("writer", {}), (reader, {}), (reader, {"wrapper_dialect": "aurora-pg"})):
        with connect(aurora_lab, endpoint, **given), connect(aurora_lab, endpoint, **given):
            counts.append(len(asked))
        asked.clear()
        forget_clusters()
    assert counts == [1, 4, 2]


def test_resources_that_are_released_are_had_again(aurora_lab: PostgresLab, threads: Callable[[], list[str]]) -> None:
    with connections(aurora_lab, 2) as (conn, other):
        where(conn)
        assert threads()
        aurora_actors.release_resources()
        eventually(lambda: not threads())
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError):
            where(conn)
        assert where(conn) == where(other) == aurora_lab.writer
