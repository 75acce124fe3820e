"""One thread and one queue that bring all signals to their receivers, in the order in which they were sent.

No receiver runs in an actor or in a thread of the application that only sent. A slow receiver delays the
deliveries after it and nothing else. The thread starts with the first event that somebody wants.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from inspect import iscoroutinefunction
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from .forking import on_fork
from .reply import Reply

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

__all__ = ["Dispatcher", "Receiver", "Source", "TaskLine", "dispatcher", "loop_of"]

logger = logging.getLogger("aurora_actors.signals")

Receiver: TypeAlias = Callable[..., Any]

QUEUE_LIMIT: Final = 10_000
"""Events that may wait: a stuck receiver costs a few megabytes, and a burst of a large fleet still fits."""
SLOW_SECONDS: Final = 1.0
"""A receiver that runs longer is logged: a failover is over in less."""
LOG_PAUSE_SECONDS: Final = 60.0
"""At most one line a minute about the same slow receiver, and one about dropped events."""


class Source(Protocol):
    """What the dispatcher needs of a signal."""

    name: str

    def receivers_for(self, sender: Any) -> Iterable[Receiver]:
        """A copy of the receivers that are connected at this moment."""
        ...

    def line_for(self, receiver: Receiver) -> TaskLine | None:
        """Where the events of a coroutine function go; None for any other receiver."""
        ...

    def disconnect(self, receiver: Receiver) -> None:
        """Forget a receiver."""
        ...


class _Delivery:
    __slots__ = ("arguments", "sender", "source")

    def __init__(self, source: Source, sender: Any, arguments: Mapping[str, Any]) -> None:
        self.source = source
        self.sender = sender
        self.arguments = arguments


class _Marker:
    """Travels through the queue behind everything that was put before it."""

    __slots__ = ("passed", "stops")

    def __init__(self, *, stops: bool) -> None:
        self.passed: Reply[None] = Reply()
        self.stops = stops


class Dispatcher:
    """Delivers events in the order of :meth:`put`, each receiver guarded, in one daemon thread.

    ``limit`` is how many events may wait; ``slow`` the seconds after which a receiver is logged as slow.
    """

    def __init__(self, *, limit: int = QUEUE_LIMIT, slow: float = SLOW_SECONDS) -> None:
        self._limit = limit
        self._slow = slow
        self.errors = 0
        """Errors that receivers raised."""
        self.dropped = 0
        """Events that nobody was given because too many waited."""
        self._forget_all()

    def _forget_all(self) -> None:
        # SimpleQueue and RLock: a garbage collection inside put() may run a finalizer that puts, too.
        self._queue: SimpleQueue[_Delivery | _Marker] = SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._running = "nothing"
        self._drop_logged: float | None = None
        self._slow_logged: dict[tuple[int, int], float] = {}

    def __repr__(self) -> str:
        state = "idle" if self._thread is None else "running"
        return f"<Dispatcher {state}, {self._queue.qsize()} waiting, {self.dropped} dropped, {self.errors} errors>"

    @property
    def running(self) -> bool:
        return self._thread is not None

    def put(self, source: Source, sender: Any, arguments: Mapping[str, Any]) -> None:
        """Queue one event. Called in any thread; never waits for a receiver, never raises."""
        if self._queue.qsize() >= self._limit:
            self._drop(source)
            return
        self._enqueue(_Delivery(source, sender, arguments))

    def settle(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until everything put before was delivered; False if it was not.

        Delivered to a coroutine function means handed to its event loop. For tests, and for reports at the end of
        a program. Raises RuntimeError in a receiver, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("settle() was called by a receiver, in the thread that it would wait for")
        if self._thread is None and self._queue.empty():
            return True
        marker = _Marker(stops=False)
        self._enqueue(marker)
        try:
            marker.passed.result(timeout)
        except TimeoutError:
            return False
        return True

    def stop(self, seconds: float) -> bool:
        """Deliver what waits, then end the thread; False if it still runs after ``seconds``.

        A later event starts a new thread.
        """
        on_fork(self.reset)
        with self._lock:  # held while the thread starts: one that has not cannot be joined
            thread = self._thread
        if thread is None:
            return True
        self._queue.put(_Marker(stops=True))
        if thread is threading.current_thread():
            return False
        thread.join(seconds)
        return not thread.is_alive()

    def reset(self) -> None:
        """Forget thread, queue and lock: for a forked child, where the thread does not exist."""
        self._forget_all()
        self.errors = self.dropped = 0

    def _enqueue(self, item: _Delivery | _Marker) -> None:
        queue = self._queue
        queue.put(item)
        # Put first, look second; the thread that ends looks the other way round, so no event is left behind.
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        on_fork(self.reset)  # before the lock is held for the first time: another thread may fork meanwhile
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="aurora_actors-signals", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                logger.exception("The thread that delivers signals did not start; the next event tries again")
            else:
                self._thread = thread

    def _run(self) -> None:
        queue = self._queue
        with self._lock:  # free once _start() has said whose thread it is; a signal handler may have raised before
            if self._thread is not threading.current_thread():
                return
        while True:
            item = queue.get()
            if isinstance(item, _Delivery):
                self._deliver(item)
                continue
            item.passed.set_result(None)
            if item.stops:
                break
        self._thread = None
        if not queue.empty():
            self._start()

    def _deliver(self, delivery: _Delivery) -> None:
        source, sender, arguments = delivery.source, delivery.sender, delivery.arguments
        try:
            for receiver in source.receivers_for(sender):
                line = source.line_for(receiver)
                if line is None:
                    self._call(source, receiver, sender, arguments)
                elif not line.put(receiver, sender, arguments):
                    source.disconnect(receiver)
                    logger.info("%s of %s left: its event loop is closed", _name(receiver), source.name)
        except BaseException:
            self.errors += 1
            logger.exception("Signal %s could not be delivered", source.name)

    def _call(self, source: Source, receiver: Receiver, sender: Any, arguments: Mapping[str, Any]) -> None:
        self._running = _name(receiver)
        started = monotonic()
        try:
            receiver(sender, **arguments)
        except BaseException:  # SystemExit included: a receiver may not end the thread of all the others
            self.errors += 1
            logger.exception("%s, a receiver of %s, raised; it stays connected", _name(receiver), source.name)
        finally:
            self._running = "nothing"
        seconds = monotonic() - started
        if seconds >= self._slow:
            self._log_slow(source, receiver, seconds)

    def _log_slow(self, source: Source, receiver: Receiver, seconds: float) -> None:
        now = monotonic()
        recent = {key: at for key, at in self._slow_logged.items() if now - at < LOG_PAUSE_SECONDS}
        self._slow_logged = recent
        # A bound method is a new object each time; its function and its instance are not.
        key = id(getattr(receiver, "__func__", receiver)), id(getattr(receiver, "__self__", None))
        if key in recent:
            return
        recent[key] = now
        logger.warning(
            "%s, a receiver of %s, took %.1f s; all signals wait meanwhile", _name(receiver), source.name, seconds
        )

    def _drop(self, source: Source) -> None:
        self.dropped += 1
        now = monotonic()
        if self._drop_logged is not None and now - self._drop_logged < LOG_PAUSE_SECONDS:
            return
        self._drop_logged = now
        logger.warning(
            "%d signals dropped so far (last: %s): %d wait for a receiver (running: %s)",
            self.dropped,
            source.name,
            self._limit,
            self._running,
        )


class TaskLine:
    """The events of one coroutine function: awaited in the loop it was connected in, one after another.

    Holds the loop, never the receiver, so that a weak connection stays weak.
    """

    __slots__ = ("_limit", "_loop", "_task", "_waiting", "dropped", "errors")

    def __init__(self, loop: AbstractEventLoop, *, limit: int = QUEUE_LIMIT) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: deque[tuple[Receiver, Any, Mapping[str, Any]]] = deque()
        self._task: Task[None] | None = None
        self.errors = 0
        self.dropped = 0

    def belongs_to(self, loop: AbstractEventLoop) -> bool:
        """Whether events of this line are awaited in ``loop``."""
        return self._loop is loop

    def put(self, receiver: Receiver, sender: Any, arguments: Mapping[str, Any]) -> bool:
        """Called in the dispatcher's thread. False if the loop is closed."""
        if len(self._waiting) >= self._limit and not self._loop.is_closed():
            if self.dropped == 0:
                logger.warning("%s is too slow: %d events wait, further ones are dropped", _name(receiver), self._limit)
            self.dropped += 1
            return True
        self._waiting.append((receiver, sender, arguments))
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            self._waiting.clear()
            return False
        return True

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        from asyncio import CancelledError, current_task

        task = current_task()
        while self._waiting:
            receiver, sender, arguments = self._waiting.popleft()
            try:
                await receiver(sender, **arguments)
            except KeyboardInterrupt:  # may be the user's, meant for whatever runs in this loop
                raise
            except BaseException as error:
                # Our own task is cancelled by asyncio.run() at its end; a receiver's own cancellation is its error.
                if isinstance(error, CancelledError) and task is not None and task.cancelling():
                    raise
                self.errors += 1
                logger.exception("%s, a receiver of a signal, raised; it stays connected", _name(receiver))
            del receiver, sender, arguments


def loop_of(receiver: Receiver, signal: str) -> AbstractEventLoop | None:
    """The running event loop, which shall await ``receiver``; None if it is no coroutine function.

    Raises RuntimeError for a coroutine function where no loop runs. ``signal`` is for the message.
    """
    if not (iscoroutinefunction(receiver) or iscoroutinefunction(getattr(receiver, "__call__", None))):  # noqa: B004
        return None
    import asyncio  # not needed, and not loaded, without coroutine functions

    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    raise RuntimeError(
        f"{_name(receiver)} is a coroutine function: connect it to {signal} where the loop runs that shall await it"
    )


def _name(receiver: Receiver) -> str:
    return str(getattr(receiver, "__qualname__", None) or type(receiver).__qualname__)


dispatcher: Final = Dispatcher()
"""The dispatcher of the process."""
