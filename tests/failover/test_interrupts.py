"""A signal handler that raises (Ctrl-C, the soft time limits of Celery), at many moments of a failover.

What it raises is never a failover: it passes as the very object, wherever it came, and the connection is on its old
session, or its next statement finds it lost. No statement ever gets the answer of another.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import connect, kill_own_session, where
from tests.failover.mysql_faces import FACES, Face, query
from tests.failover.mysql_faces import kill_own_session as kill_own_mysql_session
from tests.lab.sessions import eventually

MOMENTS = 60
STEP_SECONDS = 0.0003
"""Between two moments: all of them cover a statement that fails, the search, the login and what restores the session."""

POINTS = 60
"""At how many of the calls of a failover a handler raises, but for SWEEP=1."""
BOUND_SECONDS = 30.0
"""Only a failing test waits for it: somebody else hangs."""

# A handler may be called where Python lets nothing through, in a finalizer for one.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
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


class SoftLimit(Exception):
    """Raised by the handler."""


class HardLimit(BaseException):
    """Raised by the handler."""


KINDS = [SoftLimit, HardLimit]


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


class Sweep:
    """Has a signal handler raise after the n-th call of a C function of what the application's thread runs.

    That is where CPython looks for signals, as it does where a function begins, at which CPython 3.11 crashes when its
    profiler raises. Ours, the driver's, and the standard library's own locks and queues count.
    """

    MODULES = ("aurora_actors", "psycopg", "mysql", "threading", "queue", "concurrent", "pykka")

    def __init__(self, at: int, raised: BaseException) -> None:
        self._left = at
        self._raised = raised
        self.calls = 0

    def _handler(self, *_: object) -> None:
        raise self._raised

    def _profile(self, frame: Any, event: str, _: object) -> None:
        if event != "c_return" or not str(frame.f_globals.get("__name__")).startswith(self.MODULES):
            return
        if frame.f_code.co_name == "__del__":
            return  # nothing gets out of it
        self.calls += 1
        if self.calls == self._left:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGALRM)

    def run(self, call: Callable[[], Any]) -> BaseException | None:
        """What *call* raises."""
        before = signal.signal(signal.SIGALRM, self._handler)
        sys.setprofile(self._profile)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is what the test is about
            return error
        finally:
            sys.setprofile(None)
            signal.signal(signal.SIGALRM, before)
        return None


def _points(calls: int) -> range:
    """Every call with SWEEP=1, else a share of them: another one at each place of the code that is met twice."""
    return range(1, calls + 1, 1 if os.environ.get("SWEEP") else max(1, calls // POINTS))


def swept(call: Callable[[], Any], ready: Callable[[], object], after: Callable[[int], object]) -> None:
    """Interrupt *call* everywhere: what the handler raised passes unchanged, or it ended as it does by itself."""
    ready()
    counted = Sweep(0, SoftLimit())
    usual = type(counted.run(call))
    for point in _points(counted.calls):
        ready()
        raised = KINDS[point % 2](point)
        error = Sweep(point, raised).run(call)
        assert error is raised or type(error) is usual, point
        # What was raised holds the frames that it came through, and they what was open in them.
        raised.__traceback__ = None
        del error, raised
        after(point)


def test_at_every_call_of_a_failover(aurora_lab: PostgresLab) -> None:
    """Wherever the handler raises: another connection fails over all the same."""
    with connect(aurora_lab) as conn, connect(aurora_lab) as other, ThreadPoolExecutor(1) as pool:

        def ask(number: int) -> int:
            row: tuple[int] = conn.execute(f"SELECT {number}").fetchone()
            return row[0]

        def others_turn() -> None:
            kill_own_session(aurora_lab, other)
            with pytest.raises(FailoverSuccessError):
                other.execute("SELECT 1")

        def after(point: int) -> None:
            assert conn._aa_busy_since == 0.0
            fresh(ask, 10 * point)
            pool.submit(others_turn).result(BOUND_SECONDS)

        swept(lambda: ask(0), lambda: kill_own_session(aurora_lab, conn), after)
        gc.collect()


def test_at_every_call_of_a_connect_and_a_close(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as other, ThreadPoolExecutor(1) as pool:

        def after(_: int) -> None:
            assert pool.submit(where, other).result(BOUND_SECONDS) == aurora_lab.writer

        swept(lambda: connect(aurora_lab).close(), lambda: None, after)
        gc.collect()
        pool.submit(lambda: connect(aurora_lab).close()).result(BOUND_SECONDS)
    _nobody_waits()


def _nobody_waits() -> None:
    """No call that is over holds its cluster."""
    eventually(lambda: all(cluster.leases == 0 for cluster in system.clusters))
