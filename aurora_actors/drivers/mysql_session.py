"""What lies under a connection of MySQL Connector, pure, C and asyncio: its socket, its state, and how these are exchanged.

Called by the thread or task that uses the connection, which the driver wants alone on it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from inspect import isawaitable
from typing import Any, NamedTuple

from mysql.connector import Error

from aurora_actors.drivers.lines import Line
from aurora_actors.drivers.mysql_server import IN_TRANSACTION
from aurora_actors.model.session_state import Effect, Session

__all__ = [
    "SESSION_CHANGES",
    "Handle",
    "at_rest",
    "cure",
    "drop",
    "error_of",
    "exchange",
    "going_to",
    "handle_of",
    "keep_alive",
    "line_of",
    "noted",
    "session_options",
    "shut",
    "status_of",
]

log = logging.getLogger("aurora_actors.drivers")

# struct st_mysql of mysql.h begins with struct NET, whose sixth member is the descriptor, after five pointers; the
# extension's object begins with it. Right in every connection tried: 9.7 and 26.10, CPython 3.11 to 3.13, TLS and plain.
_DESCRIPTOR = object.__basicsize__ + 5 * ctypes.sizeof(ctypes.c_void_p)

# What the application set on the object, which no new session would bring along.
_SET_ON_OBJECT = (
    *("_buffered", "_raw", "_get_warnings", "_raise_on_warnings", "raise_on_warnings", "_consume_results", "_use_unicode"),
    *("_query_attrs", "_read_timeout", "_write_timeout", "_pool_config_version", "_autocommit", "_time_zone", "_sql_mode"),
    *("_converter_class", "converter", "_converter_str_fallback", "otel_context_propagation", "_tracer", "_span"),
    *("_allow_local_infile", "_allow_local_infile_in_path", "_init_command", "_MySQLConnectionAbstract__charset_id"),
    *("_MySQLConnectionAbstract__charset", "_charset_name", "_charset_collation"),
    *("_aa_database", "_aa_read_only", "_aa_login"),
)
# What belongs to the object and never leaves it: our link, and the cursors that asyncio's connections know.
_OF_OBJECT = ("_aa_link", "_cursors")


class Handle(NamedTuple):
    """Which socket a session has: its descriptor as it was at connect, the file it stood for, and both ends.

    ``number``: the session's own, as its server, or a proxy, gave it.
    """

    descriptor: int
    inode: int
    peer: tuple[str, int] | None
    own: tuple[str, int] | None = None
    number: int | None = None


def handle_of(conn: Any) -> Handle | None:
    """Read directly after connect, in the thread that connected: afterwards the number may be somebody else's."""
    descriptor = _descriptor(conn)
    if descriptor is None or descriptor < 0:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            peer, own = duplicate.getpeername(), duplicate.getsockname()
    except OSError:
        return None
    if conn._unix_socket:
        return Handle(descriptor, status.st_ino, None)
    # The port is all that can be checked: a front or an address translation may stand between.
    if not isinstance(peer, tuple) or (peer[1] != conn._port and not hasattr(conn, "_socket")):
        return None
    return Handle(descriptor, status.st_ino, (peer[0], peer[1]), (own[0], own[1]), conn.connection_id)


def line_of(conn: Any) -> Line | None:
    """A duplicate of the session's own socket; None: it has been closed, or cannot be known."""
    with suppress(OSError), _duplicate(conn) as duplicate:
        return Line(duplicate.fileno())
    return None


def keep_alive(conn: Any, wanted: Mapping[str, Any]) -> None:
    """Set the ``tcp_keepalive`` options that the user gave, for which the driver has none. Raises ``OSError``."""
    names = {"time": "TCP_KEEPIDLE", "interval": "TCP_KEEPINTVL", "probes": "TCP_KEEPCNT"}
    given = {name: wanted[f"tcp_keepalive_{name}"] for name in names if wanted.get(f"tcp_keepalive_{name}")}
    on = bool(given) if wanted.get("tcp_keepalive") is None else wanted["tcp_keepalive"]
    with _duplicate(conn) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(on))
        for name, value in given.items():
            if hasattr(socket, names[name]):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, names[name]), value)


