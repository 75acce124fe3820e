"""Many waits of one actor in its one thread: an inbox that watches sockets while it has no message.

What an actor waits for is written as flows (``async def``) that await the operations of :class:`Poller`. They advance in
the actor's thread, while it would else sleep; what they bring is picked up by :meth:`Poller.ended`, for which the actor is
sent :class:`FlowsEnded`. Decisions stay in handlers of messages.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any, Generic, ParamSpec, TypeVar

from pykka._envelope import Envelope

from aurora_actors.actors.forking import on_fork
from aurora_actors.actors.reply import Reply
from aurora_actors.flow.running import FlowError
from aurora_actors.model.values import dataclass

__all__ = ["FlowsEnded", "Late", "Poller", "Running", "Task", "join_workers"]

log = logging.getLogger("aurora_actors.actors")

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_WAIT_SECONDS = 3600.0
"""A wait for "never" is looked at again after this long: poll() takes no infinity."""


class Late(TimeoutError):
    """A flow was not done at its deadline."""


@dataclass(frozen=True, slots=True)
class FlowsEnded:
    """Told by the inbox to its actor: flows have come to their end, :meth:`Poller.ended` has them.

    ``error``: watching itself failed, outside of what guards the actor's handlers.
    """

    error: Exception | None = None


class _Wait:
    """What a flow yields to the poller: a descriptor and an event, a reply, or only its own deadline."""

    __slots__ = ("event", "fd", "reply", "until")

    def __init__(self, fd: int, event: int, reply: Reply[Any] | None, until: float) -> None:
        self.fd = fd
        self.event = event
        self.reply = reply
        self.until = until

    def __await__(self) -> Generator[_Wait, None, None]:
        yield self


class Task(Generic[R]):
    """One flow under way. ``result`` or ``error`` is set once it has ended; ``stuck``: its longest step without a wait."""

    __slots__ = ("_flow", "_wait", "error", "is_done", "name", "result", "started", "stuck", "until")

    def __init__(self, name: str, flow: Coroutine[Any, Any, R], until: float) -> None:
        self.name = name
        self._flow = flow
        self._wait: _Wait | None = None
        self.until = until
        self.started = monotonic()
        self.stuck = 0.0
        self.is_done = False
        self.result: R | None = None
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """Code of somebody's that the actor's thread is in just now: of which flow, and since when."""

    name: str
    since: float


class Poller:
    """The inbox of an actor, and the io of its flows. All but :meth:`put` belongs to the actor's thread.

    ``running`` is for others to look at: code that does not come back holds up everything that the actor does.
    """

    def __init__(self) -> None:
        # A finalizer that garbage collection runs inside put() may put again: deque and socket need no lock of ours.
        self._messages: deque[Envelope[Any]] = deque()
        self._tasks: dict[Task[Any], None] = {}
        self._ended: deque[Task[Any]] = deque()
        self._sleeping = False
        self.running: Running | None = None
        self._selector = _selector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def __del__(self) -> None:
        # Its actor never ran, or belonged to the process that this one was forked from.
        if hasattr(self, "_waker"):
            self._selector.close()
            self._woken.close()
            self._waker.close()

    # The inbox that pykka sees.

    def put(self, envelope: Envelope[Any], /) -> None:
        """Any thread; never waits."""
        self._messages.append(envelope)
        self._wake()

    def get(self) -> Envelope[Any]:
        """The next message; flows advance while there is none."""
        while not self._messages:
            if self._ended:
                return Envelope(FlowsEnded())
            try:
                self._turn(None)
            except Exception as error:  # noqa: BLE001 - the actor's guard gets it
                return Envelope(FlowsEnded(error))
        return self._messages.popleft()

    def empty(self) -> bool:
        return not self._messages

    def qsize(self) -> int:
        return len(self._messages)

    # What the actor does with flows.

    def start(self, name: str, flow: Coroutine[Any, Any, R], until: float) -> Task[R]:
        """Take *flow* up to its first wait. At *until* (``time.monotonic()``) it is thrown :class:`Late`."""
        task = Task(name, flow, until)
        self._tasks[task] = None
        self._advance(task, None)
        return task

    def cancel(self, task: Task[Any]) -> None:
        """End a flow where it waits: its ``finally`` runs, it brings nothing."""
        if not task.is_done:
            self._forget(task)
            task.is_done = True
            _close(task)
        elif task in self._ended:
            self._ended.remove(task)

    def cancel_all(self) -> None:
        for task in list(self._tasks):
            self.cancel(task)
        self._ended.clear()

    def advance(self) -> None:
        """Let flows advance that can, without waiting: before a decision that rests on what has arrived."""
        self._turn(0.0)

    def ended(self) -> list[Task[Any]]:
        """The flows that have ended since the last call."""
        done = list(self._ended)
        self._ended.clear()
        return done

    def close(self) -> None:
        self.cancel_all()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    # What flows await.

    def now(self) -> float:
        return monotonic()

    async def readable(self, fd: int) -> None:
        """Wait until there is something to read."""
        await _Wait(fd, selectors.EVENT_READ, None, float("inf"))

    async def writable(self, fd: int) -> None:
        """Wait until something can be written, or a connect has ended."""
        await _Wait(fd, selectors.EVENT_WRITE, None, float("inf"))

    async def wait(self, reply: Reply[R], until: float) -> R:
        """The result of *reply*. Raises ``TimeoutError`` at *until*."""
        if not reply.done():
            await _Wait(-1, 0, reply, until)
        return reply.result(0)

    async def sleep(self, seconds: float) -> None:
        await _Wait(-1, 0, None, monotonic() + seconds)

    async def blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking code on a daemon thread of its own; whoever stops waiting leaves it behind."""
        return await self.wait(self.begin_blocking(fn, *args, **kwargs), float("inf"))

    def begin_blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Reply[R]:
        """The same without waiting for it."""
        reply: Reply[R] = Reply()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the answer
                # A coroutine that lets a StopIteration out is taken for ended.
                reply.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
            else:
                reply.set_result(result)

        worker = threading.Thread(target=work, name="aurora_actors-probe", daemon=True)
        _workers.difference_update([each for each in _workers.copy() if not each.is_alive()])
        worker.start()
        _workers.add(worker)
        return reply

    def _wake(self) -> None:
        # Put first, look second; the sleeper says that it sleeps first and looks for messages second.
        if self._sleeping:
            try:
                self._waker.send(b"\0")
            except OSError:
                return  # full: it wakes up anyhow; closed: the actor has stopped

    def _turn(self, timeout: float | None) -> None:
        waits = [task._wait for task in self._tasks if task._wait is not None]
        soonest = min((min(task.until, task._wait.until) for task in self._tasks if task._wait is not None), default=None)
        if soonest is not None:
            left = min(max(0.0, soonest - monotonic()), LONGEST_WAIT_SECONDS)
            timeout = left if timeout is None else min(timeout, left)
        if any(wait.reply is not None and wait.reply.done() for wait in waits):
            timeout = 0.0
        self._sleeping = True
        try:
            if self._messages:
                timeout = 0.0
            ready = {key.fd for key, _ in self._selector.select(timeout)}
        finally:
            self._sleeping = False
        if self._woken.fileno() in ready:
            self._drain()
        now = monotonic()
        for task in list(self._tasks):
            wait = task._wait
            if wait is None or task.is_done:
                continue
            if wait.fd in ready or (wait.reply is not None and wait.reply.done()) or now >= wait.until:
                self._advance(task, None)
            elif now >= task.until:
                self._late(task)

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except OSError:
            return  # nothing more to read

    def call(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run code of the flow *name* that is no flow itself."""
        self.running = Running(name, monotonic())
        try:
            return fn(*args, **kwargs)
        finally:
            self.running = None

    def _advance(self, task: Task[Any], error: Exception | None) -> None:
        self._unwatch(task)
        began = monotonic()
        self.running = Running(task.name, began)
        try:
            wait = task._flow.send(None) if error is None else task._flow.throw(error)
        except StopIteration as stop:
            task.result = stop.value
            self._done(task)
        except BaseException as raised:  # noqa: BLE001 - whoever started the flow is told
            # What would end the thread of an actor is an error of the flow like any other.
            task.error = raised if isinstance(raised, Exception) else RuntimeError(f"it raised {raised!r}")
            self._done(task)
        else:
            if isinstance(wait, _Wait):
                try:
                    self._watch(task, wait)
                except (KeyError, ValueError, OSError) as refused:
                    # A descriptor that is closed, or that another flow waits for.
                    self._advance(task, OSError(f"descriptor {wait.fd} cannot be waited for: {refused!r}"))
                except TypeError:
                    self._advance(task, TypeError(f"{wait.fd!r} is no descriptor"))
            else:
                task.error = FlowError(f"{task.name} awaited something that is neither a flow nor the io it was given")
                _close(task)
                self._done(task)
        finally:
            self.running = None
        task.stuck = max(task.stuck, monotonic() - began)

    def _late(self, task: Task[Any]) -> None:
        """Its deadline has passed: it is thrown :class:`Late`, and ended where it goes on waiting all the same."""
        late = Late(f"{task.name} was not done in time")
        self._advance(task, late)
        if not task.is_done:
            task.error = late
            _close(task)
            self._done(task)

    def _done(self, task: Task[Any]) -> None:
        self._forget(task)
        task.is_done = True
        self._ended.append(task)

    def _watch(self, task: Task[Any], wait: _Wait) -> None:
        if wait.fd >= 0:
            self._selector.register(wait.fd, wait.event)
        task._wait = wait
        if wait.reply is not None:
            wait.reply.then(self._wake)

    def _unwatch(self, task: Task[Any]) -> None:
        wait, task._wait = task._wait, None
        if wait is not None and wait.fd >= 0:
            self._selector.unregister(wait.fd)
        if wait is not None and wait.reply is not None:
            wait.reply.forget(self._wake)

    def _forget(self, task: Task[Any]) -> None:
        self._unwatch(task)
        self._tasks.pop(task, None)


def _close(task: Task[Any]) -> None:
    try:
        task._flow.close()
    except Exception as error:  # noqa: BLE001 - its clean-up may raise anything, and has no waiter any more
        log.warning("%s failed while it was ended: %s: %s", task.name, type(error).__name__, error)


_workers: set[threading.Thread] = set()
"""Those that run blocking code for monitors; single operations only, by whatever actor."""
on_fork(_workers.clear)


def join_workers(seconds: float) -> None:
    """Wait for the blocking code of monitors that have stopped; what takes longer is left behind."""
    until = monotonic() + seconds
    for worker in _workers.copy():
        worker.join(max(0.0, until - monotonic()))


def _selector() -> selectors.BaseSelector:
    # poll() needs no descriptor of its own: a process that has none left still watches its hosts.
    kind: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.DefaultSelector)
    return kind()
