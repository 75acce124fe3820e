"""Deadlines: how long everything within a block may take, in threads and in asyncio alike.

    with aurora_actors.deadline(2.0):
        conn = aurora_actors.connect(…)
        conn.execute(…)

A deadline is a context variable: a task inherits that of the task that made it; a new thread begins without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import cast

from aurora_actors.errors import ConfigurationError

__all__ = ["END_SECONDS", "NEVER", "deadline", "limited", "nearest"]

NEVER = math.inf
END_SECONDS = 0.5
"""How long after its deadline a statement may take to be cancelled, and a transaction to be rolled back: a login and a few
round trips to another region. Then the socket is shut."""

_until: ContextVar[float] = ContextVar("aurora_actors_deadline", default=NEVER)
nearest = _until.get
"""The deadline in force, on the clock of ``time.monotonic()``; ``NEVER``, the very object: there is none. Costs no call of
Python's."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything of this package within the block: connect, statements, a failover's wait, retries.

    Of nested deadlines the nearest is in force. A statement that runs when it comes is cancelled; what has not begun is
    refused. Both raise ``DeadlineExceededError``. Zero or less has passed already. Raises ``ConfigurationError`` for what
    is no number of seconds.
    """
    given = cast("object", seconds)
    if not isinstance(given, int | float) or isinstance(given, bool) or math.isnan(given):
        raise ConfigurationError(f"deadline({given!r}): expected a number of seconds, such as 2.5")
    with limited(seconds):
        yield


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """The same for a limit of ours; None: there is none."""
    if seconds is None:
        yield
        return
    token = _until.set(min(_until.get(), monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)
