"""A signal handler that raises (Ctrl-C, the soft time limits of Celery), at many moments of a failover.

What it raises is never a failover: it passes as the very object, wherever it came, and the connection is on its old
session, or its next statement finds it lost. No statement ever gets the answer of another.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import connect, kill_own_session
from tests.failover.mysql_faces import FACES, Face, query
from tests.failover.mysql_faces import kill_own_session as kill_own_mysql_session
from tests.failover.sweeps import FORMS, KINDS, swept
from tests.lab.sessions import eventually

MOMENTS = 60
STEP_SECONDS = 0.0003
"""Between two moments: all of them cover a statement that fails, the search, the login and what restores the session."""

FEW = 30
"""At how many moments a handler raises, but for SWEEP=1, where the sweep of others has met most places of the code."""
BOUND_SECONDS = 30.0
"""Only a failing test waits for it: somebody else hangs."""

# A handler may be called where Python lets nothing through, in a finalizer for one; or before a flow has begun.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
)
sweep = pytest.mark.skipif(
    not os.environ.get("SWEEP"),
    reason="SWEEP=1 runs it: by the clock, where the sweeps over every call are exact",
)


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What an interrupted connect leaves to the collector is not found in the tests of others."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        while gc.collect():
            pass


@contextmanager
def interrupted_after(seconds: float, raised: BaseException) -> Iterator[None]:
    """Have a signal handler raise *raised* that long after the block began, if it still runs."""

    def handler(*_: object) -> None:
        raise raised

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def raised_by(call: Callable[[], Any], seconds: float, raised: BaseException) -> BaseException | None:
    """What *call* raises when it is interrupted after *seconds*, or earlier by itself."""
    try:
        with interrupted_after(seconds, raised):
            call()
    except BaseException as error:  # noqa: BLE001 - it is what the test is about
        return error
    return None


def fresh(ask: Callable[[int], int], number: int) -> None:
    """The next statement gets its own answer, if need be after it was told of the loss."""
    try:
        assert ask(number) == number
    except FailoverSuccessError:
        assert ask(number + 1) == number + 1


@sweep
@pytest.mark.parametrize("kind", KINDS)
def test_at_any_moment_of_a_failover(aurora_lab: PostgresLab, kind: type[BaseException]) -> None:
    met: set[str] = set()
    with connect(aurora_lab) as conn:

        def ask(number: int) -> int:
            row: tuple[int] = conn.execute(f"SELECT {number}").fetchone()
            return row[0]

        for moment in range(1, MOMENTS):
            kill_own_session(aurora_lab, conn)
            raised = kind(moment)
            error = raised_by(lambda: ask(0), moment * STEP_SECONDS, raised)
            assert error is raised or isinstance(error, FailoverSuccessError)
            met.add(type(error).__name__)
            assert conn._aa_busy_since == 0.0
            fresh(ask, 10 * moment)
        assert kind.__name__ in met
    _nobody_waits()


@sweep
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("face", [each for each in FACES if each.id != "aio"])
def test_at_any_moment_of_a_failover_on_mysql(aurora_mysql_lab: MysqlLab, face: Face, kind: type[BaseException]) -> None:
    met: set[str] = set()
    with asyncio.run(face.connect(aurora_mysql_lab)) as conn:

        def ask(number: int) -> int:
            ((found,),) = asyncio.run(query(conn, f"SELECT {number}"))
            return int(found)

        for moment in range(1, MOMENTS):
            asyncio.run(kill_own_mysql_session(aurora_mysql_lab, conn))
            raised = kind(moment)
            error = raised_by(lambda: conn.cmd_query("SELECT 0"), moment * STEP_SECONDS, raised)
            assert error is raised or isinstance(error, FailoverSuccessError)
            met.add(type(error).__name__)
            assert conn._aa_link.busy_since == 0.0
            fresh(ask, 10 * moment)
        assert kind.__name__ in met
    _nobody_waits()


@pytest.mark.parametrize("kind", KINDS)
def test_while_no_writer_can_be_had(aurora_lab: PostgresLab, kind: type[BaseException]) -> None:
    """The request is withdrawn: nobody searches on behalf of a call that is over."""
    with connect(aurora_lab, failure_detection_time_ms=200, failure_detection_interval_ms=100) as conn:
        hosts = tuple(aurora_lab.hosts)
        for host in hosts:
            aurora_lab.freeze(host)
        raised = kind()
        try:
            assert raised_by(lambda: conn.execute("SELECT 1"), 1.5, raised) is raised
        finally:
            for host in hosts:
                aurora_lab.thaw(host)
        fresh(lambda number: int(conn.execute(f"SELECT {number}").fetchone()[0]), 1)
    _nobody_waits()


@sweep
@pytest.mark.parametrize("kind", KINDS)
def test_at_any_moment_of_a_connect(aurora_lab: PostgresLab, kind: type[BaseException]) -> None:
    met: set[str] = set()

    def sweep() -> None:
        # What was raised holds the frames that it came through, and they what was open in them.
        for moment in range(1, MOMENTS):
            raised = kind(moment)
            error = raised_by(lambda: connect(aurora_lab).close(), moment * STEP_SECONDS, raised)
            assert error is raised or error is None
            met.add(type(error).__name__)

    sweep()
    gc.collect()
    assert kind.__name__ in met
    _nobody_waits()


def kill_own_pure_session(lab: MysqlLab, conn: Any) -> None:
    # No event loop, whose frames would be new ones each time.
    assert lab.kill_session(str(answer(conn, "SELECT @@aurora_server_id")), conn.connection_id)


def answer(conn: Any, statement: str) -> Any:
    """The one value that *statement* gives, on a connection of either driver's for threads."""
    cursor = conn.cursor()
    cursor.execute(statement)
    ((found,),) = cursor.fetchall()
    cursor.close()
    return found


