"""MySQL Connector/Python as a driver: pure Python, C extension and asyncio."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar

import mysql.connector
from mysql.connector.errors import Error, InterfaceError

from aurora_actors.actors.names import names
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, Failure, Place, ProbeError, ProbeSession, Probing, Waits, Wire
from aurora_actors.drivers.lines import Line
from aurora_actors.drivers.mysql_classes import is_async
from aurora_actors.drivers.mysql_errors import both
from aurora_actors.drivers.mysql_guard import guarded_pool
from aurora_actors.drivers.mysql_link import NO_LINK, Link
from aurora_actors.drivers.mysql_opening import (
    asked,
    class_of,
    in_time,
    inner,
    is_connection_class,
    led_to,
    opened_at,
    opened_by_the_driver,
)
from aurora_actors.drivers.mysql_options import DEFAULT_HOST, DEFAULT_PORT, KEEPING_ALIVE, KEYS, POOL, merged, plain
from aurora_actors.drivers.mysql_probe import logged_in
from aurora_actors.drivers.mysql_reading import failure_of
from aurora_actors.drivers.mysql_server import REFUSALS
from aurora_actors.drivers.mysql_session import drop, exchange, keep_alive, line_of, session_options
from aurora_actors.errors import ConfigurationError
from aurora_actors.model.hosts import Role
from aurora_actors.settings import Settings

__all__ = ["MysqlDriver"]

log = logging.getLogger("aurora_actors.drivers")

OLDEST = (9, 7, 0)
"""The release whose private names this adapter was written for."""

HIGHEST_PRIORITY = 100
"""Of a server in the driver's own list, and what one has that is given none."""

_said: list[str] = []


