"""PyMySQL as a driver: connections of its own class, guarded where they talk to the server."""

from __future__ import annotations

import functools
import math
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from time import monotonic
from typing import Any, ClassVar

import pymysql
from pymysql.constants import CLIENT

from aurora_actors import Role, errors
from aurora_actors.driver import (
    Access,
    DeadlineExceeded,
    Failure,
    Line,
    Place,
    ProbeSession,
    Probing,
    Proxy,
    Rows,
    Tie,
    Waits,
    Wire,
    mysql_server,
    mysql_statements,
    run_blocking,
)
from aurora_actors.plugin import Fault, Operation, Settings

__all__ = ["PymysqlDriver"]

_ALIASES = {"db": "database", "passwd": "password"}
_WHOLE = ("port", "connect_timeout", "read_timeout", "write_timeout")
# What talks to the server, and what it is called. Whatever these call in turn is no call of the application's own.
_CALLS = {
    "query": "execute", "next_result": "nextset", "commit": "commit", "rollback": "rollback", "begin": "execute",
    "select_db": "ping", "set_character_set": "ping", "autocommit": "autocommit", "ping": "ping", "_read_packet": "fetch",
}  # fmt: skip
# What a session is made of, in PyMySQL 1.1 and 1.2; the rest belongs to the object and stays.
_SESSION = (
    "_sock", "_rfile", "_secure", "_closed", "_result", "_next_seq_id", "_current_timeout", "server_status",
    "server_version", "protocol_version", "server_thread_id", "salt", "server_language", "server_capabilities",
    "_auth_plugin_name",
)  # fmt: skip


class FailoverError(errors.FailoverError, pymysql.OperationalError):
    """A connection was lost."""


class FailoverSuccessError(errors.FailoverSuccessError, FailoverError):
    """It works again; no transaction was open."""


class TransactionResolutionUnknownError(errors.TransactionResolutionUnknownError, FailoverError):
    """It works again; a transaction was open."""


class FailoverFailedError(errors.FailoverFailedError, FailoverError):
    """No host could be had in time."""


class DeadlineExceededError(errors.DeadlineExceededError, pymysql.OperationalError):
    """The deadline came."""


_ERRORS = (
    FailoverSuccessError, TransactionResolutionUnknownError, FailoverFailedError, FailoverError, DeadlineExceededError,
)  # fmt: skip


class Link(Tie):
    """Ties one connection to its proxy. ``busy_since``: since when a call of the application's is under way."""

    def __init__(self, proxy: Proxy | None = None) -> None:
        super().__init__(proxy)
        self.busy_since = 0.0
        self.database: str | None = None

    async def call(self, conn: Any, name: str, text: str, perform: Callable[[], Any]) -> Any:
        """Go elsewhere first if need be, then *perform*, and recover if the connection was lost."""
        operation = Operation(_CALLS[name], text, sent=False)
        at_rest = not (
            conn.server_status & mysql_server.IN_TRANSACTION or getattr(conn._result, "unbuffered_active", False)
        )
        if name != "_read_packet" and self.acts and at_rest and self.proxy is not None and self.proxy.stale:
            self.clean = self.clean and not mysql_statements.looks_back(text)
            await self.caught_up(operation)
        if text and not mysql_statements.leaves_nothing(text):
            used = mysql_statements.used_database(text)
            self.clean, self.database = self.clean and used is not None, used or self.database

        async def performed() -> Any:
            status = conn.server_status
            self.busy_since = monotonic()
            try:
                return perform()
            except Exception as error:
                self.busy_since = 0.0
                raised = await self.answer(error, failure_of(error), functools.partial(under_way, name, text, status))
                if raised is error:
                    raise
                raise raised from error
            finally:
                self.busy_since = 0.0

        return await self.executed(operation, performed)


NO_LINK = Link()
"""Of connections that are not the application's: every call is the driver's own."""
NO_LINK.busy_since = math.inf


