"""A task that is cancelled: never a failover, the connection as psycopg leaves it, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import psutil
import psycopg
import pytest

from aurora_actors import FailoverSuccessError, aio, signals
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.colours import LOOPS
from tests.lab.sessions import FACT_SECONDS, LOOK_SECONDS, rows

FOREVER = "SELECT pg_catalog.pg_sleep(3600)"
WHO = "SELECT aurora_db_instance_identifier()"
SESSIONS = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = 'john' AND pid <> pg_catalog.pg_backend_pid()"
CYCLES = 100
SWEEP_SECONDS = 0.0004
"""Step of the moments at which a connect is cancelled, so that a hundred of them cover a whole login."""

Main = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Main], None]


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(5.0)
    yield
    system.stop(5.0)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test in a loop of each kind; a task that it leaves is an error."""

    async def alone(main: Main) -> None:
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run(main: Main) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(alone(main))

    return run


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Failovers and switches."""
    found: list[Any] = []

    def note(_: object, event: Any) -> None:
        found.append(event)

    for signal in (signals.failover_started, signals.connection_switched):
        signal.connect(note)
    yield found
    for signal in (signals.failover_started, signals.connection_switched):
        signal.disconnect(note)


class Names:
    """The lab's names, which can be made to keep everybody waiting."""

    def __init__(self, lab: PostgresLab) -> None:
        self._lab = lab
        self.asked = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, host: str, port: int) -> Any:
        self.asked.set()
        assert self.go.wait(FACT_SECONDS)
        return self._lab.resolve(host, port)

    def hold(self) -> None:
        self.asked.clear()
        self.go.clear()


def connect(lab: PostgresLab, **parameters: Any) -> Coroutine[Any, Any, Any]:
    return aio.connect(psycopg.AsyncConnection.connect, lab.conninfo(), **{"autocommit": True, **parameters})


async def eventually(fact: Callable[[], bool]) -> None:
    deadline = monotonic() + FACT_SECONDS
    while not fact():
        assert monotonic() < deadline, "the fact did not come about"
        await asyncio.sleep(LOOK_SECONDS)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error):
            await task


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_statement(aurora_lab: PostgresLab, run: Run, events: list[Any], how: str) -> None:
    async def main() -> None:
        async with await connect(aurora_lab) as conn:
            pid = conn.info.backend_pid
            if how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await conn.execute(FOREVER)
            else:
                task = asyncio.create_task(conn.execute(FOREVER))
                await eventually(lambda: conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE)
                await cancelled(task)
            assert conn._aa_busy_since == 0.0
            assert await (await conn.execute(WHO)).fetchone() == (aurora_lab.writer,)
            assert conn.info.backend_pid == pid
        assert signals.settle(FACT_SECONDS)
        assert events == []

    run(main)


def test_a_statement_whose_host_falls_silent_then(aurora_lab: PostgresLab, run: Run, events: list[Any]) -> None:
    """psycopg first asks the server to cancel. That it is gone meanwhile is found by the next statement."""
    quick = {"failure_detection_time_ms": 400, "failure_detection_interval_ms": 200}

    async def main() -> None:
        async with await connect(aurora_lab, **quick) as conn:
            task = asyncio.create_task(conn.execute(FOREVER))
            await eventually(lambda: conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE)
            aurora_lab.freeze(aurora_lab.writer)
            await cancelled(task)
            assert signals.settle(FACT_SECONDS)
            assert events == []
            await asyncio.to_thread(aurora_lab.failover)
            with suppress(FailoverSuccessError):
                await conn.execute(WHO)
            assert await (await conn.execute(WHO)).fetchone() == (aurora_lab.writer,)

    run(main)


def test_a_wait_for_a_writer(aurora_lab: PostgresLab, run: Run) -> None:
    started = threading.Event()
    switched: list[Any] = []

    def start(_: object, event: object) -> None:
        started.set()

    def note(_: object, event: object) -> None:
        switched.append(event)

    signals.failover_started.connect(start)
    signals.connection_switched.connect(note)

    async def main() -> None:
        async with await connect(aurora_lab) as conn:
            aurora_lab.crash(aurora_lab.writer)
            task = asyncio.create_task(conn.execute(WHO))
            await eventually(started.is_set)
            others = [asyncio.create_task(conn.execute(WHO)) for _ in range(2)]
            await asyncio.sleep(0)  # they wait for the connection now
            await cancelled(others[0])
            await cancelled(task)
            await cancelled(others[1])
            assert signals.settle(FACT_SECONDS)
            assert switched == []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await conn.execute(WHO)
            await asyncio.to_thread(aurora_lab.failover)
            assert await (await conn.execute(WHO)).fetchone() == (aurora_lab.writer,)

    run(main)
    signals.failover_started.disconnect(start)
    signals.connection_switched.disconnect(note)


