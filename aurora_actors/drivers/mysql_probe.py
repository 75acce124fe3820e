"""The sessions of host monitors on MySQL and MariaDB: logged in by the driver, on a thread that may block; asked by us.

The login knows every way to authenticate and blocks; a question is one packet and its answer a handful, and a monitor has
many things to wait for at once. So the pure connection's socket is taken over: plain or TLS, it is read as bytes come.
https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
"""

from __future__ import annotations

import errno
import os
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import Error

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Place, ProbeError, Probing, Sockets

__all__ = ["MysqlProbe", "logged_in"]

LOGIN_SECONDS = 3.0
"""How long the login of a host that says nothing keeps its thread."""
CHUNK_BYTES = 65536
LONGEST_PAYLOAD = 0xFFFFFF
_OK, _EOF, _ERROR, _NULL = 0x00, 0xFE, 0xFF, 0xFB
_COM_QUERY, _COM_QUIT = 3, 1
_MORE_RESULTS = 0x0008
# A monitor must not be sent away for having nothing to ask (the server's own default is as long), nor be able to write.
# The latter holds for each question: a pooler in between hands nothing of it to an application.
_PREAMBLE = "SET SESSION wait_timeout = 28800"
_QUESTION = "START TRANSACTION READ ONLY; {}; COMMIT"
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
_SERVER_ERRORS = range(1000, 2000), range(3000, 10000)
_NOT_FOR_PROBES = frozenset(
    {"compress", "init_command", "autocommit", "converter_class", "raw", "buffered", "read_timeout", "write_timeout"}
    | {"client_flags"}
)
_GRAVEYARD: list[Any] = []
"""Sockets inherited over a fork: kept referenced, since closing one would say goodbye in the parent's name."""


async def logged_in(parameters: Mapping[str, Any], place: Place, sockets: Probing) -> MysqlProbe:
    """A session of its own. Raises ``ProbeError``; cancelled, it leaves nothing open."""
    login = _Login(parameters, place)
    try:
        conn = await sockets.blocking(login.run)
    except Error as error:
        raise _refused(error) from None
    except OSError as error:
        raise ProbeError(str(error), local=error.errno in _LOCAL) from None
    except BaseException:
        login.abandon()
        raise
    return MysqlProbe(conn)


