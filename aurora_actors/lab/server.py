"""One PostgreSQL server: its files, its process, and the lab's own session on it."""

from __future__ import annotations

import base64
import json
import secrets
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from .account import Account
from .aurora_sql import TOPOLOGY_FILE
from .binaries import Binaries
from .flavours import EXTENSIONS
from .front import Task
from .names import Place
from .processes import ServerProcess
from .reaping import forget_shared_memory, freeze_tree, thaw_tree
from .template import OWNER, REPLICATOR
from .tls import Tls
from .values import Flavour, LabError
from .waiting import until

__all__ = ["PostgresServer"]

START_SECONDS = 60.0
"""A start takes 0.1 s; a machine that swaps, or a standby with much to replay, takes longer."""
STOP_SECONDS = 30.0
ACCESS_SECONDS = 10.0
"""A server reads its files within milliseconds of the signal."""
CLONE_SECONDS = 300.0
STATUS_LINE = 7
"""Line of postmaster.pid (from 0) in which a server says whether it accepts sessions."""

# fsync is off because a killed process loses nothing that the kernel has; commits still wait for their readers.
# One thing after another on a small machine: no parallel workers, no I/O workers, no JIT.
SETTINGS = """\
max_connections = 400
superuser_reserved_connections = 10
max_wal_senders = 24
max_replication_slots = 4
max_prepared_transactions = 20
wal_level = replica
wal_keep_size = 64MB
max_wal_size = 128MB
min_wal_size = 16MB
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 20ms
hot_standby_feedback = on
fsync = off
full_page_writes = off
shared_buffers = 64MB
dynamic_shared_memory_type = mmap
max_parallel_workers_per_gather = 0
jit = off
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
log_line_prefix = '%m [%p] %u@%d '
include 'lab.conf'
"""


