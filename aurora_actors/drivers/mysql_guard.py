"""The classes that the application holds on MySQL Connector: its own, watched at their outermost methods.

The connection (pure or C) and its cursors keep their class names; what lies under the connection is exchanged on a switch.
Here is what threads need, and what both colours share; ``mysql_aio`` has what asyncio needs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any

import mysql.connector
from mysql.connector.errors import Error

from aurora_actors.deadlines import NEVER, nearest
from aurora_actors.drivers.mysql_classes import cursor_calls, cursor_class, driver_s_own, guarded_cursor, is_async, named
from aurora_actors.drivers.mysql_link import NO_LINK
from aurora_actors.drivers.mysql_marking import marking
from aurora_actors.drivers.mysql_reading import HARMLESS, STARTS, STATEMENTS, failure_of, keywords_as_known
from aurora_actors.drivers.mysql_session import SESSION_CHANGES, handle_of, noted, shut
from aurora_actors.errors import FailoverSuccessError
from aurora_actors.flow.running import run_blocking

__all__ = ["adopt", "guard_of", "guarded_pool"]

log = logging.getLogger("aurora_actors.drivers")

# What may use the network, of connections and of cursors. A test reads the driver's source for what is missing here.
_CONNECTION_CALLS = (
    *("cmd_query", "cmd_init_db", "cmd_change_user", "cmd_reset_connection", "cmd_refresh", "cmd_statistics", "cmd_ping"),
    *("cmd_process_kill", "cmd_debug", "cmd_stmt_prepare", "cmd_stmt_execute", "cmd_stmt_reset", "cmd_stmt_close"),
    *("cmd_stmt_fetch", "cmd_stmt_send_long_data", "commit", "rollback", "start_transaction", "reset_session"),
    # Not free_result of C: the driver calls it after the last row, and before each statement, which is watched itself.
    *("set_charset_collation", "set_character_set_name", "info_query", "get_rows", "next_result"),
    *("consume_results", "get_autocommit", "set_autocommit", "get_database", "set_database", "get_time_zone"),
    *("set_time_zone", "get_sql_mode", "set_sql_mode"),
)
PROPERTIES = ("autocommit", "database", "time_zone", "sql_mode")
# Errors on these go no further: what the application calls next finds out.
QUIET = ("cmd_quit", "cmd_shutdown")

# Private names of the driver that an exchange rests on. Where a release lacks one, connections are the driver's alone.
_NEEDED_MADE = (
    *("_unread_result", "_have_next_result", "_autocommit", "_time_zone", "_sql_mode", "_host", "_port", "_unix_socket"),
)

_classes: dict[type[Any], type[Any]] = {}


# What a guarded connection has besides, before anybody attached anything to it.
TRAITS: dict[str, Any] = {
    "_aa_link": NO_LINK, "_aa_handle": None, "_aa_at": None, "_aa_name": None, "_aa_limit": None, "_aa_status": 0,
    "_aa_database": None, "_aa_read_only": None, "_aa_login": None,
}  # fmt: skip


def guard_of(base: type[Any]) -> type[Any]:
    """The class derived from *base*, made once; it has the driver's name and this one base."""
    made = _classes.get(base)
    if made is None:
        if hasattr(base, "_aa_link") or not _fits(base):
            made = base
        elif is_async(base):
            from aurora_actors.drivers.mysql_aio import made_async

            made = made_async(base)
        else:
            made = _made(base)
        _classes[base] = made
    return made


def adopt(conn: Any) -> None:
    """Turn a connection that the driver has opened into one that can be attached to. In the thread that opened it."""
    made = guard_of(type(conn))
    if made is type(conn) or not hasattr(made, "_aa_link"):
        return
    conn.__class__ = made
    conn._aa_status = 2 * bool(conn._autocommit) + bool(getattr(conn, "_in_transaction", False))
    conn._aa_handle = handle_of(conn)


def guarded_pool(base: type[Any]) -> type[Any]:
    """The class of pooled connections derived from *base*: what was attached ends when one goes back to its pool."""
    if is_async(base):
        from aurora_actors.drivers.mysql_aio import close_pooled
    else:
        close_pooled = _close_pooled
    return cursor_class(base, lambda cls: {"close": functools.wraps(cls.close)(close_pooled(cls.close))})


async def released(conn: Any) -> None:
    """A connection has gone back to its pool."""
    await conn._aa_link.closed()
    conn._aa_link = NO_LINK


def _close_pooled(base_close: Any) -> Any:
    def close(self: Any) -> None:
        conn = self._cnx
        try:
            base_close(self)
        except FailoverSuccessError:
            return  # the pool has it, and it works again
        finally:
            if conn is not None:
                run_blocking(released(conn))

    return close


def connection_calls(base: type[Any]) -> Iterable[tuple[str, Any]]:
    """The methods of *base* to guard, by name."""
    for name in _CONNECTION_CALLS:
        method = getattr(base, name, None)
        if method is not None:
            yield name, method


