"""What the conformance suites play on: a driver's connect and a lab, in the colour of the connect."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from inspect import getattr_static, isawaitable, isfunction
from time import monotonic
from typing import Any, ClassVar, NamedTuple

from aurora_actors import errors
from aurora_actors.actors.polling import Poller, Task
from aurora_actors.actors.system import system
from aurora_actors.connecting import opening
from aurora_actors.dialects.base import Dialect, Report, Rows
from aurora_actors.drivers.base import Access, Driver, Place, ProbeSession, Wire
from aurora_actors.flow import discovery
from aurora_actors.flow.aio import AsyncIo
from aurora_actors.flow.io import BlockingIo, Io, Sockets
from aurora_actors.flow.running import run_blocking

__all__ = [
    "BOUND_SECONDS",
    "SHORT_SECONDS",
    "Stage",
    "Statements",
    "Suite",
    "descriptors",
    "dialect_of",
    "done",
    "flow",
    "meanwhile",
    "probing",
    "raising",
    "set_autocommit",
]

BOUND_SECONDS = 30.0
"""How long is waited for what has to come; only a test that fails waits so long."""
SHORT_SECONDS = 0.3
"""A deadline that is meant to pass."""
LOOK_SECONDS = 0.002
"""How often another thread looks whether a call is in flight."""
STOP_SECONDS = 5.0
"""How long is waited for actors to end after each test."""


class Statements(NamedTuple):
    """What the suite says to a server of one engine. ``wrong`` fails with ``code``; ``waits`` takes a minute."""

    waits: str
    session: str
    host: str
    wrong: str
    code: str
    rows: str = "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3"
    begin: str = "START TRANSACTION"
    leaves: str = "CREATE TEMPORARY TABLE left_behind (id int)"


POSTGRES = Statements(
    "SELECT pg_catalog.pg_sleep(60)",
    "SELECT pg_catalog.pg_backend_pid()",
    "SELECT pg_catalog.aurora_db_instance_identifier()",
    "SELECT * FROM no_such_table",
    "42P01",
)
MYSQL = Statements(
    "SELECT SLEEP(60)", "SELECT CONNECTION_ID()", "SELECT @@aurora_server_id", "SELECT * FROM no_such_table", "1146"
)


class Stage:
    """One driver's connect on a lab, in the colour of its target."""

    def __init__(
        self, lab: Any, driver: Driver, target: Callable[..., Any], parameters: Mapping[str, Any], *, asynchronous: bool
    ) -> None:
        self.lab = lab
        self.driver = driver
        self.target = target
        self.asynchronous = asynchronous
        self.given = {"autocommit": True, **parameters}
        self.face: type[Any] = AsyncIo if asynchronous else BlockingIo
        self.io: Io = self.face(driver)
        self.statements = MYSQL if "mysql" in driver.dialects else POSTGRES

    def access(self, endpoint: str = "writer", **changed: Any) -> Access:
        """How connections to *endpoint* are opened."""
        parameters = self.driver.parameters(self.lab.conninfo(endpoint), {**self.given, **changed})
        return Access(self.driver, self.target, parameters, {}, self.lab.resolve, self.asynchronous)

    def place(self, host: str | None = None) -> Place:
        """Where a host of the lab is; the writer, if none is named."""
        host = host or self.lab.writer
        return Place(self.lab.endpoint(host), (self.lab.address(host),))

    def sockets(self, seconds: float = BOUND_SECONDS) -> Any:
        """What the driver's flows wait with."""
        face: Any = self.io
        return Sockets(face, monotonic() + seconds)

    @asynccontextmanager
    async def wire(self, host: str | None = None, *, guarded: bool = True) -> AsyncIterator[Wire]:
        """A connection of the driver's seam alone."""
        wire = await self.driver.open(self.access(), self.place(host), BOUND_SECONDS, guarded=guarded)
        try:
            yield wire
        finally:
            self.driver.discard(wire)

    @asynccontextmanager
    async def connection(self, endpoint: str = "writer", **parameters: Any) -> AsyncIterator[Any]:
        """What an application gets, with failover."""
        parameters = {"plugins": "failover", "resolve": self.lab.resolve, **self.given, **parameters}
        conn = await opening(self.face, self.target, self.lab.conninfo(endpoint), parameters)
        try:
            yield conn
        finally:
            await done(conn.close())

    async def rows(self, conn: Any, sql: str) -> list[Any]:
        """The rows of *sql*, as an application asks for them."""
        cursor = await done(conn.cursor())
        await done(cursor.execute(sql))
        rows = list(await done(cursor.fetchall())) if cursor.description else []
        await done(cursor.close())
        return rows

    async def value(self, conn: Any, sql: str) -> Any:
        """The one value of *sql*."""
        ((value,),) = await self.rows(conn, sql)
        return value

    async def again(self, conn: Any, sql: str) -> Any:
        """The same, asked once more where the connection says that it goes on."""
        try:
            return await self.value(conn, sql)
        except errors.FailoverSuccessError as error:
            assert isinstance(error, self.driver.errors)  # noqa: PT017 - only if there is one
        return await self.value(conn, sql)

    def kill(self, conn: Any) -> None:
        """End the session of *conn*, which is on the writer, as an administrator would."""
        number = self.driver.session_id(conn)
        assert number is not None
        assert self.lab.kill_session(self.lab.writer, number), "session_id() is not what the server calls the session"

    async def report(self, dialect: Dialect, wire: Wire, sql: str) -> Report:
        """What a host answers to *sql*."""
        return dialect.read(await self.driver.query(wire, sql, self.sockets()))


