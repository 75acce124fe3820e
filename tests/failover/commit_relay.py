"""A relay before the host that writes, which loses a marked COMMIT on its way there or back."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aurora_actors.lab.lab import Lab
from tests.failover.applications import forget_clusters

__all__ = ["PATIENCE_SECONDS", "TOKEN", "MysqlRelay", "Relay"]

PATIENCE_SECONDS = 20.0
"""How long a test waits for what has to happen; a hang, not a pace."""
CONNECT_SECONDS = 1.0
"""How long the relay waits for the host behind it, which may have fallen silent."""
TOKEN = b"aurora_actors.mark("


class Relay:
    """Stands before the host that writes now. ``lose`` says where the next marked COMMIT is lost: ``there`` or ``back``.

    Then ``meanwhile`` happens, and the application's side is closed; ``deliver`` gives the server what was held back.
    New connections go where it ``leads_to``.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = self.leads_to = lab.address(lab.writer)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.lose = ""
        self.meanwhile: Callable[[], object] = bool
        self._held: list[tuple[socket.socket, bytes]] = []
        self._threads: list[threading.Thread] = []
        self.texts: list[bytes] = []
        self._begin(self._accept)

    def resolve(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        # Hosts are asked for at the port that was reached, which is the relay's.
        addresses = self._lab.resolve(host, self._before[1])
        return [self._listener.getsockname()] if self._before in addresses else addresses

    def deliver(self) -> bytes:
        """What the server says to the COMMIT that was held back."""
        ((server, data),) = self._held
        server.sendall(data)
        return self.answered(server)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        forget_clusters()  # whose monitors are connected through here
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for server, _ in self._held:
            server.close()

    def commits(self, data: bytes) -> bool:
        return TOKEN in data

    def answered(self, server: socket.socket) -> bytes:
        """The whole answer of the server."""
        return _answer(server)

    def _begin(self, target: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._begin(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            server = socket.create_connection(self.leads_to, CONNECT_SECONDS)
            try:
                self._pass_both_ways(client, server)
            finally:
                if not any(held is server for held, _ in self._held):
                    server.close()

    def _pass_both_ways(self, client: socket.socket, server: socket.socket) -> None:
        """Until an end closes."""
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return
                if end is client:
                    self.texts.append(data)
                if end is client and self.lose and self.commits(data):
                    lost, self.lose = self.lose, ""
                    if lost == "back":
                        server.sendall(data)
                        assert self.answered(server)
                    else:
                        self._held.append((server, data))
                    self.meanwhile()
                    return
                (server if end is client else client).sendall(data)


def _answer(server: socket.socket) -> bytes:
    server.settimeout(PATIENCE_SECONDS)
    answer = b""
    while not answer.endswith((b"I", b"T", b"E")) or b"Z\0\0\0\5" not in answer:
        data = server.recv(65536)
        if not data:
            break
        answer += data
    return answer


class MysqlRelay(Relay):
    """The same on MySQL, where the token goes ahead of the COMMIT."""

    def commits(self, data: bytes) -> bool:
        return data[5:].upper() == b"COMMIT"

    def answered(self, server: socket.socket) -> bytes:
        server.settimeout(PATIENCE_SECONDS)
        return server.recv(65536)
