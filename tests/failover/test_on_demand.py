"""``monitoring=on_demand``: no thread of ours outlives the call that needed it, and all the rest works as ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.aio
from aurora_actors import FailoverSuccessError, signals
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover import mysql_faces
from tests.failover.applications import Noted, connect, forget_clusters, kill_own_session, our_threads, where
from tests.failover.mysql_faces import FACES, Face
from tests.lab.sessions import eventually

QUICK: Any = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200}


@pytest.fixture(autouse=True)
def nothing_runs() -> None:
    """Whatever tests of others have left behind in this process."""
    forget_clusters()
    eventually(lambda: our_threads() == [])


def test_no_thread_outlives_a_call(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    conn = connect(aurora_lab, monitoring="on_demand", **QUICK)
    assert our_threads() == []
    assert [name for name, _, _ in signals_noted._events] == ["connection_opened"], "not delivered before the call returned"
    assert where(conn) == aurora_lab.writer
    assert our_threads() == []
    aurora_lab.failover(how="crash")
    # The server closed it, which is seen before anything is sent.
    conn.execute("SELECT 1")
    assert our_threads() == []
    assert {name for name, _, _ in signals_noted._events} >= {"failover_started", "writer_changed", "connection_switched"}
    assert where(conn) == aurora_lab.writer
    conn.execute("SELECT pg_catalog.pg_sleep(0.6)")
    assert our_threads() == []
    kill_own_session(aurora_lab, conn)
    eventually(conn._aa_link.proxy._line.has_ended)
    with conn.transaction():
        conn.execute("SELECT 1")
    assert our_threads() == []
    conn.close()
    assert our_threads() == []
    assert signals_noted._events[-1][0] == "connection_closed"


def test_a_call_that_blocks_is_watched_while_it_lasts(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    with connect(aurora_lab, monitoring="on_demand", **QUICK) as conn:
        lost = aurora_lab.writer

        @signals.failover_started.connect
        def promote(cluster: str, *, event: Any) -> None:
            aurora_lab.failover(how="crash")

        aurora_lab.freeze(lost)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert our_threads() == []
        assert where(conn) != lost


@pytest.mark.parametrize("variable", ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_RUNTIME_API"])
def test_it_is_what_lambda_gets(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "orders")
    with connect(aurora_lab) as conn:
        assert our_threads() == []
        where(conn)
        with connect(aurora_lab, monitoring="background"):
            assert our_threads()
            where(conn)
            assert our_threads(), "what the other connection needs was stopped"


def test_a_connection_that_is_only_dropped(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    conn = connect(aurora_lab, monitoring="on_demand")
    with pytest.warns(ResourceWarning):
        del conn
    assert all(cluster.leases == 0 for cluster in system.clusters)
    with connect(aurora_lab, monitoring="on_demand"):
        assert our_threads() == []


def test_in_asyncio(aurora_lab: PostgresLab) -> None:
    async def work() -> None:
        parameters: Any = {"autocommit": True, "monitoring": "on_demand", **QUICK}
        conn = await aurora_actors.aio.connect(psycopg.AsyncConnection.connect, aurora_lab.conninfo(), **parameters)
        assert our_threads() == []
        aurora_lab.failover(how="crash")
        await conn.execute("SELECT 1")
        assert our_threads() == []
        await conn.execute("SELECT pg_catalog.pg_sleep(0.6)")
        assert our_threads() == []
        await conn.close()
        assert our_threads() == []

    asyncio.run(work())


@pytest.mark.parametrize("face", FACES)
def test_on_mysql(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async def work() -> None:
        conn = await face.connect(aurora_mysql_lab, monitoring="on_demand", **QUICK)
        assert our_threads() == []
        await mysql_faces.kill_own_session(aurora_mysql_lab, conn)
        with suppress(FailoverSuccessError):  # unless it was seen before anything was sent
            await mysql_faces.query(conn, "SELECT 1")
        assert our_threads() == []
        await mysql_faces.query(conn, "SELECT SLEEP(0.6)")
        assert our_threads() == []
        await mysql_faces.done(conn.close())
        assert our_threads() == []

    asyncio.run(work())
