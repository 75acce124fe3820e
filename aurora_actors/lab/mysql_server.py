"""One MySQL or MariaDB server: its files, its processes, and the lab's own session on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mysql.connector

from .front import Task
from .mysql_origin import Origin, inner_place
from .mysql_session import Session, log_in
from .mysql_settings import common_settings, option_file, own_tls, semi_sync_source
from .mysql_sql import OWNER, REPLICATOR, TOPOLOGY_FILE, literal, spoil_passwords
from .names import Place
from .processes import ServerProcess
from .reaping import freeze_tree, thaw_tree
from .values import LabError
from .waiting import until

__all__ = ["AURORA_VERSION", "MysqlServer"]

AURORA_VERSION = "3.10.0"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
NO_SUCH_THREAD = 1094
QUIET_SECONDS = 2
"""For commits under way to end, before sessions that hold explicit locks are ended."""


@dataclass(slots=True)
class MysqlServer(ServerProcess):
    """A data directory and the server that runs on it, behind its front where the flavour needs one.

    Replication uses another place than clients, so that what is done to the host's packets hits clients alone. Not
    thread-safe except where said.
    """

    place: Place
    inner: Place
    """Where other hosts find it."""
    directory: Path
    origin: Origin
    stopping: threading.Event
    process: subprocess.Popen[bytes] | None = None
    upstream: Place | None = None
    synchronous: tuple[str, ...] = ()
    refuses_logins: bool = False
    server_id: int = 0
    following: str | None = None
    """The host that its replication is set up for since its start."""
    _is_open: bool = False
    _is_frozen: bool = False
    _refuses_now: bool = False
    _told: str = ""
    session: Session = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.session = Session(self.socket_path, self.origin.template.owner_password)
        self.server_id = next(self.origin.server_ids)

    def sibling(self, place: Place) -> MysqlServer:
        """A server of the same kind for another host of the lab, with a directory of its own and no data yet."""
        directory = self.origin.account.directory(self.directory.parent / place.id)
        return MysqlServer(place, inner_place(place, self.origin.flavour), directory, self.origin, self.stopping)

    def move(self, place: Place) -> None:
        """Be another host: the stopped server's directory takes the name of its id."""
        self.end_session()
        self.directory = self.directory.rename(self.directory.parent / place.id)
        self.place, self.inner = place, replace(self.inner, id=place.id)
        self.session = Session(self.socket_path, self.origin.template.owner_password)
        self.write_settings()

    @property
    def resource_id(self) -> str:
        """What ``mysql.rds_topology`` knows it by."""
        return str(self.server_id)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def socket_path(self) -> Path:
        """Its Unix socket, in the private directory of the host."""
        return self.directory / "mysql.sock"

    @property
    def is_mariadb(self) -> bool:
        """Which of the two it is."""
        return self.origin.binaries.is_mariadb

    @property
    def has_front(self) -> bool:
        """Whether clients reach it through a front."""
        return self.origin.flavour == "aurora"

    # Files

    def configure(self) -> None:
        """Write all configuration of a data directory that is new here."""
        self.write_settings()

    def write_settings(self) -> None:
        """Write the option file; it counts from the next start on."""
        places = [self.inner] if self.has_front else dict.fromkeys((self.place, self.inner))
        name = self.place.id
        settings = common_settings(self.origin.binaries, self.directory) | {
            "bind_address": ",".join(dict.fromkeys(place.address for place in places)),
            "port": str(self.inner.port),
            "server_id": str(self.server_id),
            "report_host": name if self.has_front else f"{name}.{self.origin.domain}",
            "report_port": str(self.place.port),
            "read_only": "OFF" if self.upstream is None else "ON",
            semi_sync_source(self.origin.binaries): "ON" if self.synchronous else "OFF",
        }
        if self.origin.tls and not self.has_front:
            settings |= own_tls(self.origin.binaries, self.origin.tls.certificate(self.directory, self.place.address))
        self.origin.account.write(self.directory / "my.cnf", option_file(settings))

    def refuse_logins(self, on: bool) -> None:
        """Refuse logins of applications, or accept them; a host that cannot be asked now does so when it can."""
        self.refuses_logins = on
        self._write_access()

    def _write_access(self) -> None:
        if self.process is None or self._is_frozen or self.refuses_logins == self._refuses_now:
            return
        self._locally(spoil_passwords(self.origin.binaries))
        self.query("FLUSH NO_WRITE_TO_BINLOG PRIVILEGES")
        self._refuses_now = self.refuses_logins
        self._warm_up()

    def write_topology(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace what this host says of the cluster: Aurora's table, or that of a Multi-AZ cluster."""
        if self.origin.flavour == "aurora" and self.data.is_dir():
            fresh = self.data / (TOPOLOGY_FILE + ".new")
            # The server reads no file of its own that others may not read; the directory keeps them out.
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o644)
                json.dump(list(rows), file)
            self.origin.account.own(fresh)
            fresh.replace(self.data / TOPOLOGY_FILE)
        elif self.origin.flavour == "multi-az" and self.is_running and not self._is_frozen:
            self._write_rds_topology([row for row in rows if row["until"] is None])

    def _write_rds_topology(self, rows: Sequence[dict[str, Any]]) -> None:
        values = ", ".join(f"({literal(row['resource'])}, {literal(row['endpoint'])}, {row['port']:d})" for row in rows)
        if values != self._told:
            self._locally("DELETE FROM mysql.rds_topology",
                          f"INSERT INTO mysql.rds_topology (id, endpoint, port) VALUES {values}")  # fmt: skip
            self._told = values

    def _locally(self, *statements: str) -> None:
        """Change something on this host that others do not learn of."""
        session = log_in(self.socket_path, OWNER, self.origin.template.owner_password)
        try:
            cursor = session.cursor()
            for statement in ("SET SESSION sql_log_bin = 0", *statements):
                cursor.execute(statement)
        finally:
            session.close()

    def rebuild(self) -> None:
        """Make the stopped server's data anew, without history and under a new server id.

        A server takes no transaction that was written under its own id, not even one that it lost.
        """
        self.remove_data()
        self.origin.template.copy_to(self.data, self.origin.account)
        self.server_id = next(self.origin.server_ids)
        self._refuses_now = False
        self._told = ""
        self.write_settings()

    def remove_data(self) -> None:
        """Remove the stopped server's data."""
        subprocess.run(["rm", "-rf", str(self.data)], check=True)  # noqa: S607 - the system's own rm

    # Processes

    def start(self, *options: str) -> None:
        """Start the server, and its front, which takes no client before :meth:`wait_started`."""
        origin = self.origin
        command = [*origin.binaries.command, f"--defaults-file={self.directory / 'my.cnf'}", *options]
        for name in ("mysql.sock", "mysql.sock.lock"):
            # A killed server that nobody has collected yet keeps its socket's lock "in use".
            (self.directory / name).unlink(missing_ok=True)
        self.following, self._is_open, self._is_frozen = None, False, False
        if self.has_front:
            more = origin.tls.for_front(self) if origin.tls else {}
            task = Task("mysql", self.place, self.socket_path, origin.account, version=AURORA_VERSION, **more)
            self._start_behind_front(task, command)
            return
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen[bytes](
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"LC_ALL": "C"}, **origin.account.popen(),
            )  # fmt: skip

    def wait_answering(self) -> None:
        """Wait until the server answers the lab."""

        def answers() -> bool:
            if not self.is_running:
                raise LabError(f"the server of {self.place.id} did not start: {self.log_tail()}")
            if not self.socket_path.exists():
                return False
            try:
                return self.query("SELECT 1") == [(1,)]
            except mysql.connector.Error:
                return False

        until(answers, f"{self.place.id} has started", seconds=START_SECONDS, stopping=self.stopping)

    def wait_started(self) -> None:
        """Wait until the server answers, and let clients in."""
        self.wait_answering()
        if self._is_open:
            return
        self._write_access()
        self._warm_up()
        self._open_front()
        self._is_open = True

    def _warm_up(self) -> None:
        """Log in as the application once.

        MySQL takes a password without TLS only from somebody whose password it saw over a private way since its start.
        """
        if not self.is_mariadb and not self.refuses_logins:
            with suppress(mysql.connector.Error):
                log_in(self.socket_path, self.origin.login.user, self.origin.login.password).close()

    def shut_down(self) -> None:
        """Stop in order (SIGTERM)."""
        process = self.process
        if process is not None:
            if not self._is_frozen:
                self._wind_up()
            self.end_session()
            process.send_signal(signal.SIGTERM)
            # One that was stopped on purpose would never end.
            thaw_tree(process.pid)
            until(lambda: process.poll() is not None, f"{self.place.id} has stopped", seconds=STOP_SECONDS,
                  stopping=threading.Event())  # fmt: skip
        self.process = None
        self._close_front()

    def take_no_writes(self) -> None:
        """Let no commit begin any more; those under way end, which means that a reader has acknowledged them."""
        self.query(f"SET SESSION lock_wait_timeout = {QUIET_SECONDS}")
        try:
            self.query("SET GLOBAL read_only = ON")
        except mysql.connector.Error:
            self.end_sessions()
            self.query("SET GLOBAL read_only = ON")

    def _wind_up(self) -> None:
        """Leave nothing to wait for: MySQL's stop would take ten seconds longer for threads that send its log."""
        self.take_no_writes()
        self.query(f"SET GLOBAL {semi_sync_source(self.origin.binaries)} = OFF")
        for number in (*self.sessions(REPLICATOR), *self.sessions()):
            self.end(number)

    def freeze(self) -> None:
        """SIGSTOP the server and its front."""
        process = self.process
        if process is not None:
            self._is_frozen = True
            freeze_tree(process.pid)

    def thaw(self) -> None:
        """SIGCONT both."""
        process = self.process
        if process is not None:
            thaw_tree(process.pid)
            self._is_frozen = False
            self._write_access()

    def _nothing(self) -> None:
        """A host is a reader when it has an upstream; what changes while it runs is told by statements."""

    become_standby = reload = wait_refusal = _nothing

    # Session

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement as superuser on the lab's own session. Thread-safe; never on a frozen server: it would wait."""
        return self.session.query(statement, parameters)

    def end_session(self) -> None:
        """Close the lab's own session."""
        self.session.close()

    def sessions(self, user: str | None = None) -> list[int]:
        """Connection ids of a user's sessions, or of those of all applications."""
        ours = ", ".join(map(literal, (OWNER, REPLICATOR, "system user", "event_scheduler", "unauthenticated user")))
        which = f"USER NOT IN ({ours})" if user is None else f"USER = {literal(user)}"
        rows = self.query(f"SELECT ID FROM information_schema.PROCESSLIST WHERE {which}")
        return [int(row[0]) for row in rows]

    def end(self, number: int) -> None:
        """End a session; does nothing where it has ended."""
        try:
            self.query(f"KILL CONNECTION {number:d}")
        except mysql.connector.Error as error:
            if error.errno != NO_SUCH_THREAD:
                raise

    def kill_session(self, number: int) -> bool:
        """End an application's session by its connection id; false if there is none."""
        if number not in self.sessions():
            return False
        self.end(number)
        return True

    def end_sessions(self) -> list[int]:
        """End all sessions of applications; return their connection ids."""
        numbers = self.sessions()
        for number in numbers:
            self.end(number)
        return numbers

    def has_sessions(self, numbers: Sequence[int]) -> bool:
        """Whether any of these sessions is still there."""
        return not set(numbers).isdisjoint(self.sessions())

    def client_processes(self) -> list[tuple[str, int, int]]:
        """No session has a process of its own: :class:`LabError`."""
        raise LabError("connections to MySQL can be cut with nft alone (apt-get install nftables, and CAP_NET_ADMIN)")

    def proves_to_go_on(self) -> bool:
        """Whether the server works while some of its processes are stopped; none are."""
        return True