def test_a_look_up_while_a_lost_session_is_replaced(aurora_lab: PostgresLab, run: Run) -> None:
    names = Names(aurora_lab)

    async def main() -> None:
        async with await connect(aurora_lab, resolve=names) as conn:
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            names.hold()
            task = asyncio.create_task(conn.execute(WHO))
            await eventually(names.asked.is_set)
            await cancelled(task)
            names.go.set()
            assert await (await conn.execute(WHO)).fetchone() == (aurora_lab.writer,)

    run(main)


def test_an_idle_connection_s_way_to_the_new_writer(aurora_lab: PostgresLab, run: Run) -> None:
    names = Names(aurora_lab)

    async def main() -> None:
        async with await connect(aurora_lab) as used, await connect(aurora_lab, resolve=names) as idle:
            await asyncio.to_thread(aurora_lab.failover)
            with suppress(FailoverSuccessError):
                await used.execute(WHO)
            assert idle.stale
            names.hold()
            task = asyncio.create_task(idle.execute(WHO))
            await eventually(names.asked.is_set)
            await cancelled(task)
            names.go.set()
            assert idle.stale
            assert await (await idle.execute(WHO)).fetchone() == (aurora_lab.writer,)

    run(main)


def test_a_look_up_while_connecting(aurora_lab: PostgresLab, run: Run) -> None:
    names = Names(aurora_lab)

    async def main() -> None:
        names.hold()
        task = asyncio.create_task(connect(aurora_lab, resolve=names))
        await eventually(names.asked.is_set)
        await cancelled(task)
        names.go.set()

    run(main)
    assert system.clusters == ()


def test_a_handshake_with_a_deaf_server(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            deaf.setblocking(False)
            conninfo = f"host=127.0.0.1 port={deaf.getsockname()[1]} user=john sslmode=disable"
            task = asyncio.create_task(aio.connect(psycopg.AsyncConnection.connect, conninfo, plugins="failover"))
            heard, _ = await loop.sock_accept(deaf)
            with heard:
                assert await loop.sock_recv(heard, 4096)  # it has begun to log in
                await cancelled(task)
                del task
                assert await loop.sock_recv(heard, 4096) == b""

    run(main)


def test_connections_that_come_and_go_leave_nothing(aurora_lab: PostgresLab, run: Run) -> None:
    async def main() -> None:
        for _ in range(CYCLES):
            async with await connect(aurora_lab) as conn:
                await conn.execute("SELECT 1")

    with leaves_nothing(aurora_lab):
        run(main)


def test_cancelled_connects_leave_nothing(aurora_lab: PostgresLab, run: Run) -> None:
    ended: list[bool] = []

    async def main() -> None:
        for number in range(CYCLES):
            task = asyncio.create_task(connect(aurora_lab))
            await asyncio.sleep(number * SWEEP_SECONDS)
            task.cancel()
            try:
                conn = await task
            except asyncio.CancelledError:
                ended.append(True)
            else:
                await conn.close()

    with leaves_nothing(aurora_lab):
        run(main)
    assert len(ended) > CYCLES / 10


class leaves_nothing:  # noqa: N801 - reads as a sentence
    """No session at the server, thread or descriptor is there at the end that was not at the beginning."""

    def __init__(self, lab: PostgresLab) -> None:
        self._lab = lab

    def __enter__(self) -> None:
        rows(self._lab, "writer", "SELECT 1")
        self._before = self._now()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        system.stop(5.0)
        gc.collect()
        deadline = monotonic() + FACT_SECONDS
        pause = threading.Event()
        while (now := self._now()) != self._before and monotonic() < deadline:
            pause.wait(LOOK_SECONDS)
        assert now == self._before

    def _now(self) -> dict[str, Any]:
        (sessions,) = rows(self._lab, "writer", SESSIONS)
        return {
            "sessions": sessions[0],
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "descriptors": psutil.Process().num_fds(),
        }
