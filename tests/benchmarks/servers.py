"""The lab as the benchmarks need it: a login for each subject, servers that log what they see, and their logs read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from aurora_actors.lab import PostgresLab
from aurora_actors.lab.state import StateFile

__all__ = ["MONITOR", "Line", "Servers", "parsed", "running"]

PASSWORD = "bench"
MONITOR = "aurora_actors-monitor"
CONNECT_SECONDS = 2
"""libpq's shortest ``connect_timeout``."""
SETTINGS = {
    "log_connections": "on",
    "log_statement": "all",
    "log_line_prefix": "%m [%p] %u@%d/%a ",
}
_LINE = re.compile(r"(?P<at>\S+ \S+) UTC \[(?P<pid>\d+)\] (?P<user>[^@]*)@[^/]*/(?P<application>\S*) (?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a server's log; *at* is on the clock of ``time.monotonic()``, to the millisecond."""

    host: str
    at: float
    pid: int
    user: str
    application: str
    text: str

    @property
    def is_session(self) -> bool:
        """Whether a login succeeded."""
        return "connection authorized: user=" in self.text

    @property
    def is_monitor(self) -> bool:
        return self.application == MONITOR or f"application_name={MONITOR}" in self.text


class Servers:
    """A running lab whose servers log connections and statements."""

    def __init__(self, lab: PostgresLab, state: Path) -> None:
        self.lab = lab
        self.state = state
        self._offsets: dict[str, int] = {}

    def add(self, *users: str) -> None:
        """Make a login for each, so that the logs tell whose session is whose."""
        writer = self.lab.cluster.writer.server
        for user in users:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), sql.Literal(PASSWORD))
            writer.query(statement.as_string(None))

    def prepare(self, connections: int = 0) -> None:
        """Let the servers log what they see, and take so many *connections* if more than the lab's."""
        address, port = self.lab.address(self.lab.writer)
        with psycopg.connect(self.lab.conninfo("writer", hostaddr=address, port=port), autocommit=True) as conn:
            conn.execute("CREATE TABLE bench (id int)")
            conn.execute("GRANT INSERT ON bench TO PUBLIC")
        for host in self.lab.cluster.hosts.values():
            for name, value in SETTINGS.items():
                host.server.query(f"ALTER SYSTEM SET {name} = '{value}'")
            host.server.query("SELECT pg_reload_conf()")
            if connections:
                host.server.query(f"ALTER SYSTEM SET max_connections = {connections}")
        if connections:
            # A standby wants at least as many as its primary.
            for name in (*self.lab.readers, self.lab.writer):
                self.lab.restart(name)
            self.lab.wait_ready()

    def order(self, subject: str, user: str, *, known: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """What an application of *subject* is told: libpq all hosts, raw the writer's address, others the cluster's name.

        *known*: more for its conninfo.
        """
        known = {"user": user, "password": PASSWORD, "application_name": user, **(known or {})}
        if subject == "libpq":
            places = [self.lab.address(host) for host in self.lab.hosts]
            known |= {
                "host": ",".join(address for address, _ in places),
                "port": ",".join(str(port) for _, port in places),
                "target_session_attrs": "read-write",
                "connect_timeout": CONNECT_SECONDS,
            }
        elif subject == "raw":
            address, port = self.lab.address(self.lab.writer)
            known |= {"host": address, "port": port}
        conninfo = self.lab.conninfo("writer", **known)
        return {"subject": subject, "conninfo": conninfo, "state": str(self.state), **more}

    def mark(self) -> None:
        """Forget what was logged until now."""
        self._offsets = {host: self._log(host).stat().st_size for host in self.lab.hosts}

    def lines(self) -> list[Line]:
        """What was logged since the mark, in the order of time."""
        ahead = time.time() - time.monotonic()
        found: list[Line] = []
        for host in self.lab.hosts:
            with self._log(host).open("rb") as file:
                file.seek(self._offsets.get(host, 0))
                text = file.read().decode(errors="replace")
            found += parsed(host, text, ahead)
        return sorted(found, key=lambda line: line.at)

    def _log(self, host: str) -> Path:
        return self.lab.directory / host / "server.log"


def parsed(host: str, text: str, ahead: float) -> list[Line]:
    """The lines of a log. *ahead*: by how much the time of day is ahead of ``time.monotonic()``, in seconds."""
    matches = filter(None, map(_LINE.match, text.splitlines()))
    return [
        Line(host, _time(match["at"]) - ahead, int(match["pid"]), match["user"], match["application"], match["text"])
        for match in matches
    ]


def _time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()


@contextmanager
def running(users: Sequence[str], *, connections: int = 0, **options: Any) -> Iterator[Servers]:
    """A lab for these logins, of servers that take so many *connections*; the options are those of ``PostgresLab``."""
    with PostgresLab(**options) as lab:
        state = lab.directory / "state.json"
        with StateFile(lab, state, lab.directory / "control"):
            servers = Servers(lab, state)
            servers.add(*users)
            servers.prepare(connections)
            yield servers
