"""The operations that a flow may await, what both faces of them share, and the one that blocks, for threads."""

from __future__ import annotations

import random
import selectors
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from aurora_actors.actors.asking import DeadlineExceeded, ask
from aurora_actors.actors.base import Ref, Request
from aurora_actors.actors.forking import on_fork
from aurora_actors.actors.names import FRESH_SECONDS, names
from aurora_actors.actors.reply import Reply
from aurora_actors.actors.system import system
from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, Driver, Place, Wire
from aurora_actors.errors import ConfigurationError
from aurora_actors.model.hosts import Host

if TYPE_CHECKING:
    import asyncio

__all__ = ["LOGINS_AT_ONCE", "BlockingIo", "DeadlineExceeded", "Face", "Io", "Sockets", "WaitsUntil", "on_worker"]

P = ParamSpec("P")
R = TypeVar("R")

LOGINS_AT_ONCE = 8
"""Logins under way at the same time in one process and event loop: a SCRAM login costs both sides milliseconds of CPU,
so that two hundred at once would only delay each other."""


LONGEST_LOOK_UP_SECONDS = 30.0
"""A first look-up that takes longer fails; the system's own resolver gives up at about that time, too."""


LONGEST_CALL_SECONDS = 60.0
"""How long a thread waits for a callable of the user's that runs in an event loop, which may have stopped meanwhile."""


class WaitsUntil(Protocol):
    """How a face waits for a socket. ``until`` is on the clock of ``time.monotonic()``."""

    async def readable_until(self, fd: int, until: float) -> None:
        """Raises ``DeadlineExceeded``."""
        ...

    async def writable_until(self, fd: int, until: float) -> None: ...


class Io(WaitsUntil, Protocol):
    """What a flow may await. Times are on the clock of ``now()``; ``until`` is a deadline on it."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def jitter(self, seconds: float) -> float:
        """*seconds*, give or take a quarter, so that processes do not march in step."""
        ...

    async def ask(self, ref: Ref, request: Request[R], until: float) -> R:
        """The answer of an actor. Raises ``DeadlineExceeded``, or ``ActorStopped``."""
        ...

    async def wait(self, reply: Reply[R], until: float) -> R:
        """What a thread brings. Raises ``DeadlineExceeded``."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking library code. In threads: here; in asyncio, and where there is a deadline: on a daemon worker.

        Raises ``DeadlineExceeded``; what was begun goes on, and nobody hears of it.
        """
        ...

    async def called(self, fn: Callable[[], Any]) -> Any:
        """What a callable of the user's gives, be it blocking code or code for asyncio."""
        ...

    async def place(self, access: Access, host: Host | None, until: float | None) -> Place | None:
        """Where *host* is just now; None: the driver looks for itself. Raises ``OSError``."""
        ...

    async def canonical(self, access: Access, host: str) -> str:
        """The name that *host* is an alias (CNAME) of; *host* itself if it is none."""
        ...

    async def connect(self, access: Access, place: Place | None, until: float | None, *, guarded: bool) -> Wire:
        """Open a connection, a bounded number at a time. Raises the driver's error."""
        ...

    async def query(self, wire: Wire, sql: str, until: float) -> Rows:
        """The rows of one internal statement, as text. Raises the driver's error."""
        ...

    async def set_up(self, hook: Callable[[Wire], Any], wire: Wire, until: float) -> None:
        """Call *hook* of the application's with *wire*, and commit. Raises what it raises, or ``DeadlineExceeded``."""
        ...

    async def restore(self, old: Wire, new: Wire, until: float) -> tuple[str, ...]:
        """Give *new* the session of *old*; what cannot be had there, by name."""
        ...

    async def close(self, wire: Wire) -> None: ...

    def discard(self, wire: Wire) -> None:
        """Drop a connection without waiting."""
        ...


class Sockets:
    """The sockets of a face, with one deadline for all waits."""

    def __init__(self, face: WaitsUntil, until: float) -> None:
        self._face = face
        self.until = until

    async def readable(self, fd: int) -> None:
        await self._face.readable_until(fd, self.until)

    async def writable(self, fd: int) -> None:
        await self._face.writable_until(fd, self.until)


