"""Deadlines on PostgreSQL: a statement is cancelled, a host is not blamed, what does not fit is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import ConfigurationError, DeadlineExceededError, Outcome, deadline
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connections, our_threads
from tests.failover.colours import ONE_COLOUR, Colour
from tests.lab.sessions import eventually

LONG, SHORT = 30.0, 0.5
"""Seconds: what never comes in a test, and what is over soon, but not before a busy machine has begun the call."""
SLEEP = f"SELECT pg_sleep({LONG})"


def within(colour: Colour, seconds: float, fn: Callable[..., Any], *args: Any) -> Any:
    """Call *fn*, of the driver's own, with a deadline, in the thread or task that the colour calls it in."""

    async def awaited() -> Any:
        with deadline(seconds):
            return await fn(*args)

    if colour.name != "threads":
        return colour.run(awaited)
    with deadline(seconds):
        return fn(*args)


def ended(colour: Colour, seconds: float, fn: Callable[..., Any], *args: Any) -> DeadlineExceededError:
    with pytest.raises(DeadlineExceededError) as caught:
        within(colour, seconds, fn, *args)
    assert isinstance(caught.value, psycopg.errors.QueryCanceled)
    return caught.value


def test_a_statement_is_cancelled_and_its_session_goes_on(
    aurora_lab: PostgresLab, colour: Colour, signals_noted: Noted
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        session = conn.info.backend_pid
        error = ended(colour, SHORT, colour.plain(conn).execute, SLEEP)
        assert error.outcome is Outcome.ROLLED_BACK
        assert 0 < error.seconds < LONG
        assert "was cancelled" in str(error)
        assert isinstance(error.__cause__, psycopg.errors.QueryCanceled)
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == (session,)
    assert not signals_noted.names("failover_started", "connection_switched", "host_down")


def test_a_transaction_that_was_cut_off_is_rolled_back_by_its_block(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        plain = colour.plain(conn)

        def work() -> None:
            with plain.transaction():
                plain.execute(SLEEP)

        async def work_of_tasks() -> None:
            async with plain.transaction():
                await plain.execute(SLEEP)

        error = ended(colour, SHORT, work if colour.name == "threads" else work_of_tasks)
        assert error.outcome is Outcome.ROLLED_BACK
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_nothing_is_sent_when_it_has_passed(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        plain = colour.plain(conn)
        conn.execute("CREATE TEMP TABLE t (id int)")
        for error in (ended(colour, 0, plain.execute, "INSERT INTO t VALUES (1)"), ended(colour, 0, plain.commit)):
            assert error.outcome is Outcome.NOT_SENT
            assert "no time is left" in str(error)
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)
        within(colour, 0, plain.rollback)
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_frozen_host_does_not_hold_it_up_and_is_not_blamed(
    aurora_lab: PostgresLab, colour: Colour, signals_noted: Noted
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        plain = colour.plain(conn)
        aurora_lab.freeze(aurora_lab.writer)
        try:
            error = ended(colour, SHORT, plain.execute, "SELECT 1")
            assert error.outcome is Outcome.UNKNOWN
            assert "its session was closed" in str(error)
            # The next one finds no session, and has no time to look for another host.
            assert ended(colour, SHORT, plain.execute, "SELECT 1").outcome is Outcome.NOT_SENT
            ended(colour, SHORT, colour.face, colour.connection.connect, aurora_lab.conninfo("writer"))
        finally:
            aurora_lab.thaw(aurora_lab.writer)
        with pytest.raises(aurora_actors.FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert caught.value.outcome is Outcome.NOT_SENT
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert not signals_noted.of("host_down")


@pytest.mark.parametrize("parameter", ["deadline", "socket_timeout"])
def test_a_connection_may_have_one_for_each_call(aurora_lab: PostgresLab, colour: Colour, parameter: str) -> None:
    with colour.connect(aurora_lab, autocommit=True, **{parameter: 1.0}) as conn:
        for _ in range(3):
            conn.execute("SELECT 1")
        with pytest.raises(DeadlineExceededError):
            conn.execute(SLEEP)
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_connect_is_refused_when_it_has_passed(aurora_lab: PostgresLab, colour: Colour) -> None:
    error = ended(colour, -1, colour.face, colour.connection.connect, aurora_lab.conninfo("writer"))
    assert error.outcome is Outcome.NOT_SENT
    assert "no time is left for the connect" in str(error)


def test_the_failover_is_bounded_and_goes_on_with_the_next_call(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        plain = colour.plain(conn)
        conn.execute("CREATE TEMP TABLE kept (id int)")  # so that nobody moves silently
        aurora_lab.crash(aurora_lab.writer)
        error = ended(colour, SHORT, plain.execute, "SELECT 1")
        assert "search for another host" in str(error) or "no time is left" in str(error)
        aurora_lab.failover()
        with pytest.raises(aurora_actors.FailoverSuccessError):
            conn.execute("SELECT 1")


@ONE_COLOUR
def test_waiting_for_notifications_ends_and_keeps_its_session(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        conn.execute("LISTEN news")
        session = conn.info.backend_pid
        ended(colour, SHORT, lambda: list(conn.notifies()))
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == (session,)


def test_the_nearest_is_in_force_and_threads_begin_without() -> None:
    from aurora_actors.deadlines import NEVER, nearest

    found: list[float] = []
    with deadline(LONG):
        outer = nearest()
        with deadline(2 * LONG):
            assert nearest() == outer
        with deadline(SHORT):
            assert nearest() < outer
        thread = threading.Thread(target=lambda: found.append(nearest()))
        thread.start()
        thread.join()
    assert found == [NEVER]
    assert nearest() == NEVER


@pytest.mark.parametrize("seconds", [float("nan"), "5", None, True])
def test_what_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a number of seconds"), deadline(seconds):
        pass


def test_many_slow_statements_with_a_limit_need_no_threads(aurora_lab: PostgresLab) -> None:
    """None waits for another's turn: all of them are under way at the same time, each in the thread that called it."""
    count = 24
    with connections(aurora_lab, count, socket_timeout=LONG) as conns, ThreadPoolExecutor(count) as pool:
        before = set(our_threads())
        locked = conns[0].transaction()
        with locked:
            conns[0].execute("SELECT pg_advisory_xact_lock(15)")
            waiting = [pool.submit(conn.execute, "SELECT pg_advisory_lock_shared(15)") for conn in conns[1:]]
            eventually(lambda: _lock_waiters(aurora_lab) == count - 1)
            assert set(our_threads()) <= before
        assert all(each.result(LONG) for each in waiting)


def _lock_waiters(lab: PostgresLab) -> int:
    server = lab.cluster.host(lab.writer).server
    found: int = server.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[0][0]
    return found


def test_a_password_that_does_not_come(aurora_lab: PostgresLab, colour: Colour) -> None:
    never = threading.Event()

    def password() -> str:
        never.wait(LONG)
        return "pwd"

    try:
        with pytest.raises(DeadlineExceededError) as caught:
            colour.connect(aurora_lab, password=password, deadline=SHORT)
        assert caught.value.seconds < LONG
    finally:
        never.set()
