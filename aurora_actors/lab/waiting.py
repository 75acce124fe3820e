"""Bounded waits for facts that only polling can show (a file of the server, a row of a view)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .values import LabError

__all__ = ["until"]

PAUSE_SECONDS = 0.004
"""Between two looks: short beside the tens of milliseconds that a server needs, long beside the cost of a look."""


def until(
    fact: Callable[[], bool],
    what: str,
    *,
    seconds: float,
    stopping: threading.Event,
    pause: float = PAUSE_SECONDS,
) -> None:
    """Wait until *fact* is true; :class:`LabError` naming *what* after *seconds*, or when the lab is stopping."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain until {what}")
        if stopping.wait(pause):
            raise LabError(f"the lab was stopped while it waited until {what}")