async def done(result: Any) -> Any:
    """What the driver gives: at once for threads, awaited for asyncio."""
    return await result if isawaitable(result) else result


def dialect_of(code: str) -> Dialect:
    """The dialect of that code."""
    made: Dialect = discovery.usable("aurora_actors.dialects", code).value()
    return made


@contextmanager
def raising(*kinds: type[BaseException]) -> Iterator[list[BaseException]]:
    """The block has to raise one of *kinds*, which is then in the list."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    assert caught, f"nothing was raised; expected {', '.join(kind.__name__ for kind in kinds)}"


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - of the descriptor that lists them, too, both times


@contextmanager
def meanwhile(fact: Callable[[], object], act: Callable[[], object]) -> Iterator[None]:
    """Another thread waits for *fact* while the block runs, then does *act*."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if fact():
                act()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(BOUND_SECONDS)


def flow(test: Callable[[Any, Stage], Awaitable[None]]) -> Callable[[Any, Any], None]:
    """A case of the suite out of one ``async def``: in a thread, or in an event loop of its own."""

    def case(self: Any, request: Any) -> None:
        stage = self.stage(request)
        body: Any = test(self, stage)
        try:
            asyncio.run(body) if stage.asynchronous else run_blocking(body)
        finally:
            system.stop(STOP_SECONDS)

    case.__name__, case.__doc__ = getattr(test, "__name__", "case"), test.__doc__
    return case


class Suite:
    """What both suites are given. ``target`` is a connect of the driver's, ``parameters`` go with every one of its calls.

    ``lab``: the pytest fixture of a cluster that the driver can talk to.
    """

    driver: ClassVar[type[Any]]
    target: ClassVar[Any]
    lab: ClassVar[str] = "aurora_lab"
    asynchronous: ClassVar[bool] = False
    parameters: ClassVar[Mapping[str, Any]] = {}

    def stage(self, request: Any) -> Stage:
        """The driver on the lab; *request* is pytest's."""
        lab = request.getfixturevalue(self.lab)
        return Stage(lab, self.driver(), self._target(), self.parameters, asynchronous=self.asynchronous)

    def _target(self) -> Any:
        found = getattr_static(type(self), "target")
        # A function in a class would be taken for its method.
        return found if isfunction(found) else getattr(type(self), "target")  # noqa: B009 - unbound, as it was given


async def set_autocommit(conn: Any) -> None:
    """As the driver spells it: a method that takes a value, ``set_autocommit``, or an attribute."""
    for name in ("set_autocommit", "autocommit"):
        method = getattr(conn, name, None)
        if callable(method):
            await done(method(True))
            return
    conn.autocommit = True


@contextmanager
def probing(
    stage: Stage, host: str | None = None, address: tuple[str, int] | None = None
) -> Iterator[Callable[[str], Rows]]:
    """A session as monitors have it, and how it is asked. Raises ``ProbeError``."""
    poller = Poller()
    place = stage.place(host)
    if address is not None:
        place = Place(place.host, (address,))

    def result(task: Task[Any]) -> Any:
        while not task.is_done:
            poller.get()
            poller.ended()
        if task.error is not None:
            raise task.error
        return task.result

    try:
        opens: Any = stage.driver.open_probe(stage.access(), place, poller)
        session: ProbeSession = result(poller.start("login", opens, monotonic() + BOUND_SECONDS))
        try:

            def ask(sql: str) -> Rows:
                asks: Any = session.ask(sql, poller)
                rows: Rows = result(poller.start("question", asks, monotonic() + BOUND_SECONDS))
                return rows

            yield ask
        finally:
            session.close()
    finally:
        poller.close()
