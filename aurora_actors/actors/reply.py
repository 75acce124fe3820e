"""An answer that one thread gives and others wait for, made of nothing but operations of the interpreter's own.

``concurrent.futures.Future``, ``threading.Event`` and ``threading.Condition`` are Python code round a lock: what a signal
handler raises between two steps of it leaves the lock held for ever, and hangs whoever answers, an actor for one.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = ["Reply", "Withdrawn", "brought"]

R = TypeVar("R")


class Withdrawn(Exception):
    """Whoever asked has given up."""


class Reply(Generic[R]):
    """Settled once: with a result, an error, or by being withdrawn. Any thread, finalizers too; nothing in it is locked."""

    __slots__ = ("_outcome", "_waiting")

    def __init__(self) -> None:
        self._outcome: dict[str, tuple[R | None, BaseException | None]] = {}
        self._waiting: deque[Callable[[], object]] = deque()

    def __repr__(self) -> str:
        return f"<Reply {'settled' if self._outcome else 'open'}, {len(self._waiting)} waiting>"

    def done(self) -> bool:
        return bool(self._outcome)

    def set_result(self, value: R) -> bool:
        """False if it is settled already."""
        return self._settle((value, None))

    def set_exception(self, error: BaseException) -> bool:
        """False if it is settled already. One error object for each reply: its traceback grows where it is raised."""
        return self._settle((None, error))

    def cancel(self) -> bool:
        """Withdraw the question; False if there is an answer."""
        self._settle((None, Withdrawn()))
        return self.cancelled()

    def cancelled(self) -> bool:
        return isinstance(self._outcome.get("", (None, None))[1], Withdrawn)

    def result(self, seconds: float) -> R:
        """The result. Blocks; raises the error, or ``TimeoutError`` after *seconds*."""
        self._wait(seconds)
        outcome = self._outcome.get("")
        if outcome is None:
            raise TimeoutError("no answer in time")
        value, error = outcome
        if error is not None:
            try:
                raise error
            finally:
                # The error refers to this frame by its traceback: no cycle through it.
                del self, outcome, error
        return value  # type: ignore[return-value]

    def exception(self, seconds: float) -> BaseException | None:
        """The error, None for a result. Blocks; raises ``TimeoutError`` after *seconds*."""
        self._wait(seconds)
        outcome = self._outcome.get("")
        if outcome is None:
            raise TimeoutError("no answer in time")
        return outcome[1]

    def then(self, callback: Callable[[], object]) -> None:
        """Call *callback*, which neither waits nor raises, once: in the thread that settles, or here if it is settled."""
        self._waiting.append(callback)
        # Put first, look second; whoever settles does it the other way round.
        if self._outcome:
            self._call()

    def forget(self, callback: Callable[[], object]) -> None:
        """Whoever gave *callback* to ``then`` waits no more."""
        with suppress(ValueError):
            self._waiting.remove(callback)

    def _settle(self, outcome: tuple[R | None, BaseException | None]) -> bool:
        # One operation that only one caller can win.
        won = self._outcome.setdefault("", outcome) is outcome
        if won:
            self._call()
        return won

    def _call(self) -> None:
        waiting = self._waiting
        while True:
            try:
                callback = waiting.popleft()
            except IndexError:
                return
            callback()

    def _wait(self, seconds: float) -> None:
        if self._outcome or seconds <= 0:
            return
        gate = allocate_lock()
        gate.acquire()
        self.then(gate.release)
        try:
            gate.acquire(timeout=min(seconds, TIMEOUT_MAX))
        finally:
            if not self._outcome:
                self.forget(gate.release)


async def brought(reply: Reply[R]) -> R:
    """The result, for a task: the event loop goes on meanwhile. A task that is cancelled leaves *reply* as it is."""
    import asyncio  # 30 ms that only programs with an event loop pay, which have it loaded

    loop = asyncio.get_running_loop()
    here: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        # The loop may be closed by now, its task long gone.
        with suppress(RuntimeError):
            # Twice, since an event loop swallows what a signal handler raises in a callback, and goes on without.
            loop.call_soon_threadsafe(_resolve, here)
            loop.call_soon_threadsafe(_resolve, here)

    reply.then(tell)
    try:
        await here
    finally:
        reply.forget(tell)
    return reply.result(0)


def _resolve(here: asyncio.Future[None]) -> None:
    if not here.done():
        here.set_result(None)
