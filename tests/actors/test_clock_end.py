"""A clock whose thread ends with its last timer."""

from __future__ import annotations

import queue
from typing import Any

from aurora_actors.actors.clock import Clock
from tests.actors.test_clock import SECONDS


def test_a_clock_that_does_not_linger_ends_with_its_last_timer_and_begins_anew() -> None:
    clock, called = Clock(lingers=False), queue.SimpleQueue[int]()
    for number in range(50):
        clock.call_at(clock.now(), lambda number=number: called.put(number))  # type: ignore[misc]
        while called.get(timeout=SECONDS) != number:
            """One that came twice."""
        timers: Any = clock._timers
        assert number % 2 or timers.ended(SECONDS)
    assert clock.stop(SECONDS)
