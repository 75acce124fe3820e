"""Messages that are due later: one thread for all timers of the process, and a clock for tests turned by hand.

Nothing is ever cancelled: a tick carries the generation of whoever set it, who ignores one that is out of date.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final, Protocol, TypeAlias

from .base import ActorStopped, Ping, Ref, tell
from .forking import on_fork

__all__ = ["Clock", "HandClock", "Timer", "settle_actors", "suspended"]

logger = logging.getLogger("aurora_actors.actors")

LONGEST_WAIT_SECONDS: Final = 3600.0
"""The thread looks at the time at least this often; a wait for "never" (infinity) would raise OverflowError."""

_Entry: TypeAlias = tuple[float, int, Ref | None, object]
END: Final[_Entry] = (-math.inf, -1, None, None)
"""Comes before all others, and ends the thread."""


def suspended() -> float:
    """For how many seconds the machine has been suspended, on some scale: ``time.monotonic()`` may stand still meanwhile.

    Where the kernel does not count them, a wall clock that was put forward looks the same.
    """
    now = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
    return now - monotonic()


class Timer(Protocol):
    """What actors need of a clock."""

    def now(self) -> float:
        """Seconds on a monotonic clock."""
        ...

    def tell_at(self, due: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` when :meth:`now` reaches ``due``; at once if it has."""
        ...

    def tell_after(self, seconds: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` in ``seconds``."""
        ...


class Clock:
    """The timer of the process, on ``time.monotonic()``. The first timer starts its one daemon thread.

    *lingers*: the thread waits for more after the last timer. Else it ends with it, and a timer may come twice.
    """

    def __init__(self, *, lingers: bool = True) -> None:
        self._lingers = lingers
        self.reset()

    def reset(self) -> None:
        """Forget thread, timers and lock: for a forked child, where the thread does not exist."""
        # Reentrant: a garbage collection under it may run a finalizer that sets a timer, too.
        self._lock = threading.RLock()
        self._counter = count()
        self._timers: _Timers | None = None

    def __repr__(self) -> str:
        timers = self._timers
        return "<Clock idle, 0 timers>" if timers is None else f"<Clock running, {len(timers)} timers>"

    @property
    def running(self) -> bool:
        return self._timers is not None

    def now(self) -> float:
        """Seconds on ``time.monotonic()``."""
        return monotonic()

    def tell_after(self, seconds: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` in ``seconds``; any thread. Raises as :meth:`tell_at`."""
        self.tell_at(monotonic() + seconds, ref, message)

    def tell_at(self, due: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` at ``due``; any thread.

        Raises RuntimeError if the process can start no more threads; the timer is then not set.
        """
        self._set(due, ref, message)

    def call_at(self, due: float, fn: Callable[[], object]) -> None:
        """Call ``fn``, which never waits, in the clock's thread at ``due``; any thread. Raises as :meth:`tell_at`."""
        self._set(due, None, fn)

    def _set(self, due: float, ref: Ref | None, message: object) -> None:
        entry = (due, next(self._counter), ref, message)
        timers = self._timers or self._started()
        while not timers.put(entry):
            with self._lock:
                self._timers = None if self._timers is timers else self._timers
            timers = self._started()

    def stop(self, seconds: float) -> bool:
        """Drop all timers and end the thread; False if it still runs after ``seconds``. A later timer starts anew."""
        return self.let_go()(seconds)

    def let_go(self) -> Callable[[float], bool]:
        """The same in two steps: no timer set from now on is dropped, and what is given waits for the thread."""
        on_fork(self.reset)
        with self._lock:
            timers, self._timers = self._timers, None
        if timers is None:
            return lambda _: True
        timers.put(END)
        return timers.ended

    def _started(self) -> _Timers:
        on_fork(self.reset)  # before the lock is held for the first time: another thread may fork meanwhile
        with self._lock:
            if self._timers is None:
                timers = _Timers(self._lingers)
                try:
                    timers.thread.start()
                except BaseException:  # a signal handler's: whether the thread runs nobody knows
                    timers.put(END)
                    raise
                self._timers = timers
            return self._timers


class _Timers:
    """What one thread of a clock has before it. No lock: a signal handler may raise in :meth:`put`."""

    def __init__(self, lingers: bool) -> None:
        self._waits = True
        self._lingers = lingers
        self._new: deque[_Entry] = deque()
        self._heap: list[_Entry] = []
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._wakes_at = math.inf
        self.thread = threading.Thread(target=self._run, name="aurora_actors-clock", daemon=True)

    def __len__(self) -> int:
        return len(self._heap) + len(self._new)

    def __bool__(self) -> bool:
        return True

    def ended(self, seconds: float) -> bool:
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def put(self, entry: _Entry) -> bool:
        """Any thread. False: the thread is ending, and may not have seen it."""
        self._new.append(entry)
        # Put first, look second; the thread says first when it wakes up, or ends, and looks second.
        if entry[0] < self._wakes_at:
            self._woken.put(None)
        return self._waits

    def _run(self) -> None:
        began = False
        while True:
            due = self._pop_due()
            began = began or bool(due or self._heap)
            for at, _, ref, message in due:
                if at == END[0]:
                    return
                try:
                    if ref is not None:
                        tell(ref, message)
                    elif callable(message):
                        message()
                except BaseException:
                    logger.exception("The clock could not tell %s", ref or message)
            if due:
                del due
                continue
            self._wakes_at = self._heap[0][0] if self._heap else math.inf
            if began and not self._lingers and self._is_over():
                return
            if not self._new:
                with suppress(Empty):
                    self._woken.get(timeout=min(max(0.0, self._wakes_at - monotonic()), LONGEST_WAIT_SECONDS))
            self._wakes_at = -math.inf

    def _is_over(self) -> bool:
        """Whether nothing is to come; from then on ``put`` says so. What comes at this very moment may be met twice."""
        self._waits = bool(self._heap)
        self._waits = self._waits or bool(self._new)
        return not self._waits

    def _pop_due(self) -> list[_Entry]:
        while self._new:
            heappush(self._heap, self._new.popleft())
        now = monotonic()
        due: list[_Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap))
        return due