def _fits(base: type[Any]) -> bool:
    found = {name for cls in base.__mro__ if "__init__" in vars(cls) for name in _names(cls)}
    missing = [name for name in _NEEDED_MADE if name not in found]
    missing += [] if {"_socket", "_cmysql"} & found else ["_socket"]
    if missing:
        version = mysql.connector.__version__
        log.warning("MySQL Connector %s lacks %s: lost connections are not recovered", version, ", ".join(missing))
    return not missing


def _names(cls: type[Any]) -> tuple[str, ...]:
    code = getattr(vars(cls)["__init__"], "__code__", None)
    return code.co_names if code is not None else ()


def _acting(name: str, base: Any, *, of_cursor: bool = False) -> Any:
    """*base*, from which recovery starts where the application itself calls it."""
    states, changes = name in STATEMENTS, name in SESSION_CHANGES
    if not (states or changes or name in STARTS):
        return _watched(base, name, of_cursor=of_cursor)

    @functools.wraps(base)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            conn = self._connection if of_cursor else self
            link = conn._aa_link
        except (AttributeError, ReferenceError):
            return base(self, *args, **kwargs)  # a cursor that is closed, or whose connection is gone
        me = get_ident()
        if link.busy_since:
            if link.user != me:
                link.refuse(name)
            return base(self, *args, **kwargs)
        unread = states and not (args and args[0].__class__ is str and args[0] in HARMLESS)
        # From this look to what it decides nothing is called, so that the interpreter lets no other thread in between.
        was = link.user
        if was and was != me:
            link.refuse(name)
        link.user = me
        try:
            if unread or link.cell.view is not link.seen or nearest() is not NEVER or link.limited:
                call = partial(base, self, *args, **kwargs)
                result = run_blocking(link.call(conn, name, args or (*kwargs.values(),), call))
            else:
                link.busy_since = monotonic()
                try:
                    result = base(self, *args, **kwargs)
                except BaseException as error:
                    run_blocking(link.failed(conn, error, name, args))
                    raise
        finally:
            link.busy_since, link.user = 0.0, was
        if changes and result is not False:  # what resetting says where it failed
            noted(conn, name, args, kwargs)
        return result

    return method


def _asking(name: str, base: Any) -> Any:
    """The getter *base*, from which recovery starts; ``executemany`` calls one for each of its rows."""
    acting = _acting(name, base)

    @functools.wraps(base)
    def get(self: Any) -> Any:
        return base(self) if self._aa_link.busy_since else acting(self)

    return get


def _watched(base: Any, name: str | None = None, *, of_cursor: bool = False) -> Any:
    """*base*, which reads on and asks for nothing new; without a *name* the driver swallows its errors, so that no recovery
    may start within it."""

    @functools.wraps(base)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = getattr(self._connection if of_cursor else self, "_aa_link", NO_LINK)
        me = get_ident()
        was = link.user
        if was != me and (was or link.busy_since):
            link.refuse(name)
        if link.busy_since:
            return base(self, *args, **kwargs)
        link.user = me
        try:
            if name is not None and (nearest() is not NEVER or link.limited):
                conn, call = self._connection if of_cursor else self, partial(base, self, *args, **kwargs)
                return run_blocking(link.call(conn, name, args or (*kwargs.values(),), call))
            link.busy_since = monotonic()
            return base(self, *args, **kwargs)
        except BaseException as error:
            if name is not None and link.busy_since:
                run_blocking(link.failed(self._connection if of_cursor else self, error, name, args))
            raise
        finally:
            link.busy_since, link.user = 0.0, was

    return method


