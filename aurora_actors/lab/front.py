"""Stand before a MySQL or MariaDB server, so that it answers what only Aurora MySQL knows.

The file is a program: the lab starts one for each host, and it starts the host's server as its child. Each connection of
a client gets a connection of its own to the server, over the server's private Unix socket, and bytes pass as they are, with
two exceptions. In the server's greeting, TLS and compression are not offered. And a statement, sent as text or to be
prepared, that names something of Aurora's is rewritten to one that the server can answer. Its standard input is a socket:
a byte from the lab lets clients in and is answered; its end is the end of the front and of the server.

It uses nothing else of this package, so that it starts fast and runs by its path. One thread, no login of its own.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

__all__ = ["Scanner", "rewritten", "rewritten_packet", "without_tls_and_compression"]

Selector: TypeAlias = selectors.BaseSelector

CHUNK_BYTES = 64 * 1024
BACKLOG = 512
COM_QUERY, COM_STMT_PREPARE = 0x03, 0x16
LONGEST_BYTES = 64 * 1024
"""A longer statement passes unread: those of drivers have some hundred bytes."""
HEADER_BYTES = 4
CLIENT_COMPRESS, CLIENT_SSL, CLIENT_ZSTD = 1 << 5, 1 << 11, 1 << 26
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


def without_tls_and_compression(greeting: bytes) -> bytes:
    """Return the server's first packet without the offer of TLS and of compression; an error packet as it is."""
    if greeting[HEADER_BYTES] == 0xFF:
        return greeting
    place = greeting.index(b"\0", HEADER_BYTES + 1) + 1 + FIXED_BYTES
    packet = bytearray(greeting)
    low = int.from_bytes(packet[place : place + 2], "little") & ~(CLIENT_COMPRESS | CLIENT_SSL)
    high = int.from_bytes(packet[place + 5 : place + 7], "little") & ~(CLIENT_ZSTD >> 16)
    packet[place : place + 2] = low.to_bytes(2, "little")
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

    def __init__(self) -> None:
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
        return without_tls_and_compression(self._held[:length]) + self._held[length:]


class Connection:
    """A client's socket (end 0) and its server's (end 1). An end is not read while the other takes nothing."""

    __slots__ = ("ended", "ends", "left", "masks", "selector", "translate")

    def __init__(self, client: socket.socket, server: socket.socket, scanner: Scanner, selector: Selector) -> None:
        self.ends = (client, server)
        self.translate = (scanner.feed, Greeting().feed)
        self.left = [b"", b""]
        """What is still to be sent to each end."""
        self.ended = [False, False]
        self.masks = [0, 0]
        self.selector = selector
        self._watch()

    def ready(self, end: int, mask: int) -> None:
        """Move bytes after an end became readable or writable."""
        try:
            if mask & selectors.EVENT_WRITE:
                self._send(end, self.left[end])
            if mask & selectors.EVENT_READ:
                self._read(end)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if (self.ended[0] and not self.left[1]) or (self.ended[1] and not self.left[0]):
            self.close()
        elif self.left[0] or self.left[1] or mask & selectors.EVENT_WRITE:
            self._watch()

    def _read(self, end: int) -> None:
        data = self.ends[end].recv(CHUNK_BYTES)
        if not data:
            self.ended[end] = True
            return
        data = self.translate[end](data)
        if data:
            self._send(1 - end, data)

    def _send(self, end: int, data: bytes) -> None:
        try:
            sent = self.ends[end].send(data)
        except BlockingIOError:
            sent = 0
        self.left[end] = data[sent:] if sent < len(data) else b""

    def _watch(self) -> None:
        for end in (0, 1):
            mask = 0 if self.left[1 - end] or self.ended[end] else selectors.EVENT_READ
            mask |= selectors.EVENT_WRITE if self.left[end] else 0
            if mask == self.masks[end]:
                continue
            if self.masks[end] == 0:
                self.selector.register(self.ends[end], mask, functools.partial(self.ready, end))
            elif mask == 0:
                self.selector.unregister(self.ends[end])
            else:
                self.selector.modify(self.ends[end], mask, functools.partial(self.ready, end))
            self.masks[end] = mask

    def close(self) -> None:
        """End both sides."""
        for end in (0, 1):
            if self.masks[end]:
                self.selector.unregister(self.ends[end])
                self.masks[end] = 0
            self.ends[end].close()


class Front:
    """Everything between one address and one server, which is its child."""

    def __init__(self, path: str, address: tuple[str, int], rewrite: Callable[[bytes], bytes]) -> None:
        self.path = path
        self.address = address
        self.rewrite = rewrite
        self.selector = selectors.DefaultSelector()
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], user: dict[str, Any], control: socket.socket) -> int:
        """Start the server and serve until it ends; return its exit code."""
        woken, waker = socket.socketpair()
        for end in (woken, waker, control):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda number, _: self._pass_on(number))
        self.selector.register(woken, selectors.EVENT_READ, lambda _: woken.recv(CHUNK_BYTES))
        self.selector.register(control, selectors.EVENT_READ, lambda _: self._obey(control))
        server = subprocess.Popen[bytes](command, stdin=subprocess.DEVNULL, cwd="/", **user)
        self.server = server
        while server.poll() is None:
            self._serve(None)
        while self._serve(0):
            """What the server said at last still goes to its clients."""
        return server.returncode

    def _serve(self, seconds: float | None) -> bool:
        events = self.selector.select(seconds)
        for key, mask in events:
            key.data(mask)
        return bool(events)

    def _pass_on(self, number: int) -> None:
        if self.server is not None:
            self.server.send_signal(number)

    def _obey(self, control: socket.socket) -> None:
        try:
            order = control.recv(1)
        except OSError:
            order = b""
        if order == b"o":
            self._listen()
            control.send(b"o")
        else:
            # The lab is gone.
            self.selector.unregister(control)
            self._pass_on(signal.SIGKILL)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self.path)
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError:
                    # The server is on its way out.
                    server.close()
                    client.close()
                    continue
                client.setblocking(False)
                server.setblocking(False)
                Connection(client, server, Scanner(self.rewrite), self.selector)


def main(arguments: list[str]) -> int:
    path, address, port, host, version, uid, gid, *command = arguments
    with suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    user = {} if uid == "-" else {"user": int(uid), "group": int(gid), "extra_groups": []}
    control = socket.socket(fileno=os.dup(0))
    front = Front(path, (address, int(port)), lambda packet: rewritten_packet(packet, host, version))
    return front.run(command, user, control)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