class HandClock:
    """A clock for tests: time passes in :meth:`advance` only, in the thread that calls it."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._heap: list[tuple[float, int, Ref, object]] = []
        self._counter = count()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<HandClock at {self._now}, {len(self._heap)} timers>"

    def now(self) -> float:
        """The seconds to which the clock was turned."""
        return self._now

    def tell_after(self, seconds: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` when the clock was turned on by ``seconds``; any thread."""
        self.tell_at(self._now + seconds, ref, message)

    def tell_at(self, due: float, ref: Ref, message: object) -> None:
        """Tell ``message`` to ``ref`` when the clock is turned past ``due``, at the next turn if it was already."""
        with self._lock:
            heappush(self._heap, (due, next(self._counter), ref, message))

    def pending(self) -> tuple[tuple[float, object], ...]:
        """When what is due, soonest first."""
        with self._lock:
            return tuple((due, message) for due, _, _, message in sorted(self._heap, key=lambda entry: entry[:2]))

    def advance(self, seconds: float, settle: Callable[[], object] = lambda: None) -> None:
        """Turn the clock on by ``seconds``, stopping at each due time; timers set meanwhile are met, too.

        ``settle`` is called before the first step, after each, and at the end: let it return when the actors have
        nothing to do, as ``lambda: settle_actors(refs, 5)`` does.
        """
        target = self._now + seconds
        settle()
        while (entry := self._pop(target)) is not None:
            self._now = max(self._now, entry[0])
            tell(entry[2], entry[3])
            settle()
        self._now = target
        settle()

    def _pop(self, target: float) -> tuple[float, int, Ref, object] | None:
        with self._lock:
            return heappop(self._heap) if self._heap and self._heap[0][0] <= target else None


def settle_actors(refs: Iterable[Ref], seconds: float) -> None:
    """Wait until the actors have nothing left to tell each other: pinged, none handled anything since the last round.

    Stopped actors have nothing to do. Raises TimeoutError after ``seconds``. For tests.
    """
    until = monotonic() + seconds
    refs = tuple(refs)
    before: list[int] = []
    while (handled := [_handled(ref, until) for ref in refs]) != before:
        before = handled


def _handled(ref: Ref, until: float) -> int:
    ping = Ping()
    tell(ref, ping)
    try:
        return ping.reply.result(max(0.0, until - monotonic()))
    except ActorStopped:
        return -1
    except TimeoutError:
        raise TimeoutError(f"{ref.actor_class.__name__} is still busy") from None
