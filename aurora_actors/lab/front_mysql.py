"""What a front says and hears between clients and a MySQL or MariaDB server, so that it seems Aurora MySQL.

Bytes pass as they are, with these exceptions. In the server's greeting, compression is not offered, and TLS where the lab
has it. A login through TLS counts its packets anew for the server, which is told nothing of TLS; one with a token
is asked for it in clear text, and goes on without a password. And a statement, sent as text or to be prepared, that names
something of Aurora's is rewritten to one that the server can answer.

Packets are those of the protocol's documentation ("MySQL Internals", Connection Phase).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .front import Connection

__all__ = ["Greeting", "Login", "Scanner", "greeting_of", "rewritten", "rewritten_packet", "talk"]

COM_QUERY, COM_STMT_PREPARE = 0x03, 0x16
LONGEST_BYTES = 64 * 1024
"""A longer statement passes unread: those of drivers have some hundred bytes."""
HEADER_BYTES = 4
CLIENT_COMPRESS, CLIENT_SSL, CLIENT_ZSTD = 1 << 5, 1 << 11, 1 << 26
CLIENT_CONNECT_WITH_DB, CLIENT_PLUGIN_AUTH = 1 << 3, 1 << 19
CLIENT_CONNECT_ATTRS, CLIENT_LENENC_AUTH = 1 << 20, 1 << 21
LOGIN_BYTES = 32
"""Of a login's fixed part; a packet of just these asks for TLS."""
OK, ERROR = 0x00, 0xFF
FIXED_BYTES = 13
"""Of a greeting, between the server's version and its capabilities: connection id, first scramble, a zero."""

