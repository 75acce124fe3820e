"""The bundled monitors as units: what they conclude from real sockets on loopback, and from the server's word."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence

import pytest

from aurora_actors.plugin import Host, Sign
from aurora_actors.testing import check, probed
from aurora_actors_plugins.sql_monitor import SqlMonitor
from aurora_actors_plugins.tcp_monitor import TcpMonitor

LATE = 0.2
"""Seconds that a probe has which nobody answers."""


def at(port: int, address: str = "127.0.0.1") -> Host:
    return Host("orders-1", address, port)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        yield sock


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener whose backlog is full: the kernel drops every further request to connect, as a black hole does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        waiting: list[socket.socket] = []
        try:
            while True:
                client = socket.socket()
                waiting.append(client)
                client.settimeout(LATE)
                try:
                    client.connect(sock.getsockname())
                except TimeoutError:
                    break
            yield sock
        finally:
            for client in waiting:
                client.close()


@pytest.mark.parametrize("monitor", [SqlMonitor, TcpMonitor])
def test_they_are_as_monitors_have_to_be(monitor: type[SqlMonitor | TcpMonitor]) -> None:
    check(monitor)


def test_tcp_says_that_an_open_port_is_reached(listener: socket.socket) -> None:
    assert probed(TcpMonitor, at(listener.getsockname()[1])) is Sign.REACHED
    client, _ = listener.accept()
    with client:
        assert client.recv(1) == b""  # it left as soon as it had come


def test_tcp_needs_nobody_to_accept(listener: socket.socket) -> None:
    assert probed(TcpMonitor, at(listener.getsockname()[1])) is Sign.REACHED


def test_tcp_takes_a_refusal_for_silence(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert probed(TcpMonitor, at(port)) is Sign.SILENT


def test_tcp_takes_dropped_packets_for_silence(full: socket.socket) -> None:
    assert probed(TcpMonitor, at(full.getsockname()[1]), seconds=LATE) is Sign.SILENT


def test_tcp_speaks_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6 loopback: {error}")
        sock.listen(1)
        assert probed(TcpMonitor, at(sock.getsockname()[1], "::1")) is Sign.REACHED


def test_tcp_goes_where_the_resolver_says(listener: socket.socket) -> None:
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> Sequence[tuple[str, int]]:
        asked.append((host, port))
        return [("127.0.0.1", listener.getsockname()[1])]

    host = Host("orders-1", "orders-1.abc.eu-west-1.rds.amazonaws.com", 5432)
    assert probed(TcpMonitor, host, resolve=resolve) is Sign.REACHED
    assert asked == [(host.endpoint, 5432)]


def test_a_name_that_is_not_found_says_nothing() -> None:
    def resolve(host: str, port: int) -> Sequence[tuple[str, int]]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    assert probed(TcpMonitor, Host("orders-1", "gone.example", 5432), resolve=resolve) is Sign.NOTHING


@pytest.mark.parametrize(
    ("code", "sign"),
    [
        (errno.EMFILE, Sign.NOTHING),
        (errno.ENETUNREACH, Sign.NOTHING),
        (errno.EADDRNOTAVAIL, Sign.NOTHING),
        (errno.ECONNREFUSED, Sign.SILENT),
        (errno.ECONNRESET, Sign.SILENT),
        (errno.ETIMEDOUT, Sign.SILENT),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else None,
)
def test_only_silence_and_broken_sockets_count(code: int, sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(socket.socket):
        def connect_ex(self, address: object) -> int:
            return code

    monkeypatch.setattr(socket, "socket", Failing)
    assert probed(TcpMonitor, at(1)) is sign


@pytest.mark.parametrize("sign", Sign)
def test_sql_says_what_the_server_said(sign: Sign) -> None:
    assert probed(SqlMonitor, at(1), answer=sign) is sign


def test_sql_takes_a_server_that_does_not_answer_for_silent() -> None:
    assert probed(SqlMonitor, at(1), answer=None, seconds=LATE) is Sign.SILENT
