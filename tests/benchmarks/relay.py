"""A TCP relay on loopback that counts what a client of PostgreSQL sends and in how many round trips.

Client and server take turns: a round trip begins with each byte that the client sends after the server has spoken.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import selectors
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = ["PATIENCE_SECONDS", "Relay", "Talk"]

CHUNK = 65536
PATIENCE_SECONDS = 5.0
_STARTUP = 196608
"""Protocol version 3.0 in the first message of a session; requests for TLS, GSSAPI and cancelling have other numbers."""
_PASSWORD = "p"  # the type of the messages that differ by a nonce in each login
_FLUSH = "H"


@dataclass(slots=True)
class Talk:
    """One connection through the relay. ``messages``: (type, body) of all that the client sent; the first has no type."""

    trips: int = 0
    sent: int = 0
    received: int = 0
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    _rest: bytes = b""
    _started: bool = False
    _theirs: bool = True

    @property
    def application(self) -> str:
        """The ``application_name`` that it gave itself."""
        start = next((body for kind, body in self.messages if not kind and b"user\0" in body), b"")
        parts = start.split(b"\0")
        return parts[parts.index(b"application_name") + 1].decode() if b"application_name" in parts else ""

    @property
    def statements(self) -> list[str]:
        """Texts of simple and prepared statements."""
        texts = [body.split(b"\0")[0 if kind == "Q" else 1] for kind, body in self.messages if kind in {"Q", "P"}]
        return [text.decode() for text in texts]

    @property
    def comparable(self) -> list[tuple[str, bytes]]:
        """The messages, less a login's nonces, and without Flush, which psycopg's pipelines send as time has it."""
        return [(kind, b"" if kind == _PASSWORD else body) for kind, body in self.messages if kind != _FLUSH]

    def from_client(self, data: bytes) -> None:
        self.trips += self._theirs
        self._theirs = False
        self.sent += len(data)
        self._rest += data
        while message := self._next():
            self.messages.append(message)

    def from_server(self, data: bytes) -> None:
        self._theirs = True
        self.received += len(data)

    def _next(self) -> tuple[str, bytes] | None:
        typed = int(self._started)
        if len(self._rest) < typed + 4:
            return None
        length = int.from_bytes(self._rest[typed : typed + 4], "big")
        if len(self._rest) < typed + length:
            return None
        kind, body = self._rest[:typed].decode("latin-1"), self._rest[typed + 4 : typed + length]
        self._rest = self._rest[typed + length :]
        # Version 3.2 has the same major number.
        self._started = self._started or int.from_bytes(body[:4], "big") >> 16 == _STARTUP >> 16
        return kind, body


class Relay:
    """Listens on loopback and passes everything on to one server; ``talks`` are its connections so far."""

    def __init__(self, server: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._server = server
        self._listener = socket.create_server(address)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.talks: list[Talk] = []
        self.address: tuple[str, int] = self._listener.getsockname()

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        # Wakes accept(), which closing the listener would not.
        socket.create_connection(self.address).close()
        for thread in tuple(self._threads):
            thread.join(PATIENCE_SECONDS)
        self._listener.close()

    def _begin(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._ended.is_set():
                client.close()
                return
            talk = Talk()
            self.talks.append(talk)
            self._begin(self._pass_on, client, talk)

    def _pass_on(self, client: socket.socket, talk: Talk) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            talk.ended.set()
            return
        try:
            self._take_turns(client, server, talk)
        finally:
            talk.ended.set()

    def _take_turns(self, client: socket.socket, server: socket.socket, talk: Talk) -> None:
        with client, server, selectors.DefaultSelector() as selector:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(one, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(1.0):
                    try:
                        data = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
                    except ConnectionError:
                        data = b""
                    if not data:
                        return
                    (talk.from_client if key.fileobj is client else talk.from_server)(data)
                    try:
                        (server if key.fileobj is client else client).sendall(data)
                    except ConnectionError:
                        return