NEEDLE = re.compile(rb"aurora|replica_host_status|innodb_read_only", re.IGNORECASE)
QUOTED = rb"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|/\*.*?\*/|\#[^\n]*|--\s[^\n]*"
SCOPE = rb"@@(?:(?:global|session|local)\s*\.\s*)?"
VARIABLE = SCOPE + rb"(?P<variable>aurora_server_id|aurora_version|innodb_read_only)\b"
FUNCTION = rb"(?<![\w.`])aurora_version\s*\(\s*\)"
TABLE = rb"(?<![\w`.])(?:`?information_schema`?\s*\.\s*)?(?:`replica_host_status`|replica_host_status\b)"
WORD = re.compile(
    rb"(?P<quoted>%b)|(?P<any>%b)|(?P<function>%b)|(?P<table>%b)" % (QUOTED, VARIABLE, FUNCTION, TABLE),
    re.IGNORECASE | re.DOTALL,
)
SHOW = re.compile(
    rb"\s*SHOW\s+(?:GLOBAL\s+|SESSION\s+|LOCAL\s+)?VARIABLES\s+(?P<filter>(?:LIKE|WHERE)\s.*?)\s*;?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
ITEM_BEFORE = re.compile(rb"(?:\bSELECT|,)\s*\Z", re.IGNORECASE)
ITEM_AFTER = re.compile(rb"\s*(?:,|;|\Z|FROM\b|LIMIT\b|WHERE\b)", re.IGNORECASE)


def rewritten(statement: bytes, host: str, version: str) -> bytes:
    """Return the statement as the server can answer it; the very same object where it names nothing of Aurora's.

    Column names stay what they would be on Aurora. Strings and comments are left alone.
    """
    if NEEDLE.search(statement) is None:
        return statement
    values = {
        b"aurora_server_id": b"'" + host.encode() + b"'",
        b"aurora_version": b"'" + version.encode() + b"'",
        b"innodb_read_only": b"@@global.read_only",
    }
    shown = SHOW.match(statement)
    if shown is not None and NEEDLE.search(shown["filter"]) is not None:
        return _shown(shown["filter"], values)

    def replaced(found: re.Match[bytes]) -> bytes:
        if found["quoted"] is not None:
            return found[0]
        if found["table"] is not None:
            return b"aurora_lab.replica_host_status"
        value = values[found["variable"].lower()] if found["any"] is not None else values[b"aurora_version"]
        before, after = statement[: found.start()], statement[found.end() :]
        is_item = ITEM_BEFORE.search(before) and ITEM_AFTER.match(after) and before.count(b"(") == before.count(b")")
        return value + b" AS `" + found[0] + b"`" if is_item else value

    result = WORD.sub(replaced, statement)
    return statement if result == statement else result


def rewritten_packet(packet: bytes, host: str, version: str) -> bytes:
    """As :func:`rewritten`, for a command packet: the command's byte, query attributes where there are any, the text."""
    # Without attributes, a client that may send some says so with a count of 0 and a 1.
    text = 3 if packet[1:3] == b"\0\1" else 1
    changed = rewritten(packet[text:], host, version)
    return packet if changed == packet[text:] else packet[:text] + changed


def _shown(condition: bytes, values: dict[bytes, bytes]) -> bytes:
    rows = {**values, b"innodb_read_only": b"IF(@@global.read_only, 'ON', 'OFF')"}
    table = b" UNION ALL ".join(
        b"SELECT '" + name + b"' AS Variable_name, " + value + b" AS Value" for name, value in rows.items()
    )
    where = condition if condition[:5].upper() == b"WHERE" else b"WHERE Variable_name " + condition
    return b"SELECT Variable_name, Value FROM (" + table + b") AS variables " + where


def greeting_of(greeting: bytes, *, tls: bool) -> bytes:
    """Return the server's first packet without the offer of compression, with that of TLS or without; an error as it is."""
    if greeting[HEADER_BYTES] == ERROR:
        return greeting
    place = greeting.index(b"\0", HEADER_BYTES + 1) + 1 + FIXED_BYTES
    packet = bytearray(greeting)
    low = int.from_bytes(packet[place : place + 2], "little") & ~(CLIENT_COMPRESS | CLIENT_SSL)
    high = int.from_bytes(packet[place + 5 : place + 7], "little") & ~(CLIENT_ZSTD >> 16)
    packet[place : place + 2] = (low | (CLIENT_SSL if tls else 0)).to_bytes(2, "little")
    packet[place + 5 : place + 7] = high.to_bytes(2, "little")
    return bytes(packet)


class Scanner:
    """Cuts what a client sends into packets and rewrites the statements among them."""

    def __init__(self, rewrite: Callable[[bytes], bytes]) -> None:
        self._rewrite = rewrite
        self._held = b""
        self._passing = 0
        """Bytes still to come of a packet that is not read."""
        self._number = 0
        """Of the last packet: one that follows number 255 goes on with what that began."""

    def feed(self, data: bytes) -> bytes:
        """Return what goes to the server now; the beginning of a short statement is held until its end is there."""
        size = len(data)
        if (
            not self._held
            and not self._passing
            and size > HEADER_BYTES
            and data[3] == 0
            and self._number != 255
            and data[0] | data[1] << 8 | data[2] << 16 == size - HEADER_BYTES
            and NEEDLE.search(data) is None
        ):
            # The everyday case: one whole command, none of ours.
            self._number = 0
            return data
        if self._held:
            data, self._held = self._held + data, b""
            size = len(data)
        done: list[bytes] = []
        place = 0
        while place < size:
            if self._passing:
                some = min(self._passing, size - place)
                done.append(data[place : place + some])
                self._passing -= some
                place += some
                continue
            if size - place <= HEADER_BYTES and not self._is_empty_packet(data, place):
                self._held = data[place:]
                break
            place = self._packet(data, place, done)
            if place < 0:
                break
        return b"".join(done)

    @staticmethod
    def _is_empty_packet(data: bytes, place: int) -> bool:
        return data[place : place + 3] == b"\0\0\0" and len(data) - place == HEADER_BYTES

    def _packet(self, data: bytes, place: int, done: list[bytes]) -> int:
        """Deal with the packet that begins at *place*; return where the next begins, or -1 if it is held."""
        length = data[place] | data[place + 1] << 8 | data[place + 2] << 16
        number = data[place + 3]
        starts = number == 0 and self._number != 255
        body = place + HEADER_BYTES
        if starts and 0 < length <= LONGEST_BYTES and data[body] in {COM_QUERY, COM_STMT_PREPARE}:
            if len(data) - body < length:
                self._held = data[place:]
                return -1
            packet = data[body : body + length]
            changed = self._rewrite(packet)
            self._number = 0
            done.append((data[place:body] if changed is packet else len(changed).to_bytes(3, "little") + b"\0") + changed)
            return body + length
        self._number = number
        done.append(data[place:body])
        self._passing = length
        return body


class Greeting:
    """Holds the server's first packet until it is whole, and changes it."""

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        self._held = b""
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """Return what goes to the client now."""
        if self._is_over:
            return data
        self._held += data
        length = int.from_bytes(self._held[:3], "little") + HEADER_BYTES
        if len(self._held) <= HEADER_BYTES or len(self._held) < length:
            return b""
        self._is_over = True
        return greeting_of(self._held[:length], tls=self._tls) + self._held[length:]


class Login:
    """A login that may go through TLS, and with a token; what follows goes through a scanner."""

    def __init__(self, line: Connection, scanner: Scanner) -> None:
        self._line, self._scanner = line, scanner
        self._held = [b"", b""]
        self._is_over = False
        self._shift = 0
        """By how much the client's count of packets is ahead of the server's."""
        self._plugin = b""
        """How the server checks passwords by default."""
        self._waiting: bytes | None = None
        """What goes to the server once the client's token has been found good."""

    def from_client(self, data: bytes) -> bytes:
        """Return what goes to the server now."""
        if self._is_over:
            return self._scanner.feed(data)
        self._held[0] += data
        done = b""
        while packet := self._next(0):
            done += self._answered(packet)
        return done

    def from_server(self, data: bytes) -> bytes:
        """Return what goes to the client now."""
        if self._is_over:
            return data
        self._held[1] += data
        done = b""
        while not self._is_over and (packet := self._next(1)):
            kind = packet[HEADER_BYTES]
            if not self._plugin:
                self._plugin = packet.rstrip(b"\0").rpartition(b"\0")[2]
                packet = greeting_of(packet, tls=self._line.context is not None)
            elif kind in {OK, ERROR}:
                self._is_over = True
            done += _numbered(packet[HEADER_BYTES:], packet[3] + self._shift)
        return done + (self._held[1] if self._is_over else b"")

    def _next(self, end: int) -> bytes:
        held = self._held[end]
        length = int.from_bytes(held[:3], "little") + HEADER_BYTES
        if len(held) <= HEADER_BYTES or len(held) < length:
            return b""
        self._held[end] = held[length:]
        return held[:length]

    def _answered(self, packet: bytes) -> bytes:
        """Return what goes to the server for a packet of the client."""
        body, number = packet[HEADER_BYTES:], packet[3]
        line = self._line
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            if line.task.refuses(body.rstrip(b"\0")):
                return self._refused(number)
            self._shift = number - 1
            return _numbered(waiting, 1)
        if number == 1 and line.context is not None and len(body) == LOGIN_BYTES:
            self._shift = 1
            first, self._held[0] = self._held[0], b""
            line.start_tls(first)
            return b""
        return self._named(body, number) if number == 1 + self._shift else _numbered(body, number - self._shift)

    def _named(self, body: bytes, number: int) -> bytes:
        """As above, for the packet that says who it is."""
        line = self._line
        flags = int.from_bytes(body[:4], "little") & ~CLIENT_SSL
        body = flags.to_bytes(4, "little") + body[4:]
        user = body[LOGIN_BYTES : body.index(b"\0", LOGIN_BYTES)]
        if not line.task.token_user or user != line.task.token_user.encode():
            return _numbered(body, 1)
        if not line.is_secure:
            return self._refused(number)
        self._waiting = without_password(body, self._plugin)
        line.reply(_numbered(b"\xfemysql_clear_password\0", number + 1))
        return b""

    def _refused(self, number: int) -> bytes:
        task = self._line.task
        text = f"Access denied for user '{task.token_user}'@'{task.place.address}' (using password: YES)"
        self._line.refuse(_numbered(struct.pack("<BH", ERROR, 1045) + b"#28000" + text.encode(), number + 1))
        return b""


def without_password(login: bytes, plugin: bytes) -> bytes:
    """Return a login's packet, without its header, as that of a client which has no password."""
    flags = int.from_bytes(login[:4], "little")
    start = login.index(b"\0", LOGIN_BYTES) + 1
    # A password of 251 bytes and more has a longer count; a client that sends it unasked sends it in clear text.
    size, width = login[start], 1
    if flags & CLIENT_LENENC_AUTH and size == 0xFC:
        size, width = int.from_bytes(login[start + 1 : start + 3], "little"), 3
    rest = login[start + width + size :]
    database, left = b"", rest
    if flags & CLIENT_CONNECT_WITH_DB:
        name, _, left = rest.partition(b"\0")
        database = name + b"\0"
    if flags & CLIENT_PLUGIN_AUTH:
        left = left.partition(b"\0")[2]
    attributes = left if flags & CLIENT_CONNECT_ATTRS else b""
    flags |= CLIENT_PLUGIN_AUTH
    return flags.to_bytes(4, "little") + login[4:start] + b"\0" + database + plugin + b"\0" + attributes


def _numbered(body: bytes, number: int) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def talk(line: Connection) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Return what each side's bytes go through."""
    task = line.task
    scanner = Scanner(lambda packet: rewritten_packet(packet, task.place.id, task.version))
    if line.context is None:
        return scanner.feed, Greeting().feed
    login = Login(line, scanner)
    return login.from_client, login.from_server