def under_way(name: str, text: str, status: int, fault: Fault) -> Operation:
    """What was lost, for the outcome that the application is told."""
    inside = bool(status & mysql_server.IN_TRANSACTION)
    return Operation(
        _CALLS[name], text, in_transaction=inside, autocommit=bool(status & mysql_server.AUTOCOMMIT),
        commits=name in ("commit", "autocommit") or bool(text and mysql_statements.commits(text, in_transaction=inside)),
        sent=inside or _CALLS[name] not in ("ping", "fetch", "rollback"), refused=fault is Fault.READ_ONLY,
    )  # fmt: skip


def failure_of(error: BaseException) -> Failure:
    """By its number, which PyMySQL gives as the first argument; a closed connection has the number 0."""
    number = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
    if isinstance(number, int) and number:
        return mysql_server.numbered(number, str(error))
    return Failure(None, isinstance(error, OSError) or number == 0)


def guarded_call(name: str, base: Callable[..., Any]) -> Callable[..., Any]:
    """*base*, under the eyes of the connection's link."""

    @functools.wraps(base)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        link: Link = self._link
        if link.busy_since:
            return base(self, *args, **kwargs)
        text = args[0] if name == "query" else ""
        text = text.decode(errors="replace") if isinstance(text, bytes | bytearray) else str(text)
        result = run_blocking(link.call(self, name, text, functools.partial(base, self, *args, **kwargs)))
        if name == "select_db":
            link.database = args[0]
        return result

    return method


@functools.cache
def guard_of(base: type[Any]) -> type[Any]:
    """The class derived from *base* that the application holds; it has the driver's name."""

    def close(self: Any) -> None:
        self._link.leave()
        try:
            base.close(self)
        finally:
            if self._link.proxy is not None:
                self._link.proxy.closed()

    calls = {name: guarded_call(name, getattr(base, name)) for name in _CALLS}
    own = {"_link": NO_LINK, "close": close, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**calls, **own})


def logged_in(conn: Any, place: Place, until: float) -> Any:
    """*conn*, logged in at the first address of *place* that can be had. TLS goes by the host's name."""
    own, conn.host = conn._read_timeout, place.host
    *others, last = place.addresses
    for address in (*others, last):
        left = None if until == math.inf else max(0.001, until - monotonic())
        conn._read_timeout = left
        try:
            sock = socket.create_connection(address, left)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn.connect(sock)
        except (pymysql.Error, OSError) as error:
            conn._force_close()
            if address == last or not failure_of(error).lost:
                raise
        else:
            break
    conn._read_timeout = own
    return conn


