"""Deadlines on MySQL, in every face of the driver."""

from __future__ import annotations

import threading
from typing import Any

import mysql.connector
import pytest
from mysql.connector import OperationalError

import aurora_actors
from aurora_actors import DeadlineExceededError, FailoverSuccessError, Outcome, deadline
from aurora_actors.drivers.mysql_killing import Killing
from aurora_actors.lab import MysqlLab
from tests.failover.applications import Noted
from tests.failover.commit_relay import MysqlRelay
from tests.failover.mysql_faces import Face, done, in_every_face, query
from tests.lab.sessions import eventually

LONG, SHORT = 30.0, 0.5
"""Seconds: what never comes in a test, and what is over soon, but seldom before a busy machine has begun the call."""
SLOW = f"SELECT SLEEP({LONG}) FROM (SELECT 1 UNION SELECT 2) AS t"


async def ended(seconds: float, conn: Any, statement: str) -> DeadlineExceededError:
    with pytest.raises(DeadlineExceededError) as caught, deadline(seconds):
        await query(conn, statement)
    assert isinstance(caught.value, OperationalError)
    if caught.value.outcome is Outcome.NOT_SENT and 0 < seconds < LONG:
        # It was over before this busy machine had begun: nothing was shown yet.
        return await ended(2 * seconds, conn, statement)
    return caught.value


def raw(lab: MysqlLab, host: str | None = None) -> Any:
    """A session of the driver's alone at one host."""
    address, port = lab.address(host or lab.writer)
    login = {key: lab.parameters()[key] for key in ("user", "password", "database")}
    return mysql.connector.connect(host=address, port=port, **login, use_pure=True, ssl_disabled=True, autocommit=True)


def told(lab: MysqlLab, *statements: str, host: str | None = None) -> list[Any]:
    """The rows of the last of *statements*, at the writer."""
    conn = raw(lab, host)
    cursor = conn.cursor()
    rows: list[Any] = []
    for statement in statements:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    conn.close()
    return rows


BUSY = "SELECT info FROM information_schema.processlist WHERE info LIKE '%SLEEP(%' AND id <> CONNECTION_ID()"


@pytest.fixture
def table(aurora_mysql_lab: MysqlLab) -> None:
    """And a server that is older than any session of the test, by its whole seconds."""
    told(aurora_mysql_lab, "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v int)", "DELETE FROM t")
    told(aurora_mysql_lab, "INSERT INTO t VALUES (1, 0), (2, 0)")
    eventually(lambda: int(told(aurora_mysql_lab, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]) > 1)


async def killed_and_going_on(lab: MysqlLab, face: Face, noted: Noted) -> None:
    async with face.connection(lab) as conn:
        session = conn.connection_id
        await query(conn, "CREATE TEMPORARY TABLE kept (id int)")
        for statement in (SLOW, f"UPDATE t SET v = 1 + SLEEP({LONG})"):
            error = await ended(SHORT, conn, statement)
            assert error.outcome is Outcome.ROLLED_BACK
            assert 0 < error.seconds < LONG  # since the call began, which is a little after the deadline was set
            assert "was cancelled" in str(error)
            assert getattr(error.__cause__, "errno", None) == 1317
            assert getattr(error, "errno", None) == 3024  # no pool takes the connection for lost
            assert await query(conn, "SELECT * FROM kept") == []
            assert await query(conn, "SELECT v FROM t") == [(0,), (0,)]
        assert await query(conn, "SELECT CONNECTION_ID()") == [(session,)]
        assert conn.in_transaction is False
        assert told(lab, BUSY) == []
    assert not noted.names("failover_started", "connection_switched", "host_down")


@in_every_face
async def test_a_statement_is_killed_and_its_session_goes_on(
    aurora_mysql_lab: MysqlLab, face: Face, table: None, signals_noted: Noted
) -> None:
    await killed_and_going_on(aurora_mysql_lab, face, signals_noted)


@in_every_face
async def test_one_that_begins_a_transaction_leaves_nothing_in_it(
    aurora_mysql_lab: MysqlLab, face: Face, table: None
) -> None:
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        session = conn.connection_id
        error = await ended(SHORT, conn, f"UPDATE t SET v = 1 + SLEEP({LONG})")
        assert error.outcome is Outcome.ROLLED_BACK
        await query(conn, "UPDATE t SET v = 7 WHERE id = 2")
        await done(conn.commit())
        assert told(aurora_mysql_lab, "SELECT v FROM t") == [(0,), (7,)]
        assert conn.connection_id == session