def swept_failover(conn: Any, other: Any, kill: Callable[[Any], object], form: str, points: int) -> None:
    """Wherever the handler raises: another connection, in another thread, fails over all the same."""
    with closing(conn), closing(other), ThreadPoolExecutor(1) as pool:

        def others_turn() -> None:
            kill(other)
            with pytest.raises(FailoverSuccessError):
                answer(other, "SELECT 1")

        def after(point: int) -> None:
            assert getattr(conn, "_aa_busy_since", conn._aa_link.__dict__.get("busy_since")) == 0.0
            assert not conn._aa_link.__dict__.get("user")
            fresh(lambda number: int(answer(conn, f"SELECT {number}")), 10 * point)
            assert conn._aa_link.proxy._watched is not None
            pool.submit(others_turn).result(BOUND_SECONDS)

        swept(lambda: answer(conn, "SELECT 0"), lambda: kill(conn), after, form, points)
        gc.collect()
    _nobody_waits()


def swept_connect(opened: Callable[[], Any], form: str, points: int) -> None:
    with closing(opened()) as other, ThreadPoolExecutor(1) as pool:

        def after(_: int) -> None:
            assert pool.submit(answer, other, "SELECT 7").result(BOUND_SECONDS) == 7

        swept(lambda: opened().close(), lambda: None, after, form, points)
        gc.collect()
        pool.submit(lambda: opened().close()).result(BOUND_SECONDS)
    _nobody_waits()


def pure(lab: MysqlLab) -> Any:
    return aurora_actors.connect(mysql.connector.connect, lab.conninfo(), use_pure=True, autocommit=True)


@pytest.mark.parametrize("form", FORMS)
def test_at_every_call_of_a_failover(aurora_lab: PostgresLab, form: str) -> None:
    swept_failover(connect(aurora_lab), connect(aurora_lab), lambda conn: kill_own_session(aurora_lab, conn), form, FEW)


@pytest.mark.parametrize("form", FORMS)
def test_at_every_call_of_a_connect_and_a_close(aurora_lab: PostgresLab, form: str) -> None:
    swept_connect(lambda: connect(aurora_lab), form, FEW)


@pytest.mark.parametrize("form", FORMS)
def test_at_every_call_of_a_failover_on_mysql(aurora_mysql_lab: MysqlLab, form: str) -> None:
    kill = partial(kill_own_pure_session, aurora_mysql_lab)
    swept_failover(pure(aurora_mysql_lab), pure(aurora_mysql_lab), kill, form, FEW)


@pytest.mark.parametrize("form", FORMS)
def test_at_every_call_of_a_connect_and_a_close_on_mysql(aurora_mysql_lab: MysqlLab, form: str) -> None:
    swept_connect(lambda: pure(aurora_mysql_lab), form, FEW)


def _nobody_waits() -> None:
    """No call that is over holds its cluster."""
    eventually(lambda: all(cluster.leases == 0 for cluster in system.clusters))