def _reading(base: Any) -> Any:
    """The method that reads rows, called for every one that is not buffered."""
    watched = _watched(base, "get_rows")

    @functools.wraps(base)
    def get_rows(
        self: Any, count: Any = None, binary: Any = False, columns: Any = None, raw: Any = None, prep_stmt: Any = None,
        read_timeout: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        link, me = self._aa_link, get_ident()
        if nearest() is not NEVER or link.limited or kwargs or link.user or link.busy_since:
            return watched(self, count, binary, columns, raw, prep_stmt, read_timeout=read_timeout, **kwargs)
        link.user = me
        try:
            link.busy_since = monotonic()
            return base(self, count, binary, columns, raw, prep_stmt, read_timeout=read_timeout)
        except BaseException as error:
            run_blocking(link.failed(self, error, "get_rows", ()))
            raise
        finally:
            link.busy_since, link.user = 0.0, 0

    return get_rows if keywords_as_known(base) else watched


def _made_cursor(base: type[Any]) -> dict[str, Any]:
    calls = cursor_calls(base, _acting, _watched)
    close = calls["close"]

    @functools.wraps(close)
    def closed(self: Any) -> Any:
        try:
            return close(self)
        except Error as error:
            if getattr(self, "_stmt", None) is None or not failure_of(error).lost:
                raise
            # The C extension has the server reset the prepared statement first, which is gone with its session.
            self._stmt = None
            return close(self)

    return {**calls, "close": closed}


def _made(base: Any) -> type[Any]:
    calls = {name: _acting(name, method) for name, method in connection_calls(base)}
    calls["commit"] = _acting("commit", marking(base.commit))
    calls |= {name: _watched(getattr(base, name)) for name in QUIET}
    calls["get_rows"] = _reading(base.get_rows)
    for name in PROPERTIES:
        given = getattr(base, name)
        calls[name] = property(_asking(name, given.fget), _acting(f"set_{name}", given.fset), doc=given.__doc__)
    base_cursor = _acting("cursor", base.cursor)

    def cursor(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = self._aa_link
        made = base_cursor(self, *args, **kwargs)
        if not link.busy_since:
            made = guarded_cursor(self, made, _made_cursor)
            link.cursors.add(made)
        return made

    def set_read_only(self: Any, value: bool) -> None:
        self.cmd_query(f"SET SESSION TRANSACTION READ {'ONLY' if value else 'WRITE'}")
        self._aa_read_only = bool(value)

    own = (cursor, *_coming_and_going(base), *(_of_pure(base) if hasattr(base, "_get_connection") else ()))
    calls |= {each.__name__: functools.wraps(getattr(base, each.__name__))(each) for each in own}
    calls |= {"disconnect": calls["close"], "stale": property(stale)}
    calls["read_only"] = property(read_only, _acting("set_read_only", set_read_only))
    return named(base, {**TRAITS, **driver_s_own(base), **calls})


def _coming_and_going(base: Any) -> tuple[Any, ...]:
    """The methods by which a connection gets another session, or none."""
    base_open, base_close, base_connect, base_reconnect = base._open_connection, base.close, base.connect, base.reconnect
    base_ping, base_asked = _acting("ping", base.ping), _watched(base.is_connected)

    def is_connected(self: Any) -> bool:
        connected: bool = base_asked(self)
        if not connected:
            # The ping may have timed out, and its answer still come.
            shut(self)
        return connected

    def _open_connection(self: Any) -> None:
        base_open(self)
        self._aa_handle = handle_of(self)
        if self._aa_limit is not None:
            # What the driver says to the server now has no limit of its own.
            self._read_timeout, self._aa_limit = self._aa_limit, None

    def ping(self: Any, reconnect: bool = False, attempts: int = 1, delay: int = 0) -> None:
        if not reconnect or self._aa_link.busy_since:
            base_ping(self, reconnect, attempts, delay)
            return
        try:
            base_ping(self)
        except FailoverSuccessError:
            return  # it is connected again, as asked
        except Error:
            self.reconnect(attempts, delay)

    def reconnect(self: Any, attempts: int = 1, delay: int = 0) -> None:
        attempt = partial(base_reconnect, self, attempts, delay)
        with self._aa_link.used_by(get_ident(), "reconnect") as link:
            if link.busy_since:
                attempt()
            else:
                run_blocking(link.reconnected(self, "reconnect", attempt))

    def connect(self: Any, **kwargs: Any) -> None:
        with self._aa_link.used_by(get_ident(), "connect") as link:
            if link.busy_since:
                base_connect(self, **kwargs)
            elif not kwargs:
                run_blocking(link.reconnected(self, "connect", partial(base_connect, self)))
            else:
                # Who knows where this leads: from here on the connection is the driver's alone.
                self.close()
                self._aa_link = NO_LINK
                base_connect(self, **kwargs)

    def close(self: Any) -> None:
        link = self._aa_link
        if link.busy_since and (link.user == get_ident() or not hasattr(self, "_cmysql")):
            # Within another call; or from another thread, which ends that call, where it does not end the process.
            base_close(self)
            return
        with link.used_by(get_ident(), "close"):
            link.busy_since = monotonic()
            try:
                base_close(self)
            finally:
                link.busy_since = 0.0
                run_blocking(link.closed())

    return is_connected, _open_connection, ping, reconnect, connect, close


def stale(conn: Any) -> bool:
    """Whether the connection will go elsewhere before its next statement. Asks nobody: a pool can check by it."""
    proxy = conn._aa_link.proxy
    return proxy is not None and proxy.stale


def read_only(conn: Any) -> bool:
    """Whether transactions of the session may not write; set, it is the server that refuses them."""
    return bool(conn._aa_read_only)


def _of_pure(base: Any) -> tuple[Any, ...]:
    """What only the pure connection has: the server's status in its answers, and a socket that goes where it is told."""
    base_get = base._get_connection

    def _get_connection(self: Any) -> Any:
        made = base_get(self)
        if self._aa_at is not None:
            # TLS goes by the connection's own name for the host, as it should.
            made.server_host, made.server_port = self._aa_at
        return made

    return (handles_ok(base._handle_ok), _get_connection)


def handles_ok(base_ok: Any) -> Any:
    """The method for an answer without rows: only such a one can tell that autocommit is another now."""

    def _handle_ok(self: Any, packet: bytes) -> Any:
        answer = base_ok(self, packet)
        self._aa_status = answer["status_flag"]
        return answer

    return _handle_ok