class MysqlDriver:
    """Connections for threads and for asyncio."""

    name: ClassVar[str] = "mysql"
    schemes: ClassVar[frozenset[str]] = frozenset({"mysql", "mariadb"})
    dialects: ClassVar[tuple[str, ...]] = ("aurora-mysql", "rds-multi-az-mysql-cluster", "rds-mysql", "mysql")
    errors: ClassVar[tuple[type[Exception], ...]] = (Error, OSError)

    @property
    def keys(self) -> frozenset[str]:
        return KEYS

    def default_target(self, *, asynchronous: bool) -> Callable[..., Any]:
        _check_version()
        if asynchronous:
            from mysql.connector import aio

            connect: Callable[..., Any] = aio.connect
            return connect
        return mysql.connector.connect

    def accepts(self, target: Callable[..., Any]) -> bool:
        module = str(getattr(target, "__module__", "") or "")
        ours = module == "mysql.connector" or module.startswith("mysql.connector.")
        if ours or is_connection_class(target):
            _check_version()
            return True
        return False

    def is_async(self, target: Callable[..., Any]) -> bool:
        return iscoroutinefunction(target) or (isinstance(target, type) and is_async(target))

    def parameters(self, conninfo: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
        return merged(conninfo, keywords)

    def seeds(self, parameters: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
        port = int(parameters.get("port") or DEFAULT_PORT)
        if parameters.get("unix_socket"):
            return [(str(parameters["unix_socket"]), port)]
        host = str(parameters.get("host") or DEFAULT_HOST)
        # The driver takes its own list by priority, too; among equals it draws lots.
        servers = sorted(parameters.get("failover") or (), key=_priority, reverse=True)
        return [(str(s.get("host", host)), int(s.get("port", port))) for s in servers] or [(host, port)]

    async def open(self, access: Access, place: Place | None, limit: float | None, *, guarded: bool) -> Wire:
        target, parameters = access.target, access.parameters
        pooled = guarded and not POOL.isdisjoint(parameters)
        kind = class_of(target, parameters)
        if place is not None:
            _check_identity(kind, access)
            _check_servers(parameters)
        if place is None or pooled or place.host.startswith("/"):
            # Where a certificate is to fit the name the driver has to have the name.
            led = pooled and place is not None and place.host[:1] != "/" and not parameters.get("ssl_verify_identity")
            given = led_to(place.addresses[0], target, parameters) if led and place is not None else parameters
            wire = await opened_by_the_driver(target, given, limit)
            conn = inner(wire)
            if led and place is not None:
                conn._host = place.host
            if pooled and place is not None and conn._aa_handle.peer not in place.addresses:
                # The pool knows one host only; its connection goes where it is wanted.
                spare = await opened_at(type(conn), plain(parameters), place, limit)
                exchange(conn, spare)
                drop(spare)
        else:
            wire = await opened_at(kind, plain(parameters), place, limit)
        wanted = {name: parameters[name] for name in KEEPING_ALIVE if name in parameters}
        if wanted:
            keep_alive(inner(wire), wanted)
        return wire

    def reached(self, wire: Wire) -> tuple[str, str, int]:
        conn = inner(wire)
        name = str(conn._unix_socket or conn._host)
        peer = conn._aa_handle.peer if conn._aa_handle is not None else None
        address, port = peer or (name, int(conn._port))
        return name, address, port

    def told_role(self, wire: Wire) -> Role | None:
        return None

    def session_id(self, wire: Wire) -> int | None:
        number = inner(wire).connection_id
        return int(number) if number is not None else None

    def keepalive(self, settings: Settings) -> dict[str, Any]:
        return {name: value for name in KEEPING_ALIVE if (value := getattr(settings, name)) is not None}

    def connect_timeout(self, parameters: Mapping[str, Any]) -> float | None:
        value = float(parameters.get("connection_timeout") or 0)
        return value if value > 0 else None

    async def query(self, wire: Wire, sql: str, sockets: Waits) -> Rows:
        return await asked(inner(wire), sql, sockets)

    def failure(self, error: BaseException, wire: Wire) -> Failure:
        return failure_of(error)

    def is_refusal(self, error: BaseException) -> bool:
        # A monitor's error has the number as text.
        number = error.sqlstate if isinstance(error, ProbeError) else str(getattr(error, "errno", None))
        return number in REFUSALS

    async def close(self, wire: Wire) -> None:
        closing = wire.close()
        if isawaitable(closing):
            await closing

    def discard(self, wire: Wire) -> None:
        drop(inner(wire))

    async def open_probe(self, access: Access, place: Place, sockets: Probing) -> ProbeSession:
        parameters = {**plain(access.parameters), **plain(access.monitoring)}
        return await logged_in(parameters, place, sockets)

    def line(self, wire: Wire) -> Line | None:
        line = line_of(inner(wire))
        if line is None and not _said:
            _said.append(self.name)
            log.warning("no second descriptor of a connection can be had: its calls are not ended for it; read_timeout can")
        return line

    def keeps_alive(self, parameters: Mapping[str, Any]) -> bool:
        return any(name in parameters for name in KEEPING_ALIVE)

    def busy_since(self, wire: Wire) -> float:
        conn = inner(wire)
        link = getattr(conn, "_aa_link", NO_LINK)
        return 0.0 if link is NO_LINK else link.busy_since

    async def restore(self, old: Wire, new: Wire, sockets: Waits) -> tuple[str, ...]:
        old = inner(old)
        if old._aa_login is not None:
            args, kwargs = old._aa_login
            await in_time(new, lambda: new.cmd_change_user(*args, **kwargs), sockets)
        for statement in session_options(old, new):
            await asked(new, statement, sockets)
        lacking: list[str] = []
        for name, statement in old._aa_link.session.kept.items():
            try:
                await asked(new, statement, sockets)
            except Error as error:
                if failure_of(error).lost:
                    raise
                log.warning("%s of a session cannot be had on its new host: error %s", name, error.errno)
                lacking.append(name)
        return tuple(lacking)

    def attach(self, wire: Wire, proxy: Any) -> None:
        conn = inner(wire)
        if not hasattr(conn, "_aa_link"):
            return
        conn._aa_link = Link(proxy)
        if conn is not wire:
            wire.__class__ = guarded_pool(type(wire))

    def swap(self, wire: Wire, new: Wire) -> None:
        conn = inner(wire)
        conn._aa_link.take(conn, new)

    def give_up(self, wire: Wire) -> None:
        conn = inner(wire)
        conn._aa_link.give_up(conn)

    def error(self, kind: type[Any]) -> type[Any]:
        return both(kind)


def _check_identity(kind: type[Any], access: Access) -> None:
    """The C library checks a certificate against what it connects to, so that it has to look names up by itself."""
    of_c = not is_async(kind) and not hasattr(kind, "_get_connection")
    if of_c and access.parameters.get("ssl_verify_identity") and names.effective(access.resolve) is not None:
        raise ConfigurationError(
            "ssl_verify_identity with the C extension goes by the name alone, past the resolver that was given;"
            " give use_pure=True, or no resolver"
        )


def _check_servers(parameters: Mapping[str, Any]) -> None:
    """Of the driver's own list of servers only where they are goes by the resolver."""
    more = {key for server in parameters.get("failover") or () for key in server} - {"host", "port", "priority"}
    if more:
        raise ConfigurationError(
            f"failover= with a {', a '.join(sorted(more))} for a server of its own goes past the resolver that was given;"
            " give host, port and priority alone, or no resolver"
        )


def _priority(server: Mapping[str, Any]) -> int:
    """As the driver has it. Raises its error."""
    priority = server.get("priority", HIGHEST_PRIORITY)
    if not isinstance(priority, int) or not 0 <= priority <= HIGHEST_PRIORITY:
        raise InterfaceError(f"Priority value should be an integer in the range of 0 to 100, got : {priority}")
    return priority


def _check_version() -> None:
    version: tuple[Any, ...] = tuple(mysql.connector.__version_info__[:3])
    if version < OLDEST:
        raise ConfigurationError(
            f"MySQL Connector/Python {'.'.join(map(str, version))} is too old: {'.'.join(map(str, OLDEST))} or newer is"
            " needed; pip install --upgrade 'aurora-actors[mysql]'"
        )