@in_every_face
async def test_a_transaction_ends_with_its_session(aurora_mysql_lab: MysqlLab, face: Face, table: None) -> None:
    """MySQL would keep what was done before the statement, and commit it with what comes next."""
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "UPDATE t SET v = 1")
        error = await ended(SHORT, conn, SLOW)
        assert error.outcome is Outcome.ROLLED_BACK
        assert getattr(error, "errno", None) == 2013
        eventually(lambda: told(aurora_mysql_lab, BUSY) == [])
        # Nobody holds the rows any more.
        assert told(aurora_mysql_lab, "SET innodb_lock_wait_timeout = 1", "SELECT v FROM t FOR UPDATE") == [(0,), (0,)]
        with pytest.raises(aurora_actors.TransactionResolutionUnknownError) as caught:
            await query(conn, "UPDATE t SET v = 2")
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert await query(conn, "SELECT v FROM t") == [(0,), (0,)]


@pytest.mark.parametrize("statement", ["CALL sleeps()", f"{SLOW}; UPDATE t SET v = 1", "ALTER TABLE t ADD w INT"])
@in_every_face
async def test_what_may_commit_by_itself_does_not_go_on_either(
    aurora_mysql_lab: MysqlLab, face: Face, table: None, statement: str
) -> None:
    sleeps = f"CREATE PROCEDURE sleeps() BEGIN {SLOW}; UPDATE t SET v = 1; END"
    told(aurora_mysql_lab, "DROP PROCEDURE IF EXISTS sleeps", sleeps)
    holds = raw(aurora_mysql_lab)
    holds.cmd_query("LOCK TABLES t READ")
    async with face.connection(aurora_mysql_lab) as conn:
        error = await ended(SHORT, conn, statement)
        assert error.outcome is Outcome.UNKNOWN
        mine = f"SELECT info FROM information_schema.processlist WHERE id = {conn._aa_handle.number}"
        eventually(lambda: told(aurora_mysql_lab, mine) == [])
        holds.close()
        assert told(aurora_mysql_lab, "SELECT * FROM t") == [(1, 0), (2, 0)]


@in_every_face
async def test_the_driver_s_question_for_warnings_is_a_statement_too(
    aurora_mysql_lab: MysqlLab, face: Face, table: None
) -> None:
    async with face.connection(aurora_mysql_lab, get_warnings=True) as conn:
        error = await ended(SHORT, conn, f"UPDATE t SET v = 1 + SLEEP({LONG})")
        assert error.outcome is Outcome.UNKNOWN
        eventually(lambda: told(aurora_mysql_lab, BUSY) == [])


@in_every_face
async def test_rows_that_are_waited_for_do_not_come_any_more(aurora_mysql_lab: MysqlLab, face: Face, table: None) -> None:
    first = "SELECT REPEAT('x', 1000000)"  # fills the server's buffer
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await done(cursor.execute(" UNION ALL ".join([*[first] * 8, f"SELECT SLEEP({LONG})"])))
        await done(cursor.fetchone())
        with pytest.raises(DeadlineExceededError), deadline(SHORT):
            await done(cursor.fetchall())
        eventually(lambda: told(aurora_mysql_lab, BUSY) == [])
        with pytest.raises(mysql.connector.Error):
            await done(cursor.fetchall())


@in_every_face
async def test_a_kill_meets_no_statement_but_its_own(aurora_mysql_lab: MysqlLab, face: Face, table: None) -> None:
    """Statements that end by themselves at about their deadline."""
    rounds, seconds, cut_off = 20, 0.05, 0
    async with face.connection(aurora_mysql_lab) as conn:
        for number in range(rounds):
            try:
                with deadline(seconds):
                    await query(conn, f"UPDATE t SET v = SLEEP({seconds * (0.7 + number / rounds) / 2})")
            except DeadlineExceededError:
                cut_off += 1
            asked = f"SELECT {number}, SLEEP(0.01) FROM (SELECT 1 UNION SELECT 2) AS t"
            try:
                rows = await query(conn, asked)
            except FailoverSuccessError:
                rows = await query(conn, asked)  # the session was closed, since the KILL came late
            assert rows == [(number, 0), (number, 0)]
    assert cut_off


@in_every_face
async def test_where_the_session_is_not_shown_nothing_is_killed_and_it_is_closed(
    aurora_mysql_lab: MysqlLab, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Killing, "_is_ours", lambda *_: False)
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TEMPORARY TABLE kept (id int)")  # so that nobody moves silently
        number = conn.connection_id
        error = await ended(SHORT, conn, SLOW)
        assert error.outcome is Outcome.UNKNOWN
        assert "its session was closed" in str(error)
        with pytest.raises(FailoverSuccessError) as caught:
            await query(conn, "SELECT 1")
        assert caught.value.host is not None
        assert await query(conn, "SELECT 1") == [(1,)]
    told(aurora_mysql_lab, f"KILL {number}")


