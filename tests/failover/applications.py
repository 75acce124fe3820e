"""What applications of the tests do: connect to the lab, lose their session, note the signals, look at the servers."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg

import aurora_actors
from aurora_actors import FailoverError, signals
from aurora_actors.actors.system import system
from aurora_actors.drivers import mysql_deadline
from aurora_actors.lab import PostgresLab
from aurora_actors.lab.engine import Server
from tests.lab.sessions import eventually

__all__ = [
    "MONITOR",
    "Noted",
    "ServerLog",
    "connect",
    "connect_plain",
    "connections",
    "failover_error_of",
    "forget_clusters",
    "kill_own_session",
    "noted",
    "our_threads",
    "server_log",
    "sessions_of_monitors",
    "wait_until_nobody_looks",
    "where",
]

SETTLED_SECONDS = 10.0
"""A bound on what takes milliseconds; only a failing test waits for it."""
STOP_SECONDS = 0.05
"""Actors end at once; a monitor that waits for a server's held answer is left to end by itself."""
MONITOR = "aurora_actors-monitor"
WHO = "SELECT aurora_db_instance_identifier()"


def connect(lab: PostgresLab, endpoint: str = "writer", **parameters: Any) -> Any:
    """A connection of ours with autocommit, unless said otherwise."""
    parameters = {"autocommit": True, **parameters}
    return aurora_actors.connect(psycopg.Connection.connect, lab.conninfo(endpoint), **parameters)


@contextmanager
def connections(lab: PostgresLab, count: int, endpoint: str = "writer", **parameters: Any) -> Iterator[list[Any]]:
    """Many connections of ours, closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(lab, endpoint, **parameters)) for _ in range(count)]


def connect_plain(lab: PostgresLab, host: str, **parameters: Any) -> Any:
    """A connection of ours to the address of a host, as to a database that is nobody's cluster."""
    address, port = lab.address(host)
    conninfo = lab.conninfo("writer", host=address, port=port)
    return aurora_actors.connect(psycopg.Connection.connect, conninfo, **{"autocommit": True, **parameters})


def where(conn: Any) -> str:
    """The instance that a connection is on, by the server's word."""
    name: str = conn.execute(WHO).fetchone()[0]
    return name


def kill_own_session(lab: PostgresLab, conn: Any) -> None:
    """End the session of a connection, as an administrator would."""
    assert lab.kill_session(where(conn), conn.info.backend_pid)


def sessions_of_monitors(lab: PostgresLab, host: str) -> int:
    """How many sessions the host monitors of anybody hold there."""
    count: int = lab.cluster.host(host).server.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (MONITOR,)
    )[0][0]
    return count


def wait_until_nobody_looks(lab: PostgresLab, *hosts: str) -> None:
    """Until no host monitor holds a session on these hosts: their part in a search is over."""
    for host in hosts:
        eventually(partial(_unwatched, lab, host))


def _unwatched(lab: PostgresLab, host: str) -> bool:
    return sessions_of_monitors(lab, host) == 0


def forget_clusters() -> None:
    """Stop whatever runs in this process for clusters, and for deadlines that are over."""
    system.stop(STOP_SECONDS)
    mysql_deadline._clock.stop(STOP_SECONDS)


def failover_error_of(act: Callable[[], object]) -> FailoverError | str:
    """The error of ours that *act* raises, or what it does instead."""
    try:
        act()
    except FailoverError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - that is what is wrong
        return f"raised {error!r}"
    return "raised nothing"


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aurora_actors")]


class Noted:
    """The signals sent so far."""

    def __init__(self) -> None:
        self._events: list[tuple[str, str, Any]] = []

    def note(self, name: str, cluster: str, event: Any) -> None:
        self._events.append((name, cluster, event))

    def of(self, name: str) -> list[Any]:
        """The events of one signal, everything that was sent until now included."""
        assert signals.settle(SETTLED_SECONDS)
        return [event for each, _, event in self._events if each == name]

    def names(self, *wanted: str) -> list[str]:
        """Those signals in the order in which they were sent."""
        assert signals.settle(SETTLED_SECONDS)
        return [name for name, _, _ in self._events if name in wanted]

    def wait_for(self, name: str, count: int = 1) -> None:
        eventually(lambda: len(self.of(name)) >= count)


@contextmanager
def noted() -> Iterator[Noted]:
    """Note every signal while the block runs."""
    made = Noted()

    def noting(name: str) -> Callable[..., None]:
        return lambda cluster, event: made.note(name, cluster, event)

    receivers = {name: noting(name) for name in signals.namespace}
    for name, receiver in receivers.items():
        signals.namespace[name].connect(receiver)
    try:
        yield made
    finally:
        for name, receiver in receivers.items():
            signals.namespace[name].disconnect(receiver)


class ServerLog:
    """What the servers of a lab wrote about sessions since it was begun."""

    _authorized = re.compile(r"connection authorized: user=(\S+) database=\S+(?: application_name=(\S+))?")

    def __init__(self, lab: PostgresLab) -> None:
        self._lab = lab
        self._from = {host: self._file(host).stat().st_size for host in lab.hosts}

    def _file(self, host: str) -> Any:
        return self._lab.directory / host / "server.log"

    def text(self, host: str) -> str:
        data: bytes = self._file(host).read_bytes()
        return data[self._from[host] :].decode(errors="replace")

    def sessions(self) -> Counter[str]:
        """How many sessions of the application's user began: ``application`` and ``monitor``."""
        found: Counter[str] = Counter()
        for host in self._lab.hosts:
            for user, name in self._authorized.findall(self.text(host)):
                if user == self._lab.login.user:
                    found["monitor" if name == MONITOR else "application"] += 1
        return found

    def attempts(self, host: str) -> int:
        """How many times somebody tried to connect to a host."""
        return self.text(host).count("connection received:")


@contextmanager
def server_log(lab: PostgresLab) -> Iterator[ServerLog]:
    """Have every host log each session that begins while the block runs."""
    _set_logging(lab, "on")
    try:
        yield ServerLog(lab)
    finally:
        _set_logging(lab, "off")


def _set_logging(lab: PostgresLab, value: str) -> None:
    for host in lab.cluster.hosts.values():
        if host.is_live:
            host.server.query(f"ALTER SYSTEM SET log_connections = {value}")
            host.server.query("SELECT pg_reload_conf()")
            eventually(partial(_shows, host.server, value))


def _shows(server: Server, value: str) -> bool:
    # A session keeps the value that it began with.
    server.end_session()
    shown: str = server.query("SHOW log_connections")[0][0]
    return shown == value
