"""Stand before a server: serve TLS, check tokens, and answer what only Aurora MySQL knows.

The module is a program: the lab starts one for each host that needs it, and it starts the host's server as its child. Each
connection of a client gets a connection of its own to the server, over the server's private Unix socket; what the two say
passes through the *talk* of their engine. Its standard input is a socket: a byte from the lab lets clients in and is
answered; its end is the end of the front and of the server.

It runs without site packages, so that it starts fast. One thread.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import selectors
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from . import front_mysql, front_postgres, tokens
from .account import Account
from .names import Place

__all__ = ["Task", "main"]

Feed: TypeAlias = Callable[[bytes], bytes]
Selector: TypeAlias = selectors.BaseSelector

CHUNK_BYTES = 64 * 1024
BACKLOG = 512
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""What the lab tells a server by."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one front is for; the program's first argument, as JSON."""

    engine: str
    place: Place
    """The host, and where its clients find it."""
    path: Path
    """The server's Unix socket."""
    account: Account
    """The server's; the front keeps its own."""
    certificate: str = ""
    """Of the host, with its key; empty: no TLS."""
    token_user: str = ""
    """Who logs in with a token; empty: nobody does."""
    domain: str = ""
    ports: tuple[int, ...] = ()
    """For tokens: the cluster's domain, and the ports that they may name."""
    version: str = ""
    """Aurora MySQL's, for statements that ask for it; empty: statements pass as they are."""

    def text(self) -> str:
        """The argument."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of(cls, text: str) -> Task:
        """The task that the argument tells."""
        told = json.loads(text)
        place, account = Place(**told.pop("place")), Account(**told.pop("account"))
        return cls(place=place, account=account, path=Path(told.pop("path")), **told)

    def refuses(self, token: bytes) -> bool:
        """Whether a token does not let its user in; why not is written to the server's log."""
        text, now = token.decode("utf-8", "replace"), datetime.now(UTC)
        why = tokens.refusal(text, user=self.token_user, domain=self.domain, ports=tuple(self.ports), now=now)
        if why:
            sys.stderr.write(f"the token of {self.token_user} is refused: {why}\n")
        return bool(why)


class Connection:
    """A client's socket (end 0) and its server's (end 1). An end is not read while the other takes nothing."""

    __slots__ = ("_incoming", "_is_greeted", "_outgoing", "_tls", "context", "ended", "ends", "left", "masks", "selector",
                 "task", "translate")  # fmt: skip

    def __init__(
        self, client: socket.socket, server: socket.socket, task: Task, context: ssl.SSLContext | None, selector: Selector
    ) -> None:
        self.ends = (client, server)
        self.task, self.context = task, context
        self.translate: tuple[Feed, Feed] = (front_mysql if task.engine == "mysql" else front_postgres).talk(self)
        self.left = [b"", b""]
        """What is still to be sent to each end."""
        self.ended = [False, False]
        self.masks = [0, 0]
        self.selector = selector
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._is_greeted = False
        self._watch()

    # For the talk of an engine

    @property
    def is_secure(self) -> bool:
        """Whether the client speaks through TLS."""
        return self._is_greeted

    def reply(self, data: bytes) -> None:
        """Say something to the client in the server's place."""
        self._send(0, data)

    def refuse(self, data: bytes) -> None:
        """Say something to the client, and no more."""
        self.reply(data)
        self.ended[1] = True

    def start_tls(self, first: bytes) -> None:
        """Take what the client says for TLS from now on, beginning with what it has said already."""
        assert self.context is not None
        self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._decrypt(first)

    # Bytes

    def ready(self, end: int, mask: int) -> None:
        """Move bytes after an end became readable or writable."""
        try:
            if mask & selectors.EVENT_WRITE:
                self._send_left(end, b"")
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
        elif end == 0 and self._tls is not None:
            self._decrypt(data)
        else:
            self._pass_on(end, data)

    def _pass_on(self, end: int, data: bytes) -> None:
        data = self.translate[end](data)
        if data:
            self._send(1 - end, data)

    def _decrypt(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None
        self._incoming.write(data)
        try:
            if not self._is_greeted:
                tls.do_handshake()
                self._is_greeted = True
            while plain := tls.read(CHUNK_BYTES):
                self._pass_on(0, plain)
            self.ended[0] = True
        except ssl.SSLWantReadError:
            pass
        finally:
            if self._outgoing.pending:
                self._send_left(0, self._outgoing.read())

    def _send(self, end: int, data: bytes) -> None:
        if end == 0 and self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._send_left(end, data)

    def _send_left(self, end: int, data: bytes) -> None:
        data = self.left[end] + data if self.left[end] else data
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

    def __init__(self, task: Task) -> None:
        self.task = task
        self.context: ssl.SSLContext | None = None
        if task.certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(task.certificate)
        self.selector = selectors.DefaultSelector()
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], control: socket.socket) -> int:
        """Start the server and serve until it ends; return its exit code."""
        woken, waker = socket.socketpair()
        for end in (woken, waker, control):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in PASSED_ON:
            signal.signal(number, lambda received, _: self._pass_on(received))
        self.selector.register(woken, selectors.EVENT_READ, lambda _: woken.recv(CHUNK_BYTES))
        self.selector.register(control, selectors.EVENT_READ, lambda _: self._obey(control))
        server = subprocess.Popen[bytes](
            command, stdin=subprocess.DEVNULL, cwd="/", env={"LC_ALL": "C", "TZ": "UTC"},
            **self.task.account.popen(),
        )
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
        listener.bind((self.task.place.address, self.task.place.port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self.task.path))
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError:
                    # The server is on its way out.
                    server.close()
                    client.close()
                    continue
                client.setblocking(False)
                server.setblocking(False)
                Connection(client, server, self.task, self.context, self.selector)


def main(arguments: list[str]) -> int:
    """Run the front of the task that the first argument tells, before the server whose command follows."""
    text, *command = arguments
    with suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    control = socket.socket(fileno=os.dup(0))
    return Front(Task.of(text)).run(command, control)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
