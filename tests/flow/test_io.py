"""The operations that a flow may await, in both colours."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from time import monotonic
from typing import Any

import pytest
import uvloop

from aurora_actors.actors.reply import Reply
from aurora_actors.drivers.base import Access
from aurora_actors.flow import aio
from aurora_actors.flow.aio import AsyncIo
from aurora_actors.flow.io import LOGINS_AT_ONCE, BlockingIo, DeadlineExceeded, Io
from aurora_actors.flow.running import Flow, run_blocking

FACT_SECONDS = 20.0
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Door:
    """A driver whose logins end when the test says so."""

    def __init__(self, event: Callable[[], Any]) -> None:
        self.opened, self.full = event(), event()
        self.inside = 0
        self.most = 0

    async def open(self, access: Any, place: Any, limit: float | None, *, guarded: bool) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == LOGINS_AT_ONCE:
            self.full.set()
        waited = self.opened.wait()
        if isawaitable(waited):
            await waited
        self.inside -= 1
        return "wire"


class Face:
    """An io and how its flows are run."""

    def __init__(self, door: Any, io: Io, run: Callable[[Flow[Any]], Any]) -> None:
        self.door = door
        self.io = io
        self.run = run


@pytest.fixture(params=["threads", "asyncio", "uvloop"])
def face(request: pytest.FixtureRequest) -> Face:
    if request.param == "threads":
        door: Any = Door(threading.Event)
        return Face(door, BlockingIo(door), run_blocking)
    door = Door(asyncio.Event)
    return Face(door, AsyncIo(door), asyncio.run if request.param == "asyncio" else uvloop.run)


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def later(worker: ThreadPoolExecutor, act: Callable[[], object]) -> Callable[[], None]:
    """What lets another thread do *act*."""
    go = threading.Event()
    worker.submit(lambda: (go.wait(FACT_SECONDS), act()))
    return go.set


def test_a_wait_gives_what_a_thread_brings(face: Face, worker: ThreadPoolExecutor) -> None:
    future: Reply[str] = Reply()
    go = later(worker, lambda: future.set_result("brought"))

    async def flow() -> str:
        go()
        return await face.io.wait(future, face.io.now() + FACT_SECONDS)

    assert face.run(flow()) == "brought"


@pytest.mark.parametrize("error", [OSError("lost"), TimeoutError("an answer, not a deadline")])
def test_a_wait_raises_the_very_error(face: Face, worker: ThreadPoolExecutor, error: Exception) -> None:
    future: Reply[str] = Reply()
    go = later(worker, lambda: future.set_exception(error))

    async def flow() -> None:
        go()
        await face.io.wait(future, face.io.now() + FACT_SECONDS)

    with pytest.raises(type(error)) as caught:
        face.run(flow())
    assert caught.value is error


def test_who_gives_up_leaves_the_future_to_the_others(face: Face) -> None:
    future: Reply[str] = Reply()

    async def flow() -> None:
        await face.io.wait(future, face.io.now() + 0.001)

    with pytest.raises(DeadlineExceeded):
        face.run(flow())
    assert not future.cancelled()
    future.set_result("for the others")


def test_blocking_code_keeps_its_context_its_result_and_its_error(face: Face) -> None:
    error = ValueError("refused")

    def fail() -> None:
        raise error

    async def flow() -> None:
        variable.set("seen")
        assert await face.io.blocking(variable.get) == "seen"
        with pytest.raises(ValueError, match="refused") as caught:
            await face.io.blocking(fail)
        assert caught.value is error

    face.run(flow())


def test_a_stop_iteration_of_blocking_code_ends_nobody_s_loop(face: Face) -> None:
    async def flow() -> None:
        await face.io.blocking(lambda: next(iter(())))

    with pytest.raises(RuntimeError):
        face.run(flow())


def test_sockets_are_waited_for_until_a_deadline(face: Face, worker: ThreadPoolExecutor) -> None:
    here, there = socket.socketpair()
    go = later(worker, lambda: there.sendall(b"x"))
    io: Any = face.io

    async def flow() -> None:
        await io.writable_until(here.fileno(), monotonic() + FACT_SECONDS)
        with pytest.raises(DeadlineExceeded):
            await io.readable_until(here.fileno(), monotonic() + 0.001)
        with pytest.raises(DeadlineExceeded):
            await io.readable_until(here.fileno(), monotonic() - 1.0)
        go()
        await io.readable_until(here.fileno(), monotonic() + FACT_SECONDS)
        assert here.recv(1) == b"x"

    with here, there:
        face.run(flow())


async def _log_in(face: Face, until: float | None = None) -> Any:
    access = Access(face.door, print, {})
    return await face.io.connect(access, None, until, guarded=False)


def log_in_together(face: Face, number: int) -> list[Any]:
    """As many logins at once as the door lets in; it opens when it is full, and one more has lost its patience."""

    async def flows() -> list[Any]:
        tasks = [asyncio.create_task(_log_in(face)) for _ in range(number)]
        await face.door.full.wait()
        with pytest.raises(DeadlineExceeded):
            await _log_in(face, face.io.now() + 0.001)
        face.door.opened.set()
        return await asyncio.gather(*tasks)

    if not isinstance(face.io, BlockingIo):
        found: list[Any] = face.run(flows())
        return found
    with ThreadPoolExecutor(number) as pool:
        logins = [pool.submit(face.run, _log_in(face)) for _ in range(number)]
        assert face.door.full.wait(FACT_SECONDS)
        with pytest.raises(DeadlineExceeded):
            face.run(_log_in(face, face.io.now() + 0.001))
        face.door.opened.set()
        return [login.result(FACT_SECONDS) for login in logins]


def test_logins_take_turns(face: Face) -> None:
    assert log_in_together(face, 3 * LOGINS_AT_ONCE) == ["wire"] * 3 * LOGINS_AT_ONCE
    assert face.door.most == LOGINS_AT_ONCE
    assert len(aio._turns) == 0


@pytest.mark.parametrize("new", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_loop_is_kept_alive(new: Callable[[], asyncio.AbstractEventLoop]) -> None:
    door: Any = Door(asyncio.Event)
    loop = new()
    log_in_together(Face(door, AsyncIo(door), loop.run_until_complete), 2 * LOGINS_AT_ONCE)
    loop.close()
    gone = weakref.ref(loop)
    del door, loop
    gc.collect()
    assert gone() is None


def test_a_cancelled_wait_leaves_nothing_pending(caplog: pytest.LogCaptureFixture) -> None:
    """What the thread brings later finds the loop closed, and says nothing."""
    future: Reply[str] = Reply()
    driver: Any = None
    io = AsyncIo(driver)

    def pending() -> set[int]:
        gc.collect()
        # Not isinstance(): it would ask dead weak proxies for their class.
        return {id(found) for found in gc.get_objects() if type(found) is asyncio.Future and not found.done()}

    async def main() -> set[int]:
        before = pending()
        task = asyncio.create_task(io.wait(future, io.now() + FACT_SECONDS))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        return pending() - before

    assert asyncio.run(main()) == set()
    with caplog.at_level(logging.DEBUG):
        future.set_result("late")
    assert caplog.records == []
