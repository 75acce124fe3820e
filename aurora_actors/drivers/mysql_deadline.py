"""What a deadline does to a call of MySQL Connector's: shut its socket, for nothing else ends all its ways to wait."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from aurora_actors.actors.clock import Clock
from aurora_actors.deadlines import NEVER
from aurora_actors.drivers.lines import Line
from aurora_actors.drivers.mysql_session import line_of

__all__ = ["Alarm"]

_clock = Clock()
"""One thread for the deadlines of all connections, which the first deadline starts. Not the clusters' own clock: that one
forgets everything when the last cluster is."""


class Alarm:
    """Ends the calls of one connection, one after the other, each at its deadline.

    ``set`` and ``off`` are called by whoever uses the connection. However many calls there are, one timer of it is due.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._due = self._timer = NEVER
        self.rang = False

    def set(self, conn: Any, due: float) -> None:
        """The call that begins now has to end at *due*, on the clock of ``time.monotonic()``."""
        line = line_of(conn)
        with self._lock:
            self._line, self._due, self.rang = line, due, False
            if due >= self._timer:
                return
            self._timer = due
        _clock.call_at(due, self._look)

    def off(self) -> None:
        """The call has ended: from here on nobody shuts anything."""
        with self._lock:
            line, self._line, self._due = self._line, None, NEVER
        if line is not None:
            line.close()

    def _look(self) -> None:
        with self._lock:
            due = self._timer = self._due
            if due == NEVER:
                return
            if due <= monotonic():
                self._timer = NEVER
                self.rang = True
                if self._line is not None:
                    self._line.sever()
                return
        _clock.call_at(due, self._look)