def status_of(conn: Any) -> int:
    """The server's status as it last told it, which stays what it was when the connection is lost."""
    if hasattr(conn, "_cmysql"):
        return int(conn._cmysql.st_server_status()) if conn._cmysql is not None else 0
    return int(conn._aa_status) & ~IN_TRANSACTION | bool(conn._in_transaction)


def cure(cursor: Any) -> None:
    """The session under an open cursor is about to change: what it read is kept, what it would still read is gone.

    Untreated, a prepared statement's number would name another one of the new session's, and unread rows would look like
    the end of the result.
    """
    found = cursor.__dict__
    cursor._stmt_partitions = None
    if "_stmt" in found:
        # The C library has all rows of a prepared statement in memory. The driver prepares again for another object.
        if cursor._executed is not None:
            cursor._executed = cursor._executed[:-1] + cursor._executed[-1:]
        return
    if "_prepared" in found:
        cursor._prepared = None
    elif found.get("_rows") is not None:
        return
    cursor._executed = None
    cursor._description = None
    cursor._nextrow = (None, None)


def at_rest(conn: Any) -> bool:
    """Whether nothing is open on the session: no transaction, and no result that has not been read to its end."""
    if status_of(conn) & IN_TRANSACTION:
        return False
    if hasattr(conn, "_cmysql"):
        try:
            return conn._cmysql is not None and not (conn._unread_result or conn.unread_result or conn.more_results)
        except Exception:  # noqa: BLE001 - of a session that is lost the library tells nothing, in classes of its own
            return False
    return not (conn._unread_result or conn._have_next_result)


def shut(conn: Any) -> None:
    """The stream is out of step: nobody may read from it any more. No-op on C, which never leaves an answer behind."""
    if hasattr(conn, "_cmysql"):
        return
    # What has not been read never will be: the next statement is to find the loss, not a result in its way.
    conn._unread_result = conn._have_next_result = False
    sock = getattr(conn._socket, "sock", None)
    if sock is not None:
        with suppress(OSError):
            # The base class's: SSLSocket's own would go on in plain text.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    transport = _transport(conn)
    if transport is not None:
        transport.abort()


def drop(conn: Any) -> None:
    """Close without waiting for anybody."""
    if hasattr(conn, "_cmysql"):
        line = line_of(conn)
        if line is not None:
            # close() reads what is left of a result; nothing comes any more.
            line.sever()
            line.close()
        if conn._cmysql is not None:
            with suppress(Exception):  # of the library's own class
                conn._cmysql.close()
        return
    shut(conn)
    if hasattr(conn._socket, "sock"):
        with suppress(OSError, Error):
            conn._socket.close_connection()


async def error_of(call: Callable[[], Any]) -> Exception | None:
    """What a call of the driver's fails with, in either colour; None: it succeeds."""
    try:
        answer = call()
        if isawaitable(answer):
            await answer
    except (Error, OSError) as error:
        return error
    return None


def exchange(conn: Any, spare: Any) -> None:
    """Put the session of *spare* under *conn*, and that of *conn* under *spare*."""
    if hasattr(conn, "_cmysql") and conn._use_unicode != spare._use_unicode:
        spare.use_unicode = conn._use_unicode
    # Both stay as they are up to the exchange itself, in which no signal handler is called.
    old, new = dict(conn.__dict__), dict(spare.__dict__)
    for name in old.keys() - set(_OF_OBJECT):
        # Attributes that only the old one has are the application's own.
        if name in _SET_ON_OBJECT or name not in new:
            new[name] = old[name]
    for name in _OF_OBJECT:
        kept, other = old.pop(name, None), new.pop(name, None)
        new |= {name: kept} if kept is not None else {}
        old |= {name: other} if other is not None else {}
    conn.__dict__, spare.__dict__ = new, old


