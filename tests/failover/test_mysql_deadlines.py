"""Deadlines on MySQL, in every face of the driver."""

from __future__ import annotations

from typing import Any

import pytest
from mysql.connector import OperationalError

import aurora_actors
from aurora_actors import DeadlineExceededError, Outcome, deadline
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import Face, done, in_every_face, query

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


@in_every_face
async def test_a_statement_ends_and_the_connection_goes_on(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TEMPORARY TABLE kept (id int)")  # so that nobody moves silently
        error = await ended(SHORT, conn, SLOW)
        assert error.outcome is Outcome.UNKNOWN
        assert 0 < error.seconds < LONG  # since the call began, which is a little after the deadline was set
        with pytest.raises(aurora_actors.FailoverSuccessError) as caught:
            await query(conn, "SELECT 1")
        assert caught.value.host is not None
        assert await query(conn, "SELECT 1") == [(1,)]


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
