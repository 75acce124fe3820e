"""A signal handler that raises in an event loop's thread, at many moments of a failover; and Ctrl-C as asyncio has it.

Where it is called in a task, the task ends with what it raised; where the loop waits, the loop itself does, and the task
goes on when the loop does; where the loop runs a callback, the loop tells its exception handler. Nobody hangs.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverSuccessError, aio
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.mysql_faces import Face, query
from tests.failover.mysql_faces import kill_own_session as kill_own_mysql_session
from tests.failover.sweeps import swept
from tests.lab.sessions import eventually

BOUND_SECONDS = 20.0
"""Only a failing test waits for it: somebody hangs."""
FEW = 25
"""At how many moments a handler raises, but for SWEEP=1."""

# A handler may be called where Python lets nothing through, in a finalizer for one; or before a flow has begun.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
)

Ask = Callable[[Any, int], Awaitable[int]]


class Interrupted:
    """An event loop that is interrupted, and goes on."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.swallowed: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.swallowed.append(context.get("exception", context)))

    def run(self, flow: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(BOUND_SECONDS):
                return await flow

        return self.loop.run_until_complete(bounded())

    def settle(self) -> None:
        """Let tasks that outlived the run in which they began come to their ends."""
        with suppress(RuntimeError):
            # A run that was interrupted may stop the next one.
            self.loop.run_until_complete(asyncio.sleep(0))
        if left := asyncio.all_tasks(self.loop):
            self.run(asyncio.wait(left))
        assert not asyncio.all_tasks(self.loop)
        gc.collect(0)  # a task whose error nobody asked for says so
        self.swallowed.clear()


class OnPsycopg:
    """What a test does with connections of psycopg's."""

    def __init__(self, lab: PostgresLab) -> None:
        self.lab = lab

    def opened(self) -> Coroutine[Any, Any, Any]:
        return aio.connect(psycopg.AsyncConnection.connect, self.lab.conninfo(), autocommit=True)

    async def ask(self, conn: Any, number: int) -> int:
        ((found,),) = await (await conn.execute(f"SELECT {number}")).fetchall()
        return int(found)

    async def kill(self, conn: Any) -> None:
        assert self.lab.kill_session(self.lab.writer, conn.info.backend_pid)


class OnMysql:
    """The same with those of MySQL Connector's."""

    def __init__(self, lab: MysqlLab) -> None:
        self.lab = lab

    def opened(self) -> Coroutine[Any, Any, Any]:
        return Face("aio").connect(self.lab)

    async def ask(self, conn: Any, number: int) -> int:
        ((found,),) = await query(conn, f"SELECT {number}")
        return int(found)

    async def kill(self, conn: Any) -> None:
        await kill_own_mysql_session(self.lab, conn)


@pytest.fixture(params=["aurora_lab", "aurora_mysql_lab"], ids=["psycopg", "mysql"])
def engine(request: pytest.FixtureRequest) -> OnPsycopg | OnMysql:
    lab = request.getfixturevalue(request.param)
    return OnPsycopg(lab) if request.param == "aurora_lab" else OnMysql(lab)


@pytest.fixture
def interrupted() -> Iterator[Interrupted]:
    made = Interrupted()
    yield made
    made.runner.close()
    gc.collect()


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["handler", "ctrl-c"])
def test_at_every_call_of_a_failover(engine: OnPsycopg | OnMysql, interrupted: Interrupted, *, ctrl_c: bool) -> None:
    """After each call of a C function: CPython 3.11 crashes when a tracer raises in frames of coroutines."""
    conn, other = (interrupted.run(engine.opened()) for _ in range(2))

    async def fresh(conn: Any, number: int) -> None:
        try:
            assert await engine.ask(conn, number) == number
        except FailoverSuccessError:
            assert await engine.ask(conn, number + 1) == number + 1

    async def others_turn() -> None:
        await engine.kill(other)
        with pytest.raises(FailoverSuccessError):
            await engine.ask(other, 1)

    def after(point: int) -> None:
        interrupted.settle()
        interrupted.run(fresh(conn, 10 * point))
        assert conn._aa_link.proxy._watched is not None
        interrupted.run(others_turn())

    def call() -> object:
        # Ctrl-C is the runner's: it cancels the task.
        run = interrupted.runner.run if ctrl_c else interrupted.loop.run_until_complete
        return run(engine.ask(conn, 0))

    swept(
        call, lambda: interrupted.run(engine.kill(conn)), after, points=FEW, ctrl_c=ctrl_c,
        passes=lambda raised: raised in interrupted.swallowed,
    )  # fmt: skip
    for each in (conn, other):
        interrupted.run(each.close())
    gc.collect()
    eventually(lambda: all(cluster.leases == 0 for cluster in system.clusters))
