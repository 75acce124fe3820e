"""The session dies, or its writer, in the middle of a call on MySQL: wherever that is, the error says what came of it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import mysql.connector
import pytest
from mysql.connector.constants import RefreshOption

from aurora_actors import FailoverError, FailoverSuccessError, Outcome, TransactionResolutionUnknownError
from aurora_actors.lab import LabError, MysqlLab
from tests.failover.mysql_faces import Face, begun, done, in_every_face, query, where

TAKEN = "SELECT GET_LOCK('taken', 60)"
# The first rows fill the server's buffer, and the last one waits.
ROWS = " UNION ALL ".join([*["SELECT REPEAT('x', 1000000)"] * 8, "SELECT GET_LOCK('taken', 60)"])
MEGABYTE = b"7\n" * 500_000


async def unread(cursor: Any, statement: str) -> None:
    """Asked for, the first row or result read, and no more."""
    await done(cursor.execute(statement))
    if statement == ROWS:
        await done(cursor.fetchone())
    else:
        await done(cursor.fetchall())


BEFORE: dict[str, str] = {"nextset": f"SELECT 1; {TAKEN}", "fetchall": ROWS}
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "execute": lambda conn, cursor: cursor.execute(TAKEN),
    # One that the driver makes one statement of, and one that it sends row by row.
    "executemany-insert": lambda conn, cursor: cursor.executemany(
        "INSERT INTO t VALUES (GET_LOCK(%s, 60))", [("free",), ("taken",)]
    ),
    "executemany": lambda conn, cursor: cursor.executemany(
        "UPDATE t SET id = id + GET_LOCK(%s, 60)", [("free",), ("taken",)]
    ),
    "callproc": lambda conn, cursor: cursor.callproc("waits"),
    "nextset": lambda conn, cursor: cursor.nextset(),
    "fetchall": lambda conn, cursor: cursor.fetchall(),
    "prepared": lambda conn, cursor: cursor.execute("SELECT GET_LOCK(%s, 60)", ("taken",)),
    "cmd_query": lambda conn, cursor: conn.cmd_query(TAKEN),
    "info_query": lambda conn, cursor: conn.info_query(TAKEN),
}


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("name", CALLS)
@in_every_face
async def test_a_session_killed_in_the_middle_of(
    aurora_mysql_lab: MysqlLab, face: Face, name: str, autocommit: bool
) -> None:
    async with (
        face.connection(aurora_mysql_lab, plugins="") as other,
        face.connection(aurora_mysql_lab, autocommit=autocommit) as conn,
    ):
        await query(other, "CREATE TABLE t (id int)")
        await query(other, "INSERT INTO t VALUES (1)")
        await query(other, "CREATE PROCEDURE waits() BEGIN UPDATE t SET id = 5; SELECT GET_LOCK('taken', 60); END")
        await query(other, TAKEN)
        cursor = await done(conn.cursor(prepared=name == "prepared"))
        if not autocommit:
            await query(conn, "UPDATE t SET id = 1 WHERE id = 1")
        if name in BEFORE:
            await unread(cursor, BEFORE[name])
        call = begun(face, lambda: CALLS[name](conn, cursor))
        waiting = f"SELECT 1 FROM information_schema.processlist WHERE id = {conn.connection_id} AND state = 'User lock'"
        while not await query(other, waiting):
            assert not call.ended, "the call did not wait"
        assert await asyncio.to_thread(aurora_mysql_lab.kill_session, aurora_mysql_lab.writer, conn.connection_id)
        error = await call.end()
        if autocommit:
            assert isinstance(error, FailoverSuccessError)
            assert error.outcome is Outcome.UNKNOWN
        else:
            assert isinstance(error, TransactionResolutionUnknownError)
            # A procedure may commit.
            assert error.outcome is (Outcome.UNKNOWN if name == "callproc" else Outcome.ROLLED_BACK)
            assert await query(other, "SELECT id FROM t") == [(1,)]
        # Of a next result the C extension's own class passes.
        assert isinstance(error.__cause__, mysql.connector.Error) or type(error.__cause__).__module__ == "_mysql_connector"
        await done(cursor.execute("SELECT 2"))
        assert await done(cursor.fetchall()) == [(2,)]
        await query(conn, "UPDATE t SET id = 9")
        await done(conn.commit())
        assert {row[0] for row in await query(other, "SELECT id FROM t")} == {9}


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@in_every_face
async def test_a_session_killed_while_it_loads_a_file_of_the_client_s(
    aurora_mysql_lab: MysqlLab, face: Face, autocommit: bool, tmp_path: Path
) -> None:
    path = tmp_path / "numbers"
    os.mkfifo(path)
    async with (
        face.connection(aurora_mysql_lab, plugins="") as other,
        face.connection(aurora_mysql_lab, autocommit=autocommit, allow_local_infile=True) as conn,
    ):
        await query(other, "CREATE TABLE t (id int)")
        await query(conn, "INSERT INTO t VALUES (1)")
        number, killed = conn.connection_id, threading.Event()

        def feed() -> None:
            with suppress(BrokenPipeError), path.open("wb") as file:
                file.write(MEGABYTE)
                if aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, number):
                    killed.set()
                # More than the buffers in between take.
                file.write(MEGABYTE * 20)

        feeding = threading.Thread(target=feed, daemon=True)
        feeding.start()
        cursor = await done(conn.cursor())
        kind = FailoverSuccessError if autocommit else TransactionResolutionUnknownError
        with pytest.raises(kind) as caught:
            await done(cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE t"))
        assert caught.value.outcome is (Outcome.UNKNOWN if autocommit else Outcome.ROLLED_BACK)
        await asyncio.to_thread(feeding.join, 30)
        assert killed.is_set()
        assert await query(other, "SELECT COUNT(*) FROM t") == [(int(autocommit),)]
        await done(cursor.execute("SELECT 2"))
        assert await done(cursor.fetchall()) == [(2,)]


ENDS: dict[str, tuple[Callable[[Any], Any], Outcome]] = {
    "commit": (lambda conn: conn.commit(), Outcome.UNKNOWN),
    "rollback": (lambda conn: conn.rollback(), Outcome.ROLLED_BACK),
    "reset_session": (lambda conn: conn.reset_session(), Outcome.ROLLED_BACK),
    "cmd_reset_connection": (lambda conn: conn.cmd_reset_connection(), Outcome.ROLLED_BACK),
    "cmd_change_user": (lambda conn: conn.cmd_change_user("john", "pwd", "db"), Outcome.ROLLED_BACK),
    "cmd_init_db": (lambda conn: conn.cmd_init_db("db"), Outcome.ROLLED_BACK),
    "cmd_stmt_prepare": (lambda conn: conn.cmd_stmt_prepare(b"SELECT ?"), Outcome.ROLLED_BACK),
    "cmd_statistics": (lambda conn: conn.cmd_statistics(), Outcome.ROLLED_BACK),
    "cmd_refresh": (lambda conn: conn.cmd_refresh(RefreshOption.TABLES), Outcome.ROLLED_BACK),
    "cmd_process_kill": (lambda conn: conn.cmd_process_kill(999_999_999), Outcome.ROLLED_BACK),
    "ping": (lambda conn: conn.ping(), Outcome.ROLLED_BACK),
}
# A reset that says no more than that it failed, and statistics that cannot be read.
C_SWALLOWS = ("cmd_reset_connection", "cmd_statistics")


@in_every_face
async def test_the_writer_is_lost_in_the_middle_of_the_end_of_transactions(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    names = ("commit", "rollback", "reset_session", "cmd_change_user")
    before = aurora_mysql_lab.writer
    async with AsyncExitStack() as stack:
        conns = [await stack.enter_async_context(face.connection(aurora_mysql_lab, autocommit=False)) for _ in names]
        for number, conn in enumerate(conns):
            await query(conn, f"CREATE TABLE t{number} (id int)")
            await query(conn, f"INSERT INTO t{number} VALUES (1)")
        await asyncio.to_thread(aurora_mysql_lab.freeze, before)
        under_way = [begun(face, partial(ENDS[name][0], conn)) for name, conn in zip(names, conns, strict=True)]
        await asyncio.to_thread(aurora_mysql_lab.failover, rejoin=False)
        for number, (name, conn, call) in enumerate(zip(names, conns, under_way, strict=True)):
            error = await call.end()
            assert isinstance(error, TransactionResolutionUnknownError), error
            assert error.outcome is ENDS[name][1]
            assert await where(conn) == aurora_mysql_lab.writer != before
            assert await query(conn, f"SELECT COUNT(*) FROM t{number}") in ([(0,)], [(1,)])


@pytest.mark.parametrize("name", ENDS)
@in_every_face
async def test_a_session_killed_in_its_transaction_before(aurora_mysql_lab: MysqlLab, face: Face, name: str) -> None:
    call, outcome = ENDS[name]
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        await query(conn, "INSERT INTO t VALUES (1)")
        number = conn.connection_id
        assert await asyncio.to_thread(aurora_mysql_lab.kill_session, aurora_mysql_lab.writer, number)
        if face.name == "c" and name in C_SWALLOWS:
            # What comes next finds out.
            with suppress(mysql.connector.DatabaseError):
                assert call(conn) is False
            call, outcome = ENDS["ping"]
        with pytest.raises(FailoverError) as caught:
            await done(call(conn))
        assert (type(caught.value).__name__, caught.value.outcome) == ("TransactionResolutionUnknownError", outcome)
        assert await query(conn, "SELECT * FROM t") == []


@in_every_face
async def test_the_kernel_that_gives_a_path_up_is_no_read_timeout(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """Since Python 3.10 its ETIMEDOUT is a ``TimeoutError`` as well, which the driver takes for the application's limit."""
    lost: Any = {"failure_detection_time_ms": 1000, "failure_detection_interval_ms": 500, "failure_detection_count": 2}
    async with face.connection(aurora_mysql_lab, autocommit=False, **lost) as conn:
        cursor = await done(conn.cursor())
        await done(cursor.execute("CREATE TABLE t (id int)"))
        await done(cursor.execute("INSERT INTO t VALUES (1)"))
        call = begun(face, lambda: cursor.execute("SELECT SLEEP(60)"))
        async with face.connection(aurora_mysql_lab) as other:
            asleep = "SELECT 1 FROM information_schema.processlist WHERE id = %s AND state = 'User sleep'"
            while not await query(other, asleep, (conn.connection_id,)):
                assert not call.ended
        try:
            aurora_mysql_lab.cut_flow(aurora_mysql_lab.writer)
        except LabError as error:
            pytest.skip(str(error))
        raised = await call.end()
        assert isinstance(raised, TransactionResolutionUnknownError), raised
        assert raised.outcome is Outcome.ROLLED_BACK
        assert raised.host is not None
        assert raised.host.id == await where(conn) == aurora_mysql_lab.writer
