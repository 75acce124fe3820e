"""Several event loops, and many connections in one of them, that fail over together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverError, aio, signals
from aurora_actors.actors.reply import Reply
from aurora_actors.actors.system import system
from aurora_actors.drivers.psycopg import PsycopgDriver
from aurora_actors.flow.io import LOGINS_AT_ONCE
from aurora_actors.lab import PostgresLab
from tests.failover.colours import LOOPS, Loop

FACT_SECONDS = 60.0
WHO = "SELECT aurora_db_instance_identifier()"
MANY = 200


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    system.stop(5.0)
    yield
    system.stop(5.0)


@pytest.fixture
def heard() -> Iterator[Callable[[Any], list[Any]]]:
    """The events of a signal, once all that were sent are delivered."""
    events: list[Any] = []

    def note(_: object, event: Any) -> None:
        events.append(event)

    wanted = (signals.failover_started, signals.connection_switched)
    for signal in wanted:
        signal.connect(note)

    def of(kind: Any) -> list[Any]:
        assert signals.settle(FACT_SECONDS)
        return [event for event in events if isinstance(event, kind)]

    yield of
    for signal in wanted:
        signal.disconnect(note)


async def connected(lab: PostgresLab, stack: AsyncExitStack, number: int) -> list[Any]:
    """Connections that are open until *stack* is left."""
    conns = await asyncio.gather(
        *(aio.connect(psycopg.AsyncConnection.connect, lab.conninfo(), autocommit=True) for _ in range(number))
    )
    return [await stack.enter_async_context(conn) for conn in conns]


async def survived(conn: Any) -> str:
    # One that begins after the news finds the writer without an error.
    with suppress(FailoverError):
        await conn.execute("SELECT 1")
    name: str = (await (await conn.execute(WHO)).fetchone())[0]
    return name


@pytest.mark.parametrize("kinds", [["asyncio"] * 3, ["uvloop"] * 3, ["asyncio", "uvloop"]])
def test_loops_in_several_threads_fail_over_together(
    aurora_lab: PostgresLab, heard: Callable[[Any], list[Any]], kinds: list[str]
) -> None:
    loops = [Loop(LOOPS[kind]) for kind in kinds]
    ready = threading.Barrier(len(loops) + 1)

    async def main() -> set[str]:
        async with AsyncExitStack() as stack:
            conns = await connected(aurora_lab, stack, 4)
            await asyncio.to_thread(ready.wait, FACT_SECONDS)
            await asyncio.to_thread(ready.wait, FACT_SECONDS)
            return set(await asyncio.gather(*map(survived, conns)))

    with concurrent.futures.ThreadPoolExecutor(len(loops)) as pool:
        ends = [pool.submit(loop.run, main) for loop in loops]
        ready.wait(FACT_SECONDS)
        aurora_lab.failover()
        ready.wait(FACT_SECONDS)
        assert [end.result(FACT_SECONDS) for end in ends] == [{aurora_lab.writer}] * len(loops)
    for loop in loops:
        loop.close()
    assert len(heard(signals.FailoverStarted)) == 1
    assert len(heard(signals.ConnectionSwitched)) == 4 * len(loops)


def test_a_connection_may_outlive_its_loop_unused(aurora_lab: PostgresLab) -> None:
    """It is the driver's to say what it can do then; nothing of ours is left."""
    with Loop() as loop:
        conn = loop.run(aio.connect, psycopg.AsyncConnection.connect, aurora_lab.conninfo(), autocommit=True)
    aurora_lab.failover()
    with Loop() as loop:
        assert loop.run(survived, conn) == aurora_lab.writer
        loop.run(conn.close)


class Logins:
    """How many logins are under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = self.all = 0
        opens = PsycopgDriver.open

        async def open_(driver: Any, *args: Any, **kwargs: Any) -> Any:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)
            try:
                return await opens(driver, *args, **kwargs)
            finally:
                self.now -= 1

        monkeypatch.setattr(PsycopgDriver, "open", open_)


@pytest.fixture
def never_blocked(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Threads in which whatever waits otherwise than for the loop is an error."""
    forbidden: set[int] = set()

    def refuse(owner: Any, name: str, waits: Callable[..., bool]) -> None:
        real = getattr(owner, name)

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() in forbidden and waits(*args, **kwargs) and not _starts_a_thread():
                raise AssertionError(f"{name} was called in the thread of an event loop")
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, guarded)

    refuse(time, "sleep", lambda seconds: True)
    refuse(socket, "getaddrinfo", lambda *_, **__: True)
    refuse(socket.socket, "connect", lambda *_: True)
    refuse(concurrent.futures.Future, "result", lambda future, *_: not future.done())
    refuse(Reply, "result", lambda reply, seconds: seconds > 0 and not reply.done())
    refuse(threading.Condition, "wait", lambda *_: True)
    refuse(threading.Thread, "join", lambda *_: True)
    refuse(selectors.DefaultSelector, "select", lambda _, seconds=None: seconds != 0 and not _called_by_the_loop())
    return forbidden


def _callers() -> Iterator[str]:
    """Who called, nearest first, without this module."""
    frame: Any = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module != __name__:
            yield f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back


def _starts_a_thread() -> bool:
    # Thread.start() waits until the thread runs, which is no waiting for anybody.
    return "threading.start" in _callers()


def _called_by_the_loop() -> bool:
    return next(_callers()).startswith("asyncio.")


@pytest.mark.parametrize("kind", LOOPS)
def test_many_connections_in_one_loop_share_a_search_and_take_turns_to_log_in(
    aurora_lab: PostgresLab,
    heard: Callable[[Any], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    never_blocked: set[int],
    kind: str,
) -> None:
    logins = Logins(monkeypatch)

    async def main(then: Callable[[], Coroutine[Any, Any, None]]) -> set[str]:
        async with AsyncExitStack() as stack:
            conns = await connected(aurora_lab, stack, MANY)
            assert logins.most == LOGINS_AT_ONCE
            logins.most = logins.all = 0
            await then()
            never_blocked.add(threading.get_ident())
            try:
                return set(await asyncio.gather(*map(survived, conns)))
            finally:
                never_blocked.clear()

    async def lose_writer() -> None:
        await asyncio.to_thread(aurora_lab.failover)

    with Loop(LOOPS[kind]) as loop:
        assert loop.run(main, lose_writer) == {aurora_lab.writer}
    assert len(heard(signals.FailoverStarted)) == 1
    assert len(heard(signals.ConnectionSwitched)) == MANY
    assert (logins.most, logins.all) == (LOGINS_AT_ONCE, MANY)


@pytest.mark.parametrize("blocking", [lambda: time.sleep(0), lambda: socket.getaddrinfo("localhost", 1)])
def test_the_watch_over_blocking_calls_can_fail(never_blocked: set[int], blocking: Callable[[], object]) -> None:
    async def main() -> None:
        never_blocked.add(threading.get_ident())
        try:
            blocking()
        finally:
            never_blocked.clear()

    with Loop() as loop, pytest.raises(AssertionError, match="event loop"):
        loop.run(main)
