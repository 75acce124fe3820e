"""Messages that are due later: one thread for all timers of the process, and a clock for tests turned by hand.

Nothing is ever cancelled: a tick carries the generation of whoever set it, who ignores one that is out of date.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Final, Protocol, TypeAlias

from .base import ActorStopped, Ping, Ref, tell
from .forking import on_fork

__all__ = ["Clock", "HandClock", "Timer", "settle_actors"]

logger = logging.getLogger("aurora_actors.actors")

LONGEST_WAIT_SECONDS: Final = 3600.0
"""The thread looks at the time at least this often; a wait for "never" (infinity) would raise OverflowError."""

_Entry: TypeAlias = tuple[float, int, Ref | None, object]


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
    """The timer of the process, on ``time.monotonic()``. The first timer starts its one daemon thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget thread, timers and lock: for a forked child, where the thread does not exist."""
        # Its lock is reentrant: a garbage collection inside tell_at() may run a finalizer that sets a timer, too.
        self._condition = threading.Condition()
        self._heap: list[_Entry] = []
        self._counter = count()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Clock {'idle' if self._thread is None else 'running'}, {len(self._heap)} timers>"

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
        if self._thread is None:
            on_fork(self.reset)  # before the lock is held for the first time: another thread may fork meanwhile
        with self._condition:
            if self._thread is None:
                self._start()
            entry = (due, next(self._counter), ref, message)
            heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._condition.notify()

    def stop(self, seconds: float) -> bool:
        """Drop all timers and end the thread; False if it still runs after ``seconds``. A later timer starts anew."""
        on_fork(self.reset)
        with self._condition:
            thread, self._thread = self._thread, None
            self._heap.clear()
            self._condition.notify_all()
        if thread is None:
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="aurora_actors-clock", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        thread = threading.current_thread()
        condition = self._condition
        with condition:  # free once _start() has said which thread is the clock's
            pass
        while True:
            with condition:
                if self._thread is not thread:
                    return
                due = self._pop_due()
                if not due:
                    condition.wait(self._pause())
                    continue
            for _, _, ref, message in due:  # outside the lock: telling runs code of others
                try:
                    if ref is not None:
                        tell(ref, message)
                    elif callable(message):
                        message()
                except BaseException:
                    logger.exception("The clock could not tell %s", ref or message)
            del due

    def _pop_due(self) -> list[_Entry]:
        now = monotonic()
        due: list[_Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap))
        return due

    def _pause(self) -> float | None:
        if not self._heap:
            return None
        return min(max(0.0, self._heap[0][0] - monotonic()), LONGEST_WAIT_SECONDS)


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
