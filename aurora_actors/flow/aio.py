"""The face of the operations for asyncio: each really awaits, in the event loop of the task that uses it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from aurora_actors.actors.asking import ask_async
from aurora_actors.actors.base import Ref, Request
from aurora_actors.actors.reply import Reply, brought
from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.drivers.base import Wire
from aurora_actors.flow.io import LOGINS_AT_ONCE, DeadlineExceeded, Face, on_worker

__all__ = ["AsyncIo"]

P = ParamSpec("P")
R = TypeVar("R")


class _Turns:
    """The turns to log in of one event loop, and how many tasks have one or wait for one."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(LOGINS_AT_ONCE)
        self.users = 0


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = weakref.WeakKeyDictionary()
"""Of the loops that are logging in just now. A semaphore for which somebody waited refers to its loop, so that the weak key
alone would keep every loop there ever was."""


class AsyncIo(Face):
    """A cancelled task leaves no future pending and no descriptor watched."""

    async def ask(self, ref: Ref, request: Request[R], until: float) -> R:
        return await ask_async(ref, request, min(until, nearest()))

    async def wait(self, reply: Reply[R], until: float) -> R:
        async with _until(until):
            return await brought(reply)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # A daemon of its own: the default executor would hold the end of asyncio.run() up for a cancelled call.
        worker, reply = on_worker(partial(fn, *args, **kwargs))
        result = await (brought(reply) if nearest() == NEVER else self.wait(reply, nearest()))
        while worker.is_alive():  # it is about to end, and shall not outlive the call that needed it
            await _next_turn()
        return result

    async def set_up(self, hook: Callable[[Wire], Any], wire: Wire, until: float) -> None:
        async with _until(until):
            made = hook(wire)
            if isawaitable(made):
                await made
            await wire.commit()

    async def called(self, fn: Callable[[], Any]) -> Any:
        made = fn() if iscoroutinefunction(fn) else await self.blocking(fn)
        return await made if isawaitable(made) else made

    async def readable_until(self, fd: int, until: float) -> None:
        loop = asyncio.get_running_loop()
        await _ready(fd, loop.add_reader, loop.remove_reader, until)

    async def writable_until(self, fd: int, until: float) -> None:
        loop = asyncio.get_running_loop()
        await _ready(fd, loop.add_writer, loop.remove_writer, until)

    def _login_turn(self, until: float | None) -> AbstractAsyncContextManager[None]:
        return _turn(until)


@asynccontextmanager
async def _until(until: float | None) -> AsyncIterator[None]:
    """Raises ``DeadlineExceeded`` at *until*, on the clock of ``time.monotonic()``, which need not be the loop's."""
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout_at(None if until is None else loop.time() + max(0.0, until - monotonic()))
    try:
        async with scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise DeadlineExceeded("no answer before the deadline") from None


@asynccontextmanager
async def _turn(until: float | None) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    turns = _turns.setdefault(loop, _Turns())
    turns.users += 1
    try:
        async with _until(until):
            await turns.free.acquire()
        try:
            yield
        finally:
            turns.free.release()
    finally:
        turns.users -= 1
        if not turns.users:
            _turns.pop(loop, None)


async def _next_turn() -> None:
    await asyncio.sleep(0)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _ready(fd: int, watch: Callable[..., object], forget: Callable[[int], object], until: float) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch(fd, _resolve, ready)
    try:
        async with _until(until):
            await ready
    finally:
        forget(fd)
