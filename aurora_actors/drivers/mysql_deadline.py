"""What a deadline does to a call of MySQL Connector's: kill its statement, and shut its socket where that does not do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from aurora_actors.actors.clock import Clock
from aurora_actors.actors.system import system
from aurora_actors.deadlines import END_SECONDS, NEVER
from aurora_actors.drivers.lines import Line
from aurora_actors.drivers.mysql_killing import Killing
from aurora_actors.drivers.mysql_session import line_of
from aurora_actors.flow.io import Io

__all__ = ["Alarm"]

_clock = Clock(lingers=False)
"""One thread for the deadlines of all connections, which ends with the last of them. Not the clusters' own clock: that one
forgets everything when the last cluster is, or, on demand, the last call."""


class Alarm:
    """Ends the calls of one connection, one after the other, each at its deadline.

    ``set`` and ``off`` are called by whoever uses the connection. However many calls there are, one timer of it is due.
    """

    def __init__(self, *, on_demand: bool = False) -> None:
        self._lock = threading.Lock()
        self._on_demand = on_demand
        self._line: Line | None = None
        self._kills: Callable[[], Killing | None] | None = None
        self._killing: Killing | None = None
        self._due = self._timer = NEVER
        self.rang = False

    def set(self, conn: Any, due: float, kills: Callable[[], Killing | None]) -> None:
        """The call that begins now has to end at *due*, on the clock of ``time.monotonic()``.

        What *kills* gives then, if anything, has ``END_SECONDS`` more. Any thread may call it.
        """
        line = line_of(conn)
        with self._lock:
            self._line, self._kills, self._killing, self._due, self.rang = line, kills, None, due, False
            if due >= self._timer:
                return
            self._timer = due
        self._call_at(due)

    def ended(self) -> bool:
        """The call has come back: whether it was ended. If not, nobody ends it from here on."""
        # A statement whose socket is shut is still to be killed.
        return self.rang or self.killed()

    def killed(self) -> bool:
        """The same, whether by a KILL."""
        with self._lock:
            sent = self._killing is not None and self._killing.is_sent()
            if not sent:
                self._kills, self._due = None, NEVER
            return sent

    async def settled(self, io: Io) -> bool:
        """Whether the KILL has done what it was to, and meets no statement that comes."""
        return self._killing is not None and await self._killing.done(io, self._due)

    def sever(self) -> None:
        """End the session: nothing more is to come of it."""
        with self._lock:
            self._shut()

    def off(self, *, settled: bool = False) -> None:
        """The call is over: from here on nobody shuts anything. *settled*: no KILL can meet the next statement."""
        if not settled and not self.rang and self.killed():
            # Whoever waited for it was interrupted himself.
            self.sever()
        with self._lock:
            line, self._line, self._killing, self._due = self._line, None, None, NEVER
            if self._on_demand:
                self._timer = NEVER
        if line is not None:
            line.close()

    def _shut(self) -> None:
        self.rang = True
        if self._line is not None:
            self._line.sever()

    def _look(self) -> None:
        with self._lock:
            due = self._timer = self._due
            if due == NEVER:
                return
            if due <= monotonic():
                kills, self._kills = self._kills, None
                self._killing = self._killing or (kills() if kills is not None else None)
                if kills is None or self._killing is None or not self._killing.begin():
                    self._timer = NEVER
                    self._shut()
                    return
                due = self._due = self._timer = due + END_SECONDS
        self._call_at(due)

    def _call_at(self, due: float) -> None:
        (system.clock if self._on_demand else _clock).call_at(due, self._look)
