"""Calls on MySQL that are cut off, and the answers that must never be taken for another statement's."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import mysql.connector
import pytest
from mysql.connector.errors import ReadTimeoutError

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import FACES, Face, begun, done, in_every_face, query

QUICK: dict[str, Any] = {
    "failure_detection_time_ms": 400, "failure_detection_interval_ms": 200, "failure_detection_count": 3,
}  # fmt: skip
NUMBERS = "SELECT 0 AS i UNION ALL SELECT 1 UNION ALL SELECT 2"
LONG = "SELECT SLEEP(3600), 'stale'"
BOTH = [pytest.param({}, id="recovered"), pytest.param({"plugins": ""}, id="left-alone")]


async def after_the_cut(conn: Any, plugins: dict[str, Any]) -> None:
    """The next statement on a connection that was cut off finds it lost; none gets the other's answer."""
    if plugins:
        with pytest.raises(mysql.connector.Error) as caught:
            await query(conn, "SELECT 'fresh'")
        assert not isinstance(caught.value, aurora_actors.FailoverError)
        await done(conn.reconnect())
    else:
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 'fresh'")
    assert await query(conn, "SELECT 'fresh'") == [("fresh",)]


@pytest.mark.parametrize("plugins", BOTH)
def test_a_cancelled_statement_leaves_no_answer_behind(aurora_mysql_lab: MysqlLab, plugins: dict[str, Any]) -> None:
    async def story() -> None:
        face = Face("aio")
        async with face.connection(aurora_mysql_lab, **plugins) as conn:
            cursor = await conn.cursor()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await cursor.execute("SELECT SLEEP(1), 'stale'")
            await after_the_cut(conn, plugins)

    asyncio.run(story())


def test_a_cancelled_fetch_leaves_no_row_behind(aurora_mysql_lab: MysqlLab) -> None:
    async def story() -> None:
        async with Face("aio").connection(aurora_mysql_lab) as conn:
            cursor = await conn.cursor()
            # Rows that are sent as they come: the first fills the server's buffer.
            await cursor.execute(f"SELECT REPEAT('x', 1000000), SLEEP(n.i) FROM ({NUMBERS}) AS n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await cursor.fetchall()
            with pytest.raises(FailoverSuccessError):
                await query(conn, "SELECT 'fresh'")
            assert await query(conn, "SELECT 'fresh'") == [("fresh",)]

    asyncio.run(story())


@pytest.mark.parametrize("plugins", BOTH)
@pytest.mark.parametrize("face", [each for each in FACES if each.id != "c"])
def test_a_read_timeout_leaves_no_answer_behind(
    aurora_mysql_lab: MysqlLab, face: Face, plugins: dict[str, Any]
) -> None:
    async def story() -> None:
        async with face.connection(aurora_mysql_lab, read_timeout=1, **plugins) as conn:
            with pytest.raises(ReadTimeoutError):
                await query(conn, "SELECT SLEEP(2), 'stale'")
            await after_the_cut(conn, plugins)

    asyncio.run(story())


def test_a_ping_that_timed_out_leaves_no_answer_behind(aurora_mysql_lab: MysqlLab) -> None:
    """``is_connected()`` swallows its error, and what it waited for would be the next statement's answer."""
    with aurora_actors.connect(
        mysql.connector.connect, aurora_mysql_lab.conninfo(), use_pure=True, autocommit=True, read_timeout=1, plugins=""
    ) as conn:
        aurora_mysql_lab.freeze(aurora_mysql_lab.writer)
        assert not conn.is_connected()
        aurora_mysql_lab.thaw(aurora_mysql_lab.writer)
        with pytest.raises(mysql.connector.Error):
            conn.cmd_query("SELECT 'fresh'")


@pytest.mark.parametrize("plugins", BOTH)
def test_an_interrupted_statement_leaves_no_answer_behind(
    aurora_mysql_lab: MysqlLab, plugins: dict[str, Any]
) -> None:
    with aurora_actors.connect(
        mysql.connector.connect, aurora_mysql_lab.conninfo(), use_pure=True, autocommit=True, **plugins
    ) as conn:
        cursor = conn.cursor()
        timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
        with pytest.raises(KeyboardInterrupt):
            interrupted(cursor, timer)
        asyncio.run(after_the_cut(conn, plugins))


def interrupted(cursor: Any, timer: threading.Timer) -> None:
    timer.start()
    cursor.execute("SELECT SLEEP(5), 'stale'")


@pytest.mark.parametrize("fault", ["freeze", "black_hole"])
@in_every_face
async def test_a_call_that_waits_for_a_dead_host_is_ended(
    aurora_mysql_lab: MysqlLab, face: Face, fault: str
) -> None:
    async with face.connection(aurora_mysql_lab, plugins="efm", **QUICK) as conn:
        cursor = await done(conn.cursor())
        call = begun(face, lambda: cursor.execute(LONG))
        await asyncio.to_thread(getattr(aurora_mysql_lab, fault), aurora_mysql_lab.writer)
        error = await call.end()
        assert isinstance(error, mysql.connector.Error)
        assert error.errno == 2013
        assert not isinstance(error, aurora_actors.FailoverError)


@in_every_face
async def test_a_call_ended_for_its_host_goes_on_elsewhere(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, **QUICK) as conn:
        cursor = await done(conn.cursor())
        before = aurora_mysql_lab.writer
        call = begun(face, lambda: cursor.execute(LONG))
        await asyncio.to_thread(aurora_mysql_lab.freeze, before)
        await asyncio.to_thread(aurora_mysql_lab.failover, rejoin=False)
        error = await call.end()
        assert isinstance(error, FailoverSuccessError)
        assert error.host is not None
        assert error.host.id == aurora_mysql_lab.writer != before
        assert await query(conn, "SELECT 1") == [(1,)]


@in_every_face
async def test_a_long_statement_on_a_healthy_host_is_left_alone(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, plugins="efm", **QUICK) as conn:
        assert await query(conn, "SELECT SLEEP(3)") == [(0,)]


@in_every_face
async def test_a_monitor_is_known_by_its_name_and_cannot_write(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, plugins="efm", **QUICK) as conn:
        cursor = await done(conn.cursor())
        call = begun(face, lambda: cursor.execute("SELECT SLEEP(2)"))
        assert await call.end() is None
        await done(cursor.fetchall())
        ((count,),) = await query(conn, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'john'")
        assert count >= 2