class Face:
    """What both faces do alike."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def now(self) -> float:
        return monotonic()

    def jitter(self, seconds: float) -> float:
        return seconds * random.uniform(0.75, 1.25)

    async def wait(self, reply: Reply[R], until: float) -> R:
        raise NotImplementedError

    async def readable_until(self, fd: int, until: float) -> None:
        raise NotImplementedError

    async def writable_until(self, fd: int, until: float) -> None:
        raise NotImplementedError

    def _login_turn(self, until: float | None) -> AbstractAsyncContextManager[None]:
        """A turn to log in. Raises ``DeadlineExceeded``."""
        raise NotImplementedError

    async def place(self, access: Access, host: Host | None, until: float | None) -> Place | None:
        if host is not None:
            longest = _left(until)
            return await names.found(access.resolve, host.endpoint, host.port, self, longest=longest, fresh=FRESH_SECONDS)
        if names.effective(access.resolve) is None:
            return None
        seeds = self._driver.seeds(access.parameters)
        longest = _left(until)
        return _together([await names.found(access.resolve, *seed, self, longest=longest) for seed in seeds])

    async def canonical(self, access: Access, host: str) -> str:
        return await names.canonical(access.resolve, host, self)

    async def connect(self, access: Access, place: Place | None, until: float | None, *, guarded: bool) -> Wire:
        until = _nearer(until)
        async with self._login_turn(until):
            timeout = None if until is None else max(0.0, until - monotonic())
            return await self._driver.open(access, place, timeout, guarded=guarded)

    async def query(self, wire: Wire, sql: str, until: float) -> Rows:
        return await self._driver.query(wire, sql, Sockets(self, min(until, nearest())))

    async def restore(self, old: Wire, new: Wire, until: float) -> tuple[str, ...]:
        return await self._driver.restore(old, new, Sockets(self, min(until, nearest())))

    async def close(self, wire: Wire) -> None:
        await self._driver.close(wire)

    def discard(self, wire: Wire) -> None:
        self._driver.discard(wire)


def _left(until: float | None) -> float:
    """How long a name that was never found before may be looked up for."""
    until = _nearer(until)
    return LONGEST_LOOK_UP_SECONDS if until is None else max(0.0, until - monotonic())


def _nearer(until: float | None) -> float | None:
    """*until*, or the application's deadline if that comes before it."""
    nearer = min(NEVER if until is None else until, nearest())
    return None if nearer == NEVER else nearer


class _Logins:
    """The turns of all threads of the process.

    They lie in a queue of the interpreter's own, and come back when nobody holds them any more: a signal handler may
    raise between any two steps of Python code, and a semaphore of ``threading`` would stay locked by that for ever.
    """

    generation = 0

    def __init__(self) -> None:
        self.reset()
        on_fork(self.reset)

    def reset(self) -> None:
        self.generation += 1
        self.turns: SimpleQueue[_Turn] = SimpleQueue()
        for _ in range(LOGINS_AT_ONCE):
            self.turns.put(_Turn(self.generation))

    def take(self, until: float | None) -> _Turn:
        """Raises ``DeadlineExceeded``."""
        try:
            return self.turns.get(timeout=None if until is None else max(0.0, until - monotonic()))
        except Empty:
            raise DeadlineExceeded("no turn to log in came before the deadline") from None


class _Turn:
    """The right to log in, for as long as somebody holds it."""

    __slots__ = ("_generation",)

    def __init__(self, generation: int) -> None:
        self._generation = generation

    def __del__(self) -> None:
        # When the interpreter ends there is nobody left to give it back to.
        if self._generation == getattr(_logins, "generation", 0):
            _logins.turns.put(_Turn(self._generation))


_logins = _Logins()


