"""What a front says and hears between clients and a PostgreSQL server: TLS, and the login with a token.

The message formats are those of the protocol's version 3 (PostgreSQL's manual, "Message Formats"). The server itself needs
no TLS, and many builds, that of the lab's wheel among them, have none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .front import Connection

__all__ = ["talk"]

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)
STARTUP = b"\0\3"
"""The first bytes of the code of a startup message, after its length; what cancels a statement has another code."""
ASK_FOR_CLEAR_TEXT = b"R" + struct.pack("!II", 8, 3)
MOST_BYTES = 10_000
"""Of a message before the login is over: PostgreSQL's own bound."""


def talk(line: Connection) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Return what each side's bytes go through."""
    return _Login(line).feed, bytes


def error(code: str, text: str) -> bytes:
    """A FATAL error of the server."""
    fields = "".join(f"{kind}{value}\0" for kind, value in (("S", "FATAL"), ("V", "FATAL"), ("C", code), ("M", text)))
    return b"E" + struct.pack("!I", len(fields.encode()) + 5) + fields.encode() + b"\0"


class _Login:
    """The beginning of a client's connection."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._held = b""
        self._startup = b""
        """Of a client that is asked for its token."""
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """Return what goes to the server now."""
        if self._is_over:
            return data
        self._held += data
        if self._startup:
            return self._token()
        return self._first()

    def _first(self) -> bytes:
        held, line = self._held, self._line
        if held[:8] in {SSL_REQUEST, GSS_REQUEST}:
            offered = held[:8] == SSL_REQUEST and line.context is not None and not line.is_secure
            self._held = b""
            line.reply(b"S" if offered else b"N")
            if offered:
                line.start_tls(held[8:])
                return b""
            return self.feed(held[8:])
        if len(held) < 8 or len(held) < (size := int.from_bytes(held[:4], "big")):
            return b""
        task = line.task
        if task.token_user and held[4:6] == STARTUP and self._user(held[8:size]) == task.token_user:
            if not line.is_secure:
                where = f'user "{task.token_user}", no encryption'
                line.refuse(error("28000", f'pg_hba.conf rejects connection for host "{task.place.address}", {where}'))
                return b""
            self._startup, self._held = held[:size], held[size:]
            line.reply(ASK_FOR_CLEAR_TEXT)
            return b""
        self._is_over = True
        return held

    @staticmethod
    def _user(parameters: bytes) -> str:
        words = parameters.split(b"\0")
        return dict(zip(words[::2], words[1::2], strict=False)).get(b"user", b"").decode("utf-8", "replace")

    def _token(self) -> bytes:
        held = self._held
        size = int.from_bytes(held[1:5], "big") + 1
        if size > MOST_BYTES:
            self._line.refuse(error("08P01", "the message is too long"))
            return b""
        if len(held) < 5 or len(held) < size:
            return b""
        self._is_over = True
        user = self._line.task.token_user
        if held[:1] != b"p" or self._line.task.refuses(held[5:size].rstrip(b"\0")):
            self._line.refuse(error("28000", f'PAM authentication failed for user "{user}"'))
            return b""
        return self._startup + held[size:]
