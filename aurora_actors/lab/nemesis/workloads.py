"""What the workers do: a careful application, which repeats what did not happen and looks up what may have happened."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from aurora_actors.errors import FailoverError, FailoverFailedError, Outcome

from .colours import got
from .history import Effect, Kind, Phase, Reading, Result, Seen

if TYPE_CHECKING:
    from .running import Run

__all__ = ["ACCOUNTS", "CREATE", "LISTS", "WORKLOADS", "Worker"]

REST_SECONDS = 0.01
"""How long a worker rests between two writes, about."""
RECONNECT_SECONDS = 0.2
"""The pause before a connection is opened again after an attempt failed."""
COUNTERS, ACCOUNTS, LISTS = 2, 4, 400
APPENDS_A_LIST = 50
"""Lists stay short: each is read after each write to it."""

CREATE = (
    # No unique constraints: nothing but the application keeps a write from being there twice.
    "CREATE TABLE nemesis_rows (id varchar(40))",
    "CREATE INDEX nemesis_rows_id ON nemesis_rows (id)",
    "CREATE TABLE nemesis_counters (id varchar(40) PRIMARY KEY, value int)",
    "CREATE TABLE nemesis_accounts (id varchar(40) PRIMARY KEY, value int)",
    "CREATE TABLE nemesis_transfers (id varchar(40), source varchar(40), target varchar(40), amount int)",
    "CREATE INDEX nemesis_transfers_id ON nemesis_transfers (id)",
    "CREATE TABLE nemesis_lists (id varchar(40) PRIMARY KEY, value text)",
    *(f"INSERT INTO nemesis_counters VALUES ('counter-{number}', 0)" for number in range(COUNTERS)),  # noqa: S608
    *(f"INSERT INTO nemesis_accounts VALUES ('account-{number}', 0)" for number in range(ACCOUNTS)),  # noqa: S608
    "INSERT INTO nemesis_lists VALUES " + ", ".join(f"('list-{number}', '')" for number in range(LISTS)),  # noqa: S608
)


class Worker:
    """One connection and its writes, in a thread or task of its own; what it records is read when it has ended."""

    kind: ClassVar[Kind]
    autocommit: ClassVar[bool] = True

    def __init__(self, number: int, run: Run) -> None:
        self.name = f"{self.kind}-{number}"
        self.run = run
        self.random = random.Random(f"{run.plan.seed}/{self.name}")
        self.number = number
        self.writes = 0
        self.effects: list[Effect] = []
        self.readings: list[Reading] = []
        self.gave_up: str | None = None
        self.last_began = 0.0
        self.ended = False
        self._phase: Phase = "statement"
        self._conn: Any = None
        self._cursor: Any = None
        self._seen: list[Seen] = []

    def was_served_since(self, at: float) -> bool:
        """Whether it ended a write that it began after *at*, or will never again."""
        return self.last_began > at or self.ended

    async def work(self) -> None:
        """Write after write, until the run ends."""
        try:
            await self._connect()
            while not self.run.colour.stopping:
                began = monotonic()
                await self.write(f"{self.name}.{self.writes}")
                self.writes += 1
                self.last_began = began
                await self.run.colour.pause(self.random.uniform(0, 2 * REST_SECONDS))
            await got(self._conn.close())
        except Exception as error:  # noqa: BLE001 - whatever ends a worker is a violation, and told
            self.gave_up = f"{self._phase}: {type(error).__name__}: {error}"
        finally:
            self.ended = True

    async def write(self, id: str) -> None:  # noqa: A002 - what it is called everywhere here
        """One write that shall happen once."""
        raise NotImplementedError

    async def _settled(
        self,
        id: str,  # noqa: A002
        key: str,
        attempt: Callable[[], Awaitable[None]],
        is_there: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        """Attempt until it is known to have happened, or record the doubt where nothing can be looked up."""
        began, self._seen, in_doubt = monotonic(), [], False
        result: Result | None = None
        while result is None:
            try:
                if in_doubt and is_there is not None and await is_there():
                    result = Result.FOUND
                    break
                await attempt()
                result = Result.DONE
            except FailoverError as error:
                seen = await self._noted(error)
                in_doubt = in_doubt or seen.in_doubt
                if error.outcome is Outcome.COMMITTED:
                    result = Result.DONE
                elif in_doubt and is_there is None:
                    result = Result.UNKNOWN
                elif self.run.colour.stopping and not in_doubt:
                    result = Result.ABSENT
        self.effects.append(Effect(self.name, self.kind, key, id, began, monotonic(), result, tuple(self._seen)))

    async def _read(self, key: str, sql: str) -> None:
        """Record what the writer says of *key*. A read may always be repeated."""
        self._seen = []
        while True:
            began = monotonic()
            try:
                rows = await self._rows("read", sql, key)
            except FailoverError as error:
                await self._noted(error)
            else:
                self.readings.append(Reading(self.name, key, began, monotonic(), rows[0][0], tuple(self._seen)))
                return

    async def _noted(self, error: FailoverError) -> Seen:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        ledger = "" if error.ledger is None else str(error.ledger)
        seen = Seen(monotonic(), self._phase, error.outcome, text, ledger)
        self._seen.append(seen)
        if isinstance(error, FailoverFailedError):
            await self._connect()
        return seen

    async def _connect(self) -> None:
        """Open a connection, however often it takes until the deadline; the old one, if there is one, is closed first."""
        self._phase = "connect"
        if self._conn is not None:
            await got(self._conn.close())
        until = monotonic() + self.run.plan.back_seconds
        while True:
            try:
                self._conn = await self.run.connect(autocommit=self.autocommit)
                # One for the whole connection: MySQL Connector sends a ping for each, and then no statement is in flight.
                self._cursor = await got(self._conn.cursor())
            except Exception as error:
                if monotonic() > until:
                    raise
                self._seen.append(Seen(monotonic(), self._phase, None, f"{type(error).__name__}: {error}".splitlines()[0]))
                await self.run.colour.pause(RECONNECT_SECONDS)
            else:
                return

    async def _execute(self, sql: str, *values: object) -> Sequence[tuple[Any, ...]]:
        await got(self._cursor.execute(sql, values))
        rows: Sequence[tuple[Any, ...]] = await got(self._cursor.fetchall()) if self._cursor.description else ()
        return rows

    async def _rows(self, phase: Phase, sql: str, value: str) -> Sequence[tuple[Any, ...]]:
        """The rows of one SELECT, its transaction ended."""
        self._phase = phase
        rows = await self._execute(sql, value)
        if not self.autocommit:
            await got(self._conn.commit())
        return rows

    async def _is_there(self, sql: str, value: str) -> bool:
        return bool(await self._rows("look-up", sql, value))

    async def _commit(self) -> None:
        self._phase = "commit"
        await got(self._conn.commit())


class Inserts(Worker):
    """Unique rows, each in a statement of its own."""

    kind = "insert"

    async def write(self, id: str) -> None:  # noqa: A002
        async def insert() -> None:
            self._phase = "statement"
            await self._execute("INSERT INTO nemesis_rows VALUES (%s)", id)

        async def is_there() -> bool:
            return await self._is_there("SELECT 1 FROM nemesis_rows WHERE id = %s", id)

        await self._settled(id, "rows", insert, is_there)


class Counts(Worker):
    """Counters that workers share; nobody can look up whether a step of theirs happened."""

    kind = "count"

    async def write(self, id: str) -> None:  # noqa: A002
        key = f"counter-{self.random.randrange(COUNTERS)}"

        async def count() -> None:
            self._phase = "statement"
            await self._execute("UPDATE nemesis_counters SET value = value + 1 WHERE id = %s", key)

        await self._settled(id, key, count, None)
        await self._read(key, "SELECT value FROM nemesis_counters WHERE id = %s")


class Transfers(Worker):
    """Money from one account to another, with a record of it, in a transaction."""

    kind = "transfer"
    autocommit = False

    async def write(self, id: str) -> None:  # noqa: A002
        # Locked in one order by all, so that none is another's deadlock.
        first, second = sorted(self.random.sample(range(ACCOUNTS), 2))
        amount = self.random.randint(-100, 100)
        source, target = f"account-{first}", f"account-{second}"
        add = "UPDATE nemesis_accounts SET value = value + %s WHERE id = %s"

        async def transfer() -> None:
            self._phase = "statement"
            await self._execute("INSERT INTO nemesis_transfers VALUES (%s, %s, %s, %s)", id, source, target, amount)
            await self._execute(add, -amount, source)
            await self._execute(add, amount, target)
            await self._commit()

        async def is_there() -> bool:
            return await self._is_there("SELECT 1 FROM nemesis_transfers WHERE id = %s", id)

        await self._settled(id, f"{source} {target}", transfer, is_there)


class Appends(Worker):
    """Lists that workers append to in turn, and read after each write."""

    kind = "append"
    autocommit = False

    async def write(self, id: str) -> None:  # noqa: A002
        key = f"list-{min(self.writes // APPENDS_A_LIST, LISTS - 1)}"

        async def append() -> None:
            self._phase = "statement"
            rows = await self._execute("SELECT value FROM nemesis_lists WHERE id = %s FOR UPDATE", key)
            await self._execute("UPDATE nemesis_lists SET value = %s WHERE id = %s", f"{rows[0][0]}{id} ", key)
            await self._commit()

        async def is_there() -> bool:
            rows = await self._rows("look-up", "SELECT value FROM nemesis_lists WHERE id = %s", key)
            return id in rows[0][0].split()

        await self._settled(id, key, append, is_there)
        await self._read(key, "SELECT value FROM nemesis_lists WHERE id = %s")


WORKLOADS: Mapping[str, type[Worker]] = MappingProxyType(
    {"inserts": Inserts, "counters": Counts, "transfers": Transfers, "appends": Appends}
)
"""By the name that a plan takes."""