@contextmanager
def going_to(conn: Any, address: tuple[str, int] | None) -> Iterator[None]:
    """Have *conn* connect to *address*, if one is given, and keep its own name for the host."""
    own = conn._host, conn._port
    if address is not None and hasattr(conn, "_get_connection"):
        # TLS then goes by the name.
        conn._aa_at = address
    elif address is not None:
        conn._aa_name = conn._host
        conn._host, conn._port = address
    try:
        yield
    finally:
        conn._aa_at = None
        conn._host, conn._port = own


def session_options(old: Any, new: Any) -> list[str]:
    """The statements that give *new* what was set through the driver on *old* since it was opened."""
    assignments = []
    if bool(old._autocommit) != bool(new._autocommit):
        assignments.append(f"autocommit = {int(old._autocommit)}")
    if old._time_zone != new._time_zone and old._time_zone is not None:
        assignments.append(f"time_zone = {_quoted(old._time_zone)}")
    # The driver keeps what it read there, too.
    if old._sql_mode != new._sql_mode and old._sql_mode is not None:
        assignments.append(f"sql_mode = {_quoted(old._sql_mode)}")
    statements = [f"SET SESSION {', '.join(assignments)}"] if assignments else []
    if old.charset != new.charset or old.collation != new.collation:
        statements.insert(0, f"SET NAMES {old.charset} COLLATE {old.collation}")
    if old._aa_read_only:
        statements.append("SET SESSION TRANSACTION READ ONLY")
    if old._aa_database is not None and old._aa_database != new._database:
        statements.append(f"USE `{old._aa_database.replace('`', '``')}`")
    return statements


def _duplicate(conn: Any) -> socket.socket:
    """Raises ``OSError`` where the descriptor is not the session's socket any more, or never was known."""
    handle: Handle | None = conn._aa_handle
    if handle is None:
        raise OSError("the socket of the connection is not known")
    duplicate = socket.socket(fileno=os.dup(handle.descriptor))
    if os.fstat(duplicate.fileno()).st_ino != handle.inode:
        # Whoever got the number since has another file under it.
        duplicate.close()
        raise OSError("the socket of the connection has been closed")
    return duplicate


def _descriptor(conn: Any) -> int | None:
    if hasattr(conn, "_cmysql"):
        session = conn._cmysql
        if session is None or type(session).__basicsize__ < _DESCRIPTOR + ctypes.sizeof(ctypes.c_int):
            return None
        return ctypes.c_int.from_address(id(session) + _DESCRIPTOR).value
    transport = _transport(conn)
    sock = transport.get_extra_info("socket") if transport is not None else getattr(conn._socket, "sock", None)
    return sock.fileno() if sock is not None else None


def _transport(conn: Any) -> Any:
    return getattr(getattr(getattr(conn, "_socket", None), "_writer", None), "transport", None)


def _quoted(text: str) -> str:
    # Right with and without NO_BACKSLASH_ESCAPES: neither of these values has a backslash in it.
    return "'" + str(text).replace("\\", "").replace("'", "''") + "'"


def noted(conn: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A call that changes what the session is has succeeded."""
    if name in ("cmd_init_db", "set_database"):
        conn._aa_database = str(args[0] if args else next(iter(kwargs.values())))
    elif name == "cmd_change_user":
        conn._aa_login = (args, kwargs)
    link = conn._aa_link
    if name in ("cmd_change_user", "cmd_reset_connection", "reset_session"):
        # reset_session() takes variables to set anew, which nobody else knows of.
        link.clean = name != "reset_session" or not any((*args, *kwargs.values()))
        link.session = Session()
        conn._aa_read_only = None
    elif name in _SET_OVER:
        # From here on the driver's own record tells.
        over = tuple(Effect("reset", key) for key in _SET_OVER[name])
        link.session = link.session.after(over, in_transaction=False)


_SET_OVER = {
    "set_autocommit": ("autocommit",),
    "set_time_zone": ("time_zone",),
    "set_sql_mode": ("sql_mode",),
    "set_read_only": ("transaction_read_only",),
    "set_charset_collation": ("names",),
    "set_character_set_name": ("names",),
}
SESSION_CHANGES = frozenset(
    {"cmd_init_db", "set_database", "cmd_change_user", "cmd_reset_connection", "reset_session", *_SET_OVER}
)
