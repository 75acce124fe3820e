"""How connections of MySQL Connector are opened and asked something of ours, whichever variant, in either colour."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from inspect import isawaitable, iscoroutinefunction
from threading import Timer
from time import monotonic
from typing import Any

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract
from mysql.connector.errors import Error, ReadTimeoutError

from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Place, Waits, Wire
from aurora_actors.drivers.mysql_classes import is_async
from aurora_actors.drivers.mysql_guard import adopt, guard_of
from aurora_actors.drivers.mysql_options import KEEPING_ALIVE, POOL, plain
from aurora_actors.drivers.mysql_reading import failure_of
from aurora_actors.drivers.mysql_server import IN_TRANSACTION
from aurora_actors.drivers.mysql_session import drop, line_of, status_of

__all__ = ["asked", "class_of", "in_time", "inner", "is_connection_class", "led_to", "opened_at", "opened_by_the_driver"]

log = logging.getLogger("aurora_actors.drivers")

_said: list[str] = []


def inner(wire: Wire) -> Any:
    """The connection in a pooled one, or the connection itself."""
    return vars(wire).get("_cnx", wire)


def is_connection_class(target: Any) -> bool:
    """Whether *target* is one of the driver's classes of connections, or derived from one."""
    return isinstance(target, type) and (issubclass(target, MySQLConnectionAbstract) or is_async(target))


def class_of(target: Any, parameters: Mapping[str, Any]) -> type[Any]:
    """The class that the driver's connect makes, by its own rule."""
    if isinstance(target, type):
        return target
    if iscoroutinefunction(target):
        from mysql.connector.aio.connection import MySQLConnection

        return MySQLConnection
    extension: type[Any] | None = getattr(mysql.connector, "CMySQLConnection", None)
    return extension if extension is not None and not parameters.get("use_pure") else mysql.connector.MySQLConnection


async def opened_by_the_driver(target: Any, parameters: Mapping[str, Any], limit: float | None) -> Wire:
    """What the driver's connect, or one of its classes, gives for *parameters*. Raises the driver's error."""
    given = {key: value for key, value in parameters.items() if key not in KEEPING_ALIVE}
    given = plain(given) if isinstance(target, type) else given
    if not POOL.isdisjoint(given):
        _remind(_pooling(target), given)
    if limit is not None:
        given = _limited(class_of(target, parameters), given, limit)
    try:
        made = target(**given)
        if isinstance(target, type):
            wire = made
            if is_async(target):
                await made.connect()
        else:
            wire = await made if isawaitable(made) else made
            _mind_the_extension(target, parameters)
    except ImportError as error:
        # The user insists on the extension; the driver does not say why there is none.
        error.add_note(_why_no_extension())
        raise
    adopt(inner(wire))
    return wire


