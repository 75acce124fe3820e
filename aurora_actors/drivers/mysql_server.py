"""What every driver for MySQL and MariaDB has in common: the server's side of the protocol, its numbers and its bits.

The sessions of host monitors are logged in by the driver, on a thread that may block, and asked by us. The login knows
every way to authenticate and blocks; a question is one packet and its answer a handful, and a monitor has many things to
wait for at once. So the driver's socket is taken over: plain or TLS, it is read as bytes come.
https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
"""

from __future__ import annotations

import errno
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Failure, ProbeError, Probing, Sockets

__all__ = [
    "AUTOCOMMIT",
    "IN_TRANSACTION",
    "LOGIN_SECONDS",
    "LOST",
    "PREAMBLE",
    "REFUSALS",
    "LoggedIn",
    "MysqlProbe",
    "numbered",
    "refused",
    "watching",
]

# Bits of the server's status, https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html
IN_TRANSACTION, AUTOCOMMIT = 0x0001, 0x0002
LOST = frozenset({2002, 2003, 2006, 2012, 2013, 2026, 2027, 2055})
"""What found a connection broken in the client itself. The rest of the table is the dialect's."""
LOGIN_SECONDS = 3.0
"""How long the login of a host that says nothing keeps its thread."""
PREAMBLE = "SET SESSION wait_timeout = 28800"
"""What a monitor's session says first: it must not be sent away for having nothing to ask (the server's own default)."""
_CHUNK_BYTES = 65536
_LONGEST_PAYLOAD = 0xFFFFFF
_OK, _EOF, _ERROR, _NULL = 0x00, 0xFE, 0xFF, 0xFB
_MORE_RESULTS = 0x0008
# Nor be able to write. This holds for each question: a pooler in between hands nothing of it to an application.
_QUESTION = "START TRANSACTION READ ONLY; {}; COMMIT"
_OPTION_PREVENTS = 1290
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
_SERVER_ERRORS = range(1000, 2000), range(3000, 10000)
_GRAVEYARD: list[Any] = []
"""Sockets inherited over a fork: kept referenced, since closing one would say goodbye in the parent's name."""


REFUSALS = frozenset({"1045", "1698"})
"""ER_ACCESS_DENIED_ERROR, and the same without a password, as ``Failure`` and ``ProbeError`` have them."""


def numbered(number: int, message: str) -> Failure:
    """What an error of that number says, whichever driver raised it."""
    if number == _OPTION_PREVENTS and "read-only" not in message and "read_only" not in message:
        return Failure(None, False)
    return Failure(str(number), number in LOST)


def refused(error: Exception, number: int | None, cause: BaseException | None) -> ProbeError:
    """The failed login of a monitor: the driver's *error*, its number if it has one, and what the driver says caused it."""
    answered = any(number in numbers for numbers in _SERVER_ERRORS) and not isinstance(error, TimeoutError)
    local = isinstance(cause, OSError) and cause.errno in _LOCAL
    return ProbeError(str(error), answered=answered, sqlstate=str(number) if answered else None, local=local)


class LoggedIn(NamedTuple):
    """A session that the driver has opened: its socket, and how it is closed without a word.

    ``attributes``: the driver agreed with the server upon query attributes. ``conn`` is kept, and not looked into.
    """

    conn: Any
    socket: Any
    leave: Callable[[], None]
    attributes: bool = False


async def watching(login: Callable[[], LoggedIn], sockets: Probing) -> MysqlProbe:
    """A session for a monitor: *login* opens it, on a thread of its own, with multi-statements and ``PREAMBLE`` said.

    *login* raises ``ProbeError`` or ``OSError``; cancelled, this leaves nothing open.
    """
    turn = _Login(login)
    try:
        made = await sockets.blocking(turn.run)
    except ProbeError:
        raise
    except OSError as error:
        raise ProbeError(str(error), local=error.errno in _LOCAL) from None
    except BaseException:
        turn.abandon()
        raise
    return MysqlProbe(made)


class _Login:
    """One login, on a thread of its own; nobody may be waiting for it any more when it is done."""

    def __init__(self, login: Callable[[], LoggedIn]) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._abandoned = False
        self._made: LoggedIn | None = None

    def run(self) -> LoggedIn:
        made = self._login()
        with self._lock:
            if not self._abandoned:
                self._made = made
                return made
        made.leave()
        raise ProbeError("nobody waits for this login any more")

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            made = self._made
        if made is not None:
            # It came through, but nobody took it any more.
            made.leave()


class MysqlProbe:
    """One session; used by the thread of one host monitor."""

    def __init__(self, login: LoggedIn) -> None:
        self._login = login
        self._socket: Any = login.socket
        self._socket.setblocking(False)
        # With query attributes agreed upon, a statement says first that it has none.
        self._head = b"\x03\x00\x01" if login.attributes else b"\x03"
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
            self._login.leave()

    def abandon(self) -> None:
        _GRAVEYARD.append(self._login)

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
        if size == _LONGEST_PAYLOAD or not packet:
            raise ProbeError("the server's answer is none to a question of a monitor's")
        if packet[0] == _ERROR:
            raise _error(packet)
        return packet

    async def _receive(self, size: int, sockets: Sockets) -> None:
        while len(self._received) < size:
            try:
                data = self._socket.recv(_CHUNK_BYTES)
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