class _Connection(MySQLConnection):
    """Goes to an address under the host's own name, and says no more to the server than a monitor has to."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        super().__init__()

    def _get_connection(self) -> Any:
        made: Any = super()._get_connection()
        if not self._unix_socket:
            made.server_host, made.server_port = self._address
        return made

    def leave(self) -> None:
        """Close without a word. (The driver's own shutdown() leaves a socket open whose other end is gone.)"""
        if self._socket is not None:
            self._socket.close_connection()

    def _post_connection(self) -> None:
        # The driver has lifted its limit by now.
        self._read_timeout = int(LOGIN_SECONDS)
        self.cmd_query(_PREAMBLE)


class _Login:
    """One login, on a thread of its own; nobody may be waiting for it any more when it is done."""

    def __init__(self, parameters: Mapping[str, Any], place: Place) -> None:
        self._parameters = parameters
        self._place = place
        self._lock = threading.Lock()
        self._abandoned = False
        self._made: _Connection | None = None

    def run(self) -> _Connection:
        conn = self._connected()
        with self._lock:
            if not self._abandoned:
                self._made = conn
                return conn
        conn.leave()
        raise ProbeError("nobody waits for this login any more")

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            made = self._made
        if made is not None:
            # It came through, but nobody took it any more.
            made.leave()

    def _connected(self) -> _Connection:
        known = {key: value for key, value in self._parameters.items() if key not in _NOT_FOR_PROBES}
        attributes = {**(known.pop("conn_attrs", None) or {}), "program_name": "aurora_actors-monitor"}
        limit = min(float(known.pop("connection_timeout", None) or LOGIN_SECONDS), LOGIN_SECONDS)
        *others, last = self._place.addresses
        for address in (*others, last):
            conn = _Connection(address)
            at = {"host": self._place.host, "port": address[1]} if not known.get("unix_socket") else {}
            try:
                conn.connect(**{**known, **at, "connection_timeout": limit, "conn_attrs": dict(attributes)})
            except Error:
                conn.leave()
                if address == last:
                    raise
            else:
                return conn
        raise AssertionError("a place has an address")


class MysqlProbe:
    """One session; used by the thread of one host monitor."""

    def __init__(self, conn: _Connection) -> None:
        self._conn = conn
        under: Any = conn._socket
        self._socket: Any = under.sock
        self._socket.setblocking(False)
        # With query attributes agreed upon, a statement says first that it has none.
        self._head = b"\x03\x00\x01" if conn._client_flags & ClientFlag.CLIENT_QUERY_ATTRIBUTES else b"\x03"
        self._received = b""
        self._pid = os.getpid()

    async def ask(self, sql: str, sockets: Sockets) -> Rows:
        """The rows of *sql*. Raises ``ProbeError``."""
        payload = self._head + _QUESTION.format(sql).encode()
        rows: list[list[str | None]] = []
        more = True
        try:
            await self._send(len(payload).to_bytes(3, "little") + b"\0" + payload, sockets)
            while more:
                found, more = await self._result(sockets)
                rows = rows or found
        except OSError as error:
            raise ProbeError(str(error) or type(error).__name__) from None
        return rows

    def close(self) -> None:
        if os.getpid() != self._pid:
            self.abandon()
            return
        try:
            self._socket.send(b"\x01\0\0\0\x01")
        except OSError:
            pass  # the server finds out by itself
        finally:
            self._conn.leave()

    def abandon(self) -> None:
        _GRAVEYARD.append(self._conn)

    async def _result(self, sockets: Sockets) -> tuple[list[list[str | None]], bool]:
        """The rows of the next statement, and whether another follows."""
        first = await self._packet(sockets)
        if first[0] == _OK:
            _, at = _length(first, 1)
            _, at = _length(first, at)
            return [], _tells_of_more(first, at)
        columns, _ = _length(first, 0)
        for _turn in range(columns + 1):
            # The columns' descriptions, and the packet that ends them.
            await self._packet(sockets)
        rows: list[list[str | None]] = []
        while True:
            packet = await self._packet(sockets)
            if packet[0] == _EOF and len(packet) < 9:
                return rows, _tells_of_more(packet, 3)
            rows.append(_texts(packet, columns))

    async def _packet(self, sockets: Sockets) -> bytes:
        """The payload of the next packet. Raises ``ProbeError`` for one that is an error."""
        await self._receive(4, sockets)
        size = int.from_bytes(self._received[:3], "little")
        await self._receive(4 + size, sockets)
        packet, self._received = self._received[4 : 4 + size], self._received[4 + size :]
        if size == LONGEST_PAYLOAD or not packet:
            raise ProbeError("the server's answer is none to a question of a monitor's")
        if packet[0] == _ERROR:
            raise _error(packet)
        return packet

    async def _receive(self, size: int, sockets: Sockets) -> None:
        while len(self._received) < size:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                await sockets.readable(self._socket.fileno())
            except ssl.SSLWantWriteError:
                await sockets.writable(self._socket.fileno())
            else:
                if not data:
                    raise ProbeError("the server closed the connection")
                self._received += data

    async def _send(self, data: bytes, sockets: Sockets) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await sockets.writable(self._socket.fileno())
            except ssl.SSLWantReadError:
                await sockets.readable(self._socket.fileno())


def _refused(error: Error) -> ProbeError:
    answered = any(error.errno in numbers for numbers in _SERVER_ERRORS) and not isinstance(error, TimeoutError)
    silent = error.sqlstate is None and not answered
    cause = error.__cause__
    local = isinstance(cause, OSError) and cause.errno in _LOCAL
    return ProbeError(str(error), answered=answered, sqlstate=None if silent else str(error.errno), local=local)


def _error(packet: bytes) -> ProbeError:
    number = int.from_bytes(packet[1:3], "little")
    message = packet[9:] if packet[3:4] == b"#" else packet[3:]
    # A killed session's last word says nothing of its host, but nothing follows it.
    ends = number in (1053, 1152, 1184, 1927, 3169, 4031)
    return ProbeError(f"{number}: {message.decode(errors='replace')}", answered=not ends, sqlstate=str(number))


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number, and where it ends."""
    first = packet[at]
    if first < _NULL:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None:
        raise ProbeError("the server's answer cannot be read")
    return int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size


def _tells_of_more(packet: bytes, at: int) -> bool:
    """Whether the server's status, which stands there, says that another result follows."""
    return bool(int.from_bytes(packet[at : at + 2], "little") & _MORE_RESULTS)


def _texts(packet: bytes, columns: int) -> list[str | None]:
    values: list[str | None] = []
    at = 0
    for _ in range(columns):
        if packet[at] == _NULL:
            values.append(None)
            at += 1
            continue
        size, at = _length(packet, at)
        values.append(packet[at : at + size].decode(errors="replace"))
        at += size
    return values