class _InTurn(AbstractAsyncContextManager[None]):
    """A turn of a thread, for a flow."""

    def __init__(self, until: float | None) -> None:
        self._until = until
        self._turn: _Turn | None = None

    async def __aenter__(self) -> None:
        self._turn = _logins.take(self._until)

    async def __aexit__(self, *error: Any) -> None:
        self._turn = None


class BlockingIo(Face):
    """The face for threads: each operation blocks the caller's thread, none longer than its deadline.

    *loop*: the event loop of the application in whose name the thread acts.
    """

    def __init__(self, driver: Driver, loop: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None) -> None:
        super().__init__(driver)
        self._loop = loop

    async def ask(self, ref: Ref, request: Request[R], until: float) -> R:
        return ask(ref, request, min(until, nearest()))

    async def wait(self, reply: Reply[R], until: float) -> R:
        try:
            return reply.result(until - monotonic())
        except TimeoutError:
            if reply.done():
                return reply.result(0)
            raise DeadlineExceeded("no answer before the deadline") from None

    async def sleep(self, seconds: float) -> None:
        sleep(seconds)

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if nearest() == NEVER:
            return fn(*args, **kwargs)
        _, reply = on_worker(partial(fn, *args, **kwargs))
        return await self.wait(reply, nearest())

    async def set_up(self, hook: Callable[[Wire], Any], wire: Wire, until: float) -> None:
        line = self._driver.line(wire)
        rung: list[bool] = []

        def ring() -> None:
            rung.append(True)
            if line is not None:
                line.sever()

        try:
            system.clock.call_at(until, ring)
            if isawaitable(hook(wire)):
                raise ConfigurationError("on_connect of connect() is a plain function; aio.connect() takes a coroutine")
            wire.commit()
        except Exception as error:
            if rung:
                raise DeadlineExceeded("on_connect did not end in time") from error
            raise
        finally:
            # From here on ring() finds nothing to sever.
            if line is not None:
                line.close()

    async def called(self, fn: Callable[[], Any]) -> Any:
        made = await self.blocking(fn)
        return await self.blocking(_awaited, made, self._loop()) if isawaitable(made) else made

    async def readable_until(self, fd: int, until: float) -> None:
        _select(fd, selectors.EVENT_READ, until)

    async def writable_until(self, fd: int, until: float) -> None:
        _select(fd, selectors.EVENT_WRITE, until)

    def _login_turn(self, until: float | None) -> AbstractAsyncContextManager[None]:
        return _InTurn(until)


def _select(fd: int, event: int, until: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, event)
        remaining = until - monotonic()
        if remaining <= 0 or not selector.select(remaining):
            raise DeadlineExceeded("the server did not answer in time")


def _awaited(made: Awaitable[R], loop: asyncio.AbstractEventLoop | None) -> R:
    """What *made* brings: in *loop* where it still runs, since its objects may belong there, else in a loop of its own."""
    import asyncio

    async def whole() -> R:
        return await made

    if loop is not None and loop.is_running():
        return asyncio.run_coroutine_threadsafe(whole(), loop).result(LONGEST_CALL_SECONDS)
    # A loop may run in this thread, which then takes no second one.
    _, reply = on_worker(lambda: asyncio.run(whole()))
    return reply.result(LONGEST_CALL_SECONDS)


def on_worker(fn: Callable[[], R]) -> tuple[threading.Thread, Reply[R]]:
    """Call *fn* in a daemon thread of its own, with the caller's context."""
    reply: Reply[R] = Reply()
    context = copy_context()

    def work() -> None:
        try:
            result = context.run(fn)
        except BaseException as error:  # noqa: BLE001 - it is the answer
            # A coroutine that lets a StopIteration out is taken for ended.
            reply.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        else:
            reply.set_result(result)

    worker = threading.Thread(target=work, name="aurora_actors-worker", daemon=True)
    worker.start()
    return worker, reply


def _together(places: Sequence[Place]) -> Place:
    """Several given hosts as one place, for drivers that try one after the other."""
    pairs = [(place.host, address) for place in places for address in place.addresses]
    return Place(",".join(host for host, _ in pairs), tuple(address for _, address in pairs), given=True)