class PymysqlDriver:
    """Connections for threads."""

    name: ClassVar[str] = "pymysql"
    schemes: ClassVar[frozenset[str]] = frozenset({"pymysql"})
    dialects: ClassVar[tuple[str, ...]] = ("aurora-mysql", "rds-multi-az-mysql-cluster", "rds-mysql", "mysql")
    errors: ClassVar[tuple[type[Exception], ...]] = (pymysql.Error, OSError)
    keys = frozenset(signature(pymysql.Connection).parameters)

    def default_target(self, *, asynchronous: bool) -> Callable[..., Any]:
        if asynchronous:
            raise errors.ConfigurationError("PyMySQL has no connections for asyncio")
        connect: Callable[..., Any] = pymysql.connect
        return connect

    def accepts(self, target: Callable[..., Any]) -> bool:
        return isinstance(target, type) and issubclass(target, pymysql.Connection)

    def is_async(self, target: Callable[..., Any]) -> bool:
        return False

    def parameters(self, conninfo: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = dict(pair.split("=", 1) for pair in shlex.split(conninfo))
        given = {key: int(value) if key in _WHOLE else value for key, value in given.items()} | dict(keywords)
        return {_ALIASES.get(key, key): value for key, value in given.items()}

    def seeds(self, parameters: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
        return [(parameters.get("host") or "localhost", int(parameters.get("port") or 3306))]

    async def open(self, access: Access, place: Place | None, limit: float | None, *, guarded: bool) -> Wire:
        conn = guard_of(access.target)(**{**access.parameters, "defer_connect": True})
        if place is None:
            conn.connect()
            return conn
        return logged_in(conn, place, math.inf if limit is None else monotonic() + limit)

    def reached(self, wire: Wire) -> tuple[str, str, int]:
        return (wire.host, *wire._sock.getpeername()[:2])

    def told_role(self, wire: Wire) -> Role | None:
        return None

    def session_id(self, wire: Wire) -> int | None:
        return int(wire.thread_id())

    def keepalive(self, settings: Settings) -> dict[str, Any]:
        return {}

    def keeps_alive(self, parameters: Mapping[str, Any]) -> bool:
        return False

    def connect_timeout(self, parameters: Mapping[str, Any]) -> float | None:
        return parameters.get("connect_timeout")

    async def query(self, wire: Wire, sql: str, sockets: Waits) -> Rows:
        own = wire.decoders, wire._read_timeout
        # Without decoders the rows are the server's text.
        wire.decoders, wire._read_timeout = {}, max(0.001, sockets.until - monotonic())
        try:
            wire.query(sql)
            rows = wire._result.rows or ()
        except pymysql.OperationalError as error:
            if isinstance(error.__context__, TimeoutError):
                raise DeadlineExceeded("the server did not answer in time") from error
            raise
        finally:
            wire.decoders, wire._read_timeout = own
        return [[value.decode() if isinstance(value, bytes) else value for value in row] for row in rows]

    def failure(self, error: BaseException, wire: Wire) -> Failure:
        return failure_of(error)

    def is_refusal(self, error: BaseException) -> bool:
        # A monitor's error has the number already.
        return (getattr(error, "sqlstate", None) or failure_of(error).sqlstate) in mysql_server.REFUSALS

    async def close(self, wire: Wire) -> None:
        wire.close()

    def discard(self, wire: Wire) -> None:
        wire._force_close()

    async def open_probe(self, access: Access, place: Place, sockets: Probing) -> ProbeSession:
        given = {**access.parameters, **access.monitoring, "init_command": mysql_server.PREAMBLE, "defer_connect": True}

        def login() -> mysql_server.LoggedIn:
            conn: Any = pymysql.Connection(
                **{**given, "client_flag": CLIENT.MULTI_STATEMENTS, "program_name": "aurora_actors-monitor"}
            )
            try:
                logged_in(conn, place, monotonic() + mysql_server.LOGIN_SECONDS)
            except pymysql.Error as error:
                raise mysql_server.refused(error, error.args[0], error.__context__) from None
            return mysql_server.LoggedIn(conn, conn._sock, conn._force_close)

        return await mysql_server.watching(login, sockets)

    def line(self, wire: Wire) -> Line | None:
        return Line(wire._sock.fileno()) if wire._sock is not None else None

    def busy_since(self, wire: Wire) -> float:
        return 0.0 if wire._link is NO_LINK else wire._link.busy_since

    async def restore(self, old: Wire, new: Wire, sockets: Waits) -> None:
        new.autocommit(old.get_autocommit())
        if (old.charset, old.collation) != (new.charset, new.collation):
            new.set_character_set(old.charset, old.collation)
        if old._link.database is not None:
            new.select_db(old._link.database)

    def attach(self, wire: Wire, proxy: Any) -> None:
        wire._link = Link(proxy)

    def swap(self, wire: Wire, new: Wire) -> None:
        wire._link.leave()
        if getattr(wire._result, "unbuffered_active", False):
            # Its rows are gone: no end of a result is to be read into that.
            wire._result._read_rowdata_packet_unbuffered = gone
            wire._result.unbuffered_active = False
        for name in _SESSION:
            old = getattr(wire, name)
            setattr(wire, name, getattr(new, name))
            setattr(new, name, old)
        new._force_close()
        wire._link.clean = True
        wire._link.proxy.watch(wire)

    def give_up(self, wire: Wire) -> None:
        wire._link.lost_for_good = True
        wire._link.leave()
        wire._force_close()

    def error(self, kind: type[Any]) -> type[Any]:
        return next(made for made in _ERRORS if made.__name__ == kind.__name__)


def gone() -> None:
    """In place of the next row of a result whose session was lost."""
    raise pymysql.OperationalError(2013, "the rows were lost with their session")