def led_to(address: tuple[str, int], target: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """*parameters* for a pool of the driver's, which looks names up by itself: with *address* in the place of one.

    A pool that is there already connects there from now on.
    """
    pooling = _pooling(target)
    name = parameters.get("pool_name") or pooling.generate_pool_name(**parameters)
    at = {"host": address[0], "port": address[1]}
    pool = pooling._CONNECTION_POOLS.get(name)
    if pool is not None:
        pool._cnx_config.update(at)
    return {**parameters, **at, "pool_name": name}


def _pooling(target: Any) -> Any:
    return import_module(f"mysql.connector{'.aio' if iscoroutinefunction(target) else ''}.pooling")


def _remind(pooling: Any, given: Mapping[str, Any]) -> None:
    """A pool of the driver's logs in with what it was made with: have it know the password of now."""
    name = given.get("pool_name") or pooling.generate_pool_name(**given)
    pool = pooling._CONNECTION_POOLS.get(name)
    if pool is not None and "password" in given:
        pool._cnx_config["password"] = given["password"]


async def opened_at(kind: type[Any], parameters: dict[str, Any], place: Place, limit: float | None) -> Wire:
    """A connection of *kind* to the first address of *place* that can be had. Raises the driver's error."""
    until = math.inf if limit is None else monotonic() + limit
    names = place.host.split(",") if "," in place.host else [place.host] * len(place.addresses)
    *others, last = zip(names, place.addresses, strict=True)
    for host, address in others:
        try:
            return await _opened_once(kind, parameters, host, address, until)
        except (Error, OSError) as error:
            if not failure_of(error).lost or monotonic() >= until:
                raise
    return await _opened_once(kind, parameters, *last, until)


async def asked(conn: Any, sql: str, waits: Waits) -> Rows:
    """The rows of one statement, as text. Raises the driver's error, or ``DeadlineExceeded``."""
    answer = await in_time(conn, lambda: conn.cmd_query(sql, raw=True, buffered=True), waits)
    rows = (await in_time(conn, lambda: conn.get_rows(raw=True), waits))[0] if "columns" in answer else ()
    if getattr(conn, "_cmysql", None) is not None:
        # The extension would give the rows of prepared statements raw too, from here on.
        conn._cmysql.raw(bool(conn._raw))
    if status_of(conn) & IN_TRANSACTION:
        # Without autocommit the question has begun a transaction, whose snapshot the application has not asked for.
        await in_time(conn, conn.rollback, waits)
    return [[None if value is None else bytes(value).decode() for value in row] for row in rows]


async def in_time(conn: Any, call: Callable[[], Any], waits: Waits) -> Any:
    """What *call* gives, a call of the driver's on *conn*. Raises the driver's error, or ``DeadlineExceeded``."""
    left = max(0.001, waits.until - monotonic())
    if is_async(type(conn)):
        from aurora_actors.drivers.mysql_aio import within

        async with within(left):
            return await call()
    if hasattr(conn, "_cmysql"):
        try:
            with _alarm(conn, left):
                return call()
        except Error as error:
            if monotonic() < waits.until:
                raise
            raise DeadlineExceeded("the server did not answer in time") from error
    own, conn._read_timeout = conn._read_timeout, left
    try:
        return call()
    except ReadTimeoutError as error:
        raise DeadlineExceeded("the server did not answer in time") from error
    finally:
        conn._read_timeout = own


async def _opened_once(
    kind: type[Any], parameters: dict[str, Any], host: str, address: tuple[str, int], until: float
) -> Wire:
    made = guard_of(kind)
    left = max(0.001, until - monotonic())
    limited = _limited(kind, parameters, left) if until < math.inf else parameters
    at = {"host": address[0], "port": address[1]}
    if is_async(kind):
        from aurora_actors.drivers.mysql_aio import within

        conn = made(**{**limited, **at})
        conn._aa_name = host
        try:
            async with within(left):
                await conn.connect()
        except BaseException:
            drop(conn)
            raise
    else:
        conn = made()
        if hasattr(conn, "_get_connection"):
            conn._aa_at, conn._aa_limit = address, None if until == math.inf else left
            at = {"host": host, "port": address[1]}
        elif parameters.get("ssl_verify_identity"):
            # The C library checks a certificate against the name that it connects to, and no other.
            at = {"host": host, "port": address[1]}
        try:
            with _alarm(conn, left):
                conn.connect(**{**limited, **at})
        except BaseException:
            drop(conn)
            raise
        conn._aa_at = None
    conn._host, conn._connection_timeout = host, parameters.get("connection_timeout")
    conn._read_timeout = parameters.get("read_timeout")
    return conn


def _limited(kind: type[Any], parameters: dict[str, Any], limit: float) -> dict[str, Any]:
    """*parameters* with a login no longer than *limit* (seconds); the C library counts whole ones."""
    seconds = min(float(parameters.get("connection_timeout") or math.inf), max(limit, 0.001))
    whole = not hasattr(kind, "_get_connection") and not is_async(kind)
    return {**parameters, "connection_timeout": math.ceil(seconds) if whole else seconds}


@contextmanager
def _alarm(conn: Any, limit: float) -> Iterator[None]:
    """End what *conn* waits for after *limit* seconds, where the driver has no limit of its own for it: on C."""
    if not hasattr(conn, "_cmysql") or limit == math.inf:
        yield
        return
    rung: list[bool] = []

    def ring() -> None:
        line = line_of(conn)
        if line is not None:
            rung.append(line.sever())
            line.close()

    timer = Timer(limit, ring)
    timer.name, timer.daemon = "aurora_actors-alarm", True
    timer.start()
    try:
        yield
    except Exception as error:
        if rung:
            raise DeadlineExceeded("the server did not answer in time") from error
        raise
    finally:
        timer.cancel()


def _mind_the_extension(target: Any, parameters: Mapping[str, Any]) -> None:
    """Say once that the driver took pure Python because its extension, which is installed, cannot be loaded here."""
    pure = iscoroutinefunction(target) or "use_pure" in parameters or mysql.connector.HAVE_CEXT
    if not pure and not _said and importlib.util.find_spec("_mysql_connector") is not None:
        _said.append("extension")
        log.warning(
            "MySQL Connector runs in pure Python, since its C extension cannot be loaded (%s): take mysql-connector-python"
            " 9.7 or a newer OpenSSL, or give use_pure=True to have it so",
            _why_no_extension(),
        )


def _why_no_extension() -> str:
    try:
        importlib.import_module("_mysql_connector")
    except ImportError as error:
        return str(error)
    return "it loads now"