@dataclass(slots=True)
class PostgresServer(ServerProcess):
    """A data directory and the postmaster that runs on it. Not thread-safe except where said."""

    place: Place
    directory: Path
    binaries: Binaries
    account: Account
    flavour: Flavour
    replication_password: str
    stopping: threading.Event
    tls: Tls | None = None
    """If any, clients reach the server through a front, which serves it: the servers of the wheel cannot."""
    resource_id: str = field(default_factory=lambda: "db-" + base64.b32encode(secrets.token_bytes(20))[:26].decode())
    """As RDS gives one to each instance, for life: its name may change."""
    process: subprocess.Popen[bytes] | None = None
    upstream: Place | None = None
    synchronous: tuple[str, ...] = ()
    refuses_logins: bool = False
    _has_files: bool = False
    _access_lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _session: psycopg.Connection[tuple[Any, ...]] | None = field(default=None, repr=False)
    _session_lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def sibling(self, place: Place) -> PostgresServer:
        """A server of the same kind for another host of the lab, with a directory of its own and no data yet."""
        directory = self.account.directory(self.directory.parent / place.id)
        return PostgresServer(
            place, directory, self.binaries, self.account, self.flavour, self.replication_password, self.stopping, self.tls
        )

    def move(self, place: Place) -> None:
        """Be another host: the stopped server's directory takes the name of its id."""
        self.directory = self.directory.rename(self.directory.parent / place.id)
        self.place = place
        self.write_settings()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    # Files: the Unix socket lies in the private directory of the host, which has the name of its id.

    def configure(self) -> None:
        """Write all configuration of a data directory that is new here."""
        self.account.write(self.data / "postgresql.conf", SETTINGS)
        self.account.write(self.data / "pg_ident.conf", "")
        with self._access_lock:
            self._has_files = True
            self._write_access()
        self.write_settings()

    def write_settings(self) -> None:
        """Write what differs between hosts and changes while they run."""
        lines = {
            "listen_addresses": "" if self.tls else self.place.address,
            "port": str(self.place.port),
            "unix_socket_directories": str(self.directory),
            "cluster_name": self.place.id,
            "primary_conninfo": self._upstream_conninfo(),
            "synchronous_standby_names": _any_of(self.synchronous),
        }
        if self.binaries.major >= 18:
            lines["io_method"] = "sync"
        if self.flavour in EXTENSIONS:
            lines["aurora_lab.identifier"] = self.place.id
            lines["aurora_lab.resource_id"] = self.resource_id
            lines["rds.extensions"] = EXTENSIONS[self.flavour]
        text = "".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in lines.items())
        self.account.write(self.data / "lab.conf", text)

    def _upstream_conninfo(self) -> str:
        if self.upstream is None:
            return ""
        return make_conninfo(
            "", host=str(self._sockets_of(self.upstream)), port=self.upstream.port, user=REPLICATOR,
            password=self.replication_password, application_name=self.place.id, connect_timeout=2,
        )  # fmt: skip

    def _sockets_of(self, other: Place) -> Path:
        """Where another host of the lab has its Unix socket: replication does not share the clients' network."""
        return self.directory.parent / other.id

    def _write_access(self) -> None:
        """Write who may log in; the lab's own sessions come over the private sockets and are never refused."""
        method = "reject" if self.refuses_logins else "scram-sha-256"
        behind = ""
        if self.tls:
            trust = "reject" if self.refuses_logins else "trust"
            tokens = f'local all "{self.tls.token_user}" {trust}\n' if self.tls.token_user else ""
            behind = f"{tokens}local all all {method}\n"
        self.account.write(
            self.data / "pg_hba.conf",
            f"local all {OWNER} trust\n"
            f"local replication {REPLICATOR} scram-sha-256\n"
            f"local all {REPLICATOR} {method}\n"
            f"{behind}host all all 127.0.0.0/8 {method}\n",
        )

    def refuse_logins(self, on: bool) -> None:
        """Refuse new logins of applications from some milliseconds later on, or accept them. Thread-safe."""
        with self._access_lock:
            self.refuses_logins = on
            # While its data are copied anew, the file would stand in the way; the copy gets it in the end.
            if self._has_files:
                self._write_access()
        self.reload()

    def wait_refusal(self) -> None:
        """Wait until the running server refuses or accepts logins as it was told; asked over the private socket."""
        until(lambda: self._refuses() == self.refuses_logins, f"{self.place.id} has read who may log in",
              seconds=ACCESS_SECONDS, stopping=self.stopping)  # fmt: skip

    def _refuses(self) -> bool:
        try:
            psycopg.connect(
                host=str(self.directory), port=self.place.port, user=REPLICATOR, dbname="postgres",
                password=self.replication_password, connect_timeout=5,
            ).close()  # fmt: skip
        except psycopg.OperationalError as error:
            return "pg_hba.conf rejects connection" in str(error)
        return False

    def write_topology(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace what the functions of the flavour say of the cluster on this host."""
        if self.flavour != "plain" and self.data.is_dir():
            self.account.write(self.data / TOPOLOGY_FILE, json.dumps(list(rows)))

    def become_standby(self) -> None:
        """Mark the stopped data directory as a standby's."""
        self.account.write(self.data / "standby.signal", "")

    def clone(self, source: Place) -> None:
        """Make the data directory anew as a copy of *source*, which must be running."""
        self.remove_data()
        command = [
            self.binaries.program("pg_basebackup"), "--pgdata", str(self.data), "--checkpoint=fast", "--no-sync",
            "--wal-method=stream", "--dbname",
            make_conninfo("", host=str(self._sockets_of(source)), port=source.port, user=REPLICATOR),
        ]  # fmt: skip
        with open(self.directory / "clone.log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"PGPASSWORD": self.replication_password, "LC_ALL": "C"}, **self.account.popen(),
            )  # fmt: skip
        try:
            until(lambda: process.poll() is not None, f"{self.place.id} is copied", seconds=CLONE_SECONDS,
                  stopping=self.stopping, pause=0.01)  # fmt: skip
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode != 0:
            text = (self.directory / "clone.log").read_text(encoding="utf-8", errors="replace")
            raise LabError(f"{self.place.id} could not be copied from {source.id}: {text.strip()[-400:]}")
        self.configure()
        self.become_standby()

    def remove_data(self) -> None:
        """Remove the stopped server's data."""
        with self._access_lock:
            self._has_files = False
        forget_shared_memory(self.data)
        if self.data.exists():
            subprocess.run(["rm", "-rf", str(self.data)], check=True)  # noqa: S607 - the system's own rm

    # Process

    def start(self, *options: str) -> None:
        """Start the server without waiting for it."""
        command = [self.binaries.program("postgres"), "-D", str(self.data), *options]
        if self.tls:
            path = self.directory / f".s.PGSQL.{self.place.port}"
            task = Task("postgres", self.place, path, self.account, **self.tls.for_front(self))
            self._start_behind_front(task, command)
            return
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen[bytes](
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"LC_ALL": "C", "TZ": "UTC"}, **self.account.popen(),
            )  # fmt: skip

    def wait_started(self, *statuses: str) -> None:
        """Wait until the server takes sessions (``ready``), or has another of the given statuses."""
        wanted = statuses or ("ready",)

        def started() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise LabError(f"the server of {self.place.id} did not start: {self.log_tail()}")
            return self._status() in wanted

        until(started, f"{self.place.id} has started", seconds=START_SECONDS, stopping=self.stopping)
        self._open_front()

    def _status(self) -> str:
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        pid = self.process.pid if self.process is not None else 0
        own = lines[:1] == [str(pid)]
        if self._front is not None:
            with suppress(psutil.Error, ValueError, IndexError):
                own = psutil.Process(int(lines[0])).ppid() == pid
        return lines[STATUS_LINE].strip() if own and len(lines) > STATUS_LINE else ""

    def shut_down(self) -> None:
        """Stop in order: sessions get 57P01, readers get all WAL first (SIGINT, "fast")."""
        self.end_session()
        if (process := self.process) is not None:
            process.send_signal(signal.SIGINT)
            # A process that was stopped on purpose would keep the server from ending.
            self.thaw()
            until(lambda: process.poll() is not None, f"{self.place.id} has stopped", seconds=STOP_SECONDS,
                  stopping=threading.Event())  # fmt: skip
        self.collect()

    def freeze(self) -> None:
        """SIGSTOP every process of the server."""
        if self.process is not None:
            freeze_tree(self.process.pid)

    def thaw(self) -> None:
        """SIGCONT every process of the server."""
        if self.process is not None:
            thaw_tree(self.process.pid)

    def reload(self) -> None:
        """Make the server read its configuration again (SIGHUP); takes effect some milliseconds later."""
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def promote(self) -> None:
        """Ask a standby to become a writer, as ``pg_ctl promote`` does; returns at once."""
        self.account.write(self.data / "promote", "")
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)

    # Session

    def session(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Open a session as superuser, over the private socket."""
        return psycopg.connect(
            host=str(self.directory), port=self.place.port, user=OWNER, dbname=database, autocommit=True,
            application_name="aurora_lab", connect_timeout=5,
        )  # fmt: skip

    def client_processes(self) -> list[tuple[str, int, int]]:
        """Address and port of each client over TCP, and the process that serves it. :class:`LabError` behind a front."""
        if self.tls:
            raise LabError("connections to a front can be cut with nft alone (apt-get install nftables, and CAP_NET_ADMIN)")
        return [
            (str(address), int(port), int(pid))
            for address, port, pid in self.query(
                "SELECT host(client_addr), client_port, pid FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND client_addr IS NOT NULL"
            )
        ]

    def proves_to_go_on(self) -> bool:
        """Whether a new session gets all the way: in, to a commit if the host writes, and out. May wait for ever."""
        with suppress(psycopg.Error), self.session() as session:
            if not session.execute("SELECT pg_is_in_recovery()").fetchall()[0][0]:
                session.execute("SET synchronous_commit = local")
                session.execute("INSERT INTO aurora_lab.commits DEFAULT VALUES")
            return True
        return False

    def query(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement as superuser on the lab's own session. Thread-safe; never on a frozen server: it would wait.

        :class:`psycopg.Error` as the server reports it; a session that is gone is opened anew once per call.
        """
        with self._session_lock:
            if self._session is None or self._session.closed:
                self._session = self.session()
            cursor = self._session.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def kill_session(self, number: int) -> bool:
        """End a client's session by its process id; false if there is none."""
        return (True,) in self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_type = 'client backend'",
            (number,),
        )

    def end_sessions(self) -> list[int]:
        """End all sessions of applications; return their process ids."""
        rows = self.query(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND usename <> %s",
            (OWNER,),
        )
        return [row[0] for row in rows]

    def has_sessions(self, numbers: Sequence[int]) -> bool:
        """Whether any of these sessions is still there."""
        return bool(self.query("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", (list(numbers),)))

    def end_session(self) -> None:
        """Close the lab's own session."""
        with self._session_lock:
            if self._session is not None:
                self._session.close()
            self._session = None


def _any_of(hosts: Sequence[str]) -> str:
    return "ANY 1 (" + ", ".join(f'"{host}"' for host in hosts) + ")" if hosts else ""