@in_every_face
async def test_behind_what_leads_elsewhere_nobody_else_is_killed(
    aurora_mysql_lab: MysqlLab, face: Face, table: None
) -> None:
    """Another host has a session of that number, of the same user, which runs the same statement."""
    lab, relay = aurora_mysql_lab, MysqlRelay(aurora_mysql_lab)
    other = next(host for host in lab.hosts if host != lab.writer)
    try:
        conn, strange = await namesakes(lab, face, other, resolve=relay.resolve)
        thread = threading.Thread(target=suppressed, args=(strange, SLOW), daemon=True)
        thread.start()
        relay.leads_to = lab.address(other)
        seen = len(relay.texts)
        await ended(SHORT, conn, SLOW)
        assert len(relay.texts) > seen + 1  # the session of ours came to the other host
        assert told(lab, BUSY, host=other) == [(SLOW,)]
        told(lab, f"KILL {strange.connection_id}", host=other)
        thread.join()
        await done(conn.close())
    finally:
        relay.close()


async def namesakes(lab: MysqlLab, face: Face, other: str, **parameters: Any) -> tuple[Any, Any]:
    """A connection of ours to the writer, and a session at another host that has the same number there."""
    while True:
        ahead = raw(lab, other).connection_id + 5
        while raw(lab).connection_id < ahead:
            pass
        conn = await face.connect(lab, **parameters)
        strange = raw(lab, other)
        while strange.connection_id < conn.connection_id:
            strange = raw(lab, other)
        if strange.connection_id == conn.connection_id:
            return conn, strange
        await done(conn.close())  # a monitor has that number


def suppressed(conn: Any, statement: str) -> None:
    try:
        conn.cmd_query(statement)
        conn.get_rows()
    except mysql.connector.Error:
        pass  # it is ended by the test


@pytest.mark.aurora_mysql_lab(server="mysql", hosts=1, flavour="plain")
@in_every_face
async def test_a_real_mysql_of_which_no_cluster_is_known(
    aurora_mysql_lab: MysqlLab, face: Face, table: None, signals_noted: Noted
) -> None:
    await killed_and_going_on(aurora_mysql_lab, face, signals_noted)
    address, port = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    conn = await face.connect_with(aurora_mysql_lab.conninfo("writer", host=address, port=port), autocommit=True)
    error = await ended(SHORT, conn, f"SELECT SLEEP({LONG})")
    assert error.outcome is Outcome.UNKNOWN  # MySQL has it end as if nothing were the matter
    assert await query(conn, "SELECT CONNECTION_ID()") == [(conn._aa_handle.number,)]
    await done(conn.close())


@in_every_face
async def test_what_ends_in_time_is_left_alone(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, socket_timeout=LONG) as conn:
        session = conn.connection_id
        for _ in range(3):
            with deadline(LONG):
                assert await query(conn, "SELECT 1") == [(1,)]
        assert conn.connection_id == session


@in_every_face
async def test_nothing_is_sent_when_it_has_passed(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, autocommit=False) as conn:
        await query(conn, "CREATE TEMPORARY TABLE t (id int) ENGINE=InnoDB")
        error = await ended(0, conn, "INSERT INTO t VALUES (1)")
        assert error.outcome is Outcome.NOT_SENT
        assert "no time is left" in str(error)
        with deadline(0):
            await done(conn.rollback())
        assert await query(conn, "SELECT count(*) FROM t") == [(0,)]
        with deadline(0):
            await done(conn.reset_session())  # as a pool does


@in_every_face
async def test_a_connection_may_have_one_for_each_call(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, socket_timeout=SHORT) as conn:
        with pytest.raises(DeadlineExceededError):
            await query(conn, SLOW)


@in_every_face
async def test_connect_is_refused_when_it_has_passed(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    with pytest.raises(DeadlineExceededError, match="no time is left for the connect"), deadline(-1):
        await face.connect(aurora_mysql_lab)


@in_every_face
async def test_a_frozen_host_does_not_hold_a_connect_up(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    aurora_mysql_lab.freeze(aurora_mysql_lab.writer)
    try:
        with pytest.raises(DeadlineExceededError, match=r"the deadline came|no time is left"), deadline(SHORT):
            await face.connect(aurora_mysql_lab)
    finally:
        aurora_mysql_lab.thaw(aurora_mysql_lab.writer)
