"""An application that inserts rows and reads them back, and goes on whatever happens to its connections.

This is what an application has to do to lose nothing and to do nothing twice: a statement that did not happen is
repeated; one of which nobody can say whether it happened is looked up first.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from aurora_actors.errors import FailoverError, Outcome
from aurora_actors.lab.nemesis.colours import Colour, got

if TYPE_CHECKING:
    from aurora_actors.lab.nemesis.engines import Engine, Lab

__all__ = ["BUCKET_SECONDS", "Application", "Client", "Mark", "paces"]

BUCKET_SECONDS = 0.1
"""The resolution of the throughput."""
FASTEST_SECONDS, SLOWEST_SECONDS = 0.004, 1.0
"""How long a connection at work rests between two requests."""
RESERVE_SHARE = 4
"""One connection of so many is in reserve, as in a pool: it is used when it is called for."""
RESERVE_LOOK_SECONDS = 0.05
"""How often a connection in reserve looks whether it is called for."""
LONG_SECONDS = 0.05
"""A request that took longer is shown as a wait: about ten times what one takes here."""
END_SECONDS = 30.0
"""How long requests under way may take to come to their end; a hundred times what they take."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A connection goes on in another session: after an error, with its ``outcome``, or without one (None).

    ``at`` is on the clock of ``time.monotonic()``.
    """

    at: float
    client: int
    outcome: Outcome | None
    text: str


class Client:
    """One connection and its work. What it notes is written by its own thread or task, and read by any.

    ``pace``: how long it rests between two requests, in seconds; None: it is in reserve.
    """

    def __init__(self, number: int, pace: float | None, application: Application) -> None:
        self.number = number
        self.pace = pace
        self.application = application
        self.acknowledged: list[str] = []
        self.reads = 0
        self.unread: list[str] = []
        self.marks: list[Mark] = []
        self.waits: list[tuple[float, float]] = []
        self.rows: dict[int, int] = {}
        self.busy_since: float | None = None
        self.last_began = 0.0
        self.ended = False
        self.failure: str | None = None

    def was_served_since(self, at: float) -> bool:
        """Whether it has ended a request that it began after *at*; or has given up, so that nobody need wait for it."""
        return self.last_began > at or self.ended

    async def work(self) -> None:
        """Requests, one after the other, until the application ends."""
        colour = self.application.colour
        try:
            conn = await colour.connect(self.application.engine, self.application.lab)
            try:
                await self._requests(conn)
            finally:
                await got(conn.close())
        except Exception as error:  # noqa: BLE001 - whatever ends a connection's work is counted and shown
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self.ended, self.busy_since = True, None

    async def _requests(self, conn: Any) -> None:
        colour, session_of = self.application.colour, self.application.engine.session
        session = session_of(conn)
        while not colour.stopping:
            self.busy_since = began = monotonic()
            marks = len(self.marks)
            row = uuid.uuid4().hex
            if await self._insert(conn, row) and not await self._found(conn, row):
                self.unread.append(row)
            ended = monotonic()
            self.busy_since, self.last_began = None, began
            before, session = session, session_of(conn)
            if session != before and len(self.marks) == marks:
                self.marks.append(Mark(ended, self.number, None, "went on elsewhere, unnoticed"))
            if ended - began > LONG_SECONDS:
                self.waits.append((began, ended))
            await self._rest()

    async def _rest(self) -> None:
        application = self.application
        if self.pace is not None:
            await application.colour.pause(self.pace * random.uniform(0.5, 1.5))
            return
        calls = application.reserve_calls
        while application.reserve_calls == calls and not application.colour.stopping:
            await application.colour.pause(RESERVE_LOOK_SECONDS)

    async def _insert(self, conn: Any, row: str) -> bool:
        """Insert *row* once, however often the connection is lost; False: the end came first."""
        engine, in_doubt = self.application.engine, False
        while in_doubt or not self.application.colour.stopping:
            try:
                if not in_doubt or not await _rows(conn, engine.find, row):
                    await _rows(conn, engine.insert, row)
            except FailoverError as error:
                self._noted(error)
                # Only what may have happened has to be looked up before it is done again.
                in_doubt = in_doubt or not error.outcome.safe_to_repeat
            else:
                self.acknowledged.append(row)
                bucket = self.application.bucket(monotonic())
                self.rows[bucket] = self.rows.get(bucket, 0) + 1
                return True
        return False

    async def _found(self, conn: Any, row: str) -> bool:
        """Whether *row* is read back. A read may always be repeated."""
        while True:
            try:
                found = await _rows(conn, self.application.engine.find, row)
            except FailoverError as error:
                self._noted(error)
            else:
                self.reads += 1
                return bool(found)

    def _noted(self, error: FailoverError) -> None:
        self.marks.append(Mark(monotonic(), self.number, error.outcome, f"{type(error).__name__}, {error.outcome.value}"))


async def _rows(conn: Any, sql: str, value: str) -> list[Any]:
    cursor = await got(conn.cursor())
    try:
        await got(cursor.execute(sql, (value,)))
        rows: list[Any] = await got(cursor.fetchall()) if cursor.description else []
    finally:
        await got(cursor.close())
    return rows


def paces(count: int) -> tuple[float | None, ...]:
    """The rests of *count* connections: each longer than the one before by the same factor, the last ones in reserve."""
    at_work = count - count // RESERVE_SHARE
    factor = (SLOWEST_SECONDS / FASTEST_SECONDS) ** (1 / max(1, at_work - 1))
    return (*(FASTEST_SECONDS * factor**number for number in range(at_work)), *[None] * (count - at_work))


class Application:
    """All connections, in one colour, on one engine. Slices of time are counted from when it was made."""

    def __init__(self, lab: Lab, engine: Engine, colour: Colour, connections: int) -> None:
        self.lab, self.engine, self.colour = lab, engine, colour
        self.began = monotonic()
        self.reserve_calls = 0
        self.clients = tuple(Client(number, pace, self) for number, pace in enumerate(paces(connections), 1))
        self.at_work = tuple(client for client in self.clients if client.pace is not None)
        self.in_reserve = tuple(client for client in self.clients if client.pace is None)

    def start(self) -> None:
        """Let all connections begin."""
        self.colour.start([client.work for client in self.clients])

    def call_reserve(self) -> None:
        """Have each connection in reserve make one request."""
        self.reserve_calls += 1

    def stop(self, seconds: float = END_SECONDS) -> None:
        """Let all connections come to their end, and wait up to *seconds* for it.

        None leaves a row behind of which it does not know whether it is there.
        """
        self.colour.stop(seconds)

    def bucket(self, at: float) -> int:
        """The number of the slice of time in which *at* lies."""
        return int((at - self.began) / BUCKET_SECONDS)

    def rate(self, first: int, last: int) -> float:
        """Rows acknowledged a second in the buckets from *first* to *last*, both included."""
        rows = sum(client.rows.get(bucket, 0) for client in self.clients for bucket in range(first, last + 1))
        return rows / ((last - first + 1) * BUCKET_SECONDS)

    def rates(self) -> list[float]:
        """Rows acknowledged a second, for every bucket so far that has passed."""
        return [self.rate(bucket, bucket) for bucket in range(self.bucket(monotonic()))]

    def waiting(self, at: float) -> int:
        """How many connections wait for an answer for longer than usual."""
        since = [client.busy_since for client in self.clients]
        return sum(1 for began in since if began is not None and at - began > LONG_SECONDS)

    @property
    def acknowledged(self) -> list[str]:
        return [row for client in self.clients for row in client.acknowledged]

    @property
    def count(self) -> int:
        """How many rows have been acknowledged so far."""
        return sum(len(client.acknowledged) for client in self.clients)

    @property
    def marks(self) -> Sequence[Mark]:
        """What the connections saw of failovers, oldest first."""
        return sorted((mark for client in self.clients for mark in client.marks), key=lambda mark: mark.at)

    @property
    def failures(self) -> list[str]:
        """Why connections gave up, if any did."""
        reasons = {client.number: client.failure or ("" if client.ended else "it still waits") for client in self.clients}
        return [f"connection {number}: {reason}" for number, reason in reasons.items() if reason]
