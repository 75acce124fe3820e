"""A local cluster of real PostgreSQL servers that behaves like Aurora PostgreSQL."""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg.conninfo import make_conninfo

from . import faults, members, reaping, repair
from .account import server_account
from .addresses import choose_addresses
from .binaries import DEFAULT_VERSION, find_binaries
from .cluster import Cluster, Host, Options
from .names import DnsView, Place, Zone, answer
from .operations import Operations
from .promoting import await_candidates, fail_over
from .rejoining import settle
from .server import PostgresServer
from .starting import place_for_data, start_hosts
from .template import Login, make_template
from .values import Flavour, Habit, HostStatus, How, LabError, LabEvent, OperationRecord, Replication
from .waiting import until

__all__ = ["PostgresLab"]

READY_SECONDS = 60.0
KEEPER_SECONDS = 15.0
REJOIN_END_SECONDS = 10.0


class PostgresLab(Operations):
    """A writer and readers on loopback addresses, with Aurora's names, SQL and faults.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Every public method may be called from any
    thread; operations on hosts run one after another. Servers run as subprocesses; should this process die, however,
    they are ended and their files removed.

    ``hosts``: how many; the first starts as the writer. ``version``: PostgreSQL's major version (the wheel has 18 and
    16). ``name``, ``domain``: of the endpoints, as in ``database.cluster-xyz.us-east-1.rds.amazonaws.com``. ``user``,
    ``password``, ``database``: what the application logs in with; no superuser, may create tables.

    ``habit``: what a promotion does to the promoted host's sessions: ``keep``, ``drop`` (57P01) or ``restart`` (the
    host is down for ``restart_seconds``). ``stale_topology_seconds``: how long readers go on telling the old topology.
    ``dns_lag_seconds``: how long names go on leading where they led. ``asynchronous``: commits wait for no reader, so
    a failover may lose what was acknowledged; :meth:`status` says so. ``flavour``: ``aurora``; ``multi-az``, an RDS
    Multi-AZ DB cluster; ``plain``, community PostgreSQL; all with the same operations. ``own_report_time=False``: as
    Aurora PostgreSQL does since 13.9, a host gives no ``last_update_timestamp`` for itself.

    ``directory``: where the lab's own directory is made (default: ``/dev/shm`` if it has room, else the system's
    temporary directory).
    ``address_block`` (``"127.20.30"``) and ``port`` fix where it listens; without them a free place is found, with
    port 5432 if that is free.

    :class:`ServerUnavailable` from :meth:`start` where no PostgreSQL can be had, :class:`LabError` from everything
    that cannot be done.
    """

    def __init__(
        self,
        hosts: int = 3,
        *,
        version: int = DEFAULT_VERSION,
        name: str = "database",
        domain: str = "xyz.us-east-1.rds.amazonaws.com",
        user: str = "john",
        password: str = "pwd",
        database: str = "db",
        habit: Habit = "keep",
        restart_seconds: float = 2.0,
        stale_topology_seconds: float = 0.0,
        dns_lag_seconds: float = 0.0,
        directory: str | os.PathLike[str] | None = None,
        address_block: str | None = None,
        port: int | None = None,
        asynchronous: bool = False,
        flavour: Flavour = "aurora",
        own_report_time: bool = True,
    ) -> None:
        if hosts < 1:
            raise LabError(f"a lab needs at least one host, not {hosts}")
        if habit not in {"keep", "drop", "restart"}:
            raise LabError(f"habit is 'keep', 'drop' or 'restart', not {habit!r}")
        if flavour not in {"aurora", "multi-az", "plain"}:
            raise LabError(f"flavour is 'aurora', 'multi-az' or 'plain', not {flavour!r}")
        self.login = Login(user, password, database)
        self._options = Options(
            habit, flavour, asynchronous, restart_seconds, stale_topology_seconds, own_report_time
        )
        self._ids = tuple(f"{name}-{number}" for number in range(1, hosts + 1))
        self._name, self._domain, self._dns_lag = name, domain, dns_lag_seconds
        self._version, self._parent, self._block, self._port = version, directory, address_block, port
        self._turns = itertools.count()
        self._cluster: Cluster | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._life = threading.RLock()

    def __repr__(self) -> str:
        state = "stopped" if self._cluster is None else f"writer {self._cluster.writer.id}"
        return f"<PostgresLab {self._name} of {len(self._ids)} hosts, {state}>"

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all servers and return when the readers follow the writer."""
        with self._life:
            if self._cluster is not None:
                return
            account = server_account()
            binaries = find_binaries(self._version, account)
            template = make_template(binaries, account, self._options.flavour, self.login)
            places = choose_addresses(len(self._ids), self._block, self._port)
            directory = Path(tempfile.mkdtemp(prefix="aurora-lab-", dir=self._parent or place_for_data(len(self._ids))))
            directory.chmod(0o755)
            stopping = threading.Event()
            try:
                self._keep(directory)
                hosts = {
                    id_: Host(
                        PostgresServer(
                            Place(id_, *place), account.directory(directory / id_), binaries, account,
                            self._options.flavour, template.replication_password, stopping,
                        )
                    )
                    for id_, place in zip(self._ids, places, strict=True)
                }  # fmt: skip
                zone = Zone(self._name, self._domain, tuple(host.place for host in hosts.values()), self._dns_lag)
                cluster = Cluster(self._options, zone, directory, hosts, stopping, self._tell)
                for host in hosts.values():
                    template.copy_to(host.server.data, account)
                start_hosts(cluster)
            except BaseException:
                stopping.set()
                self._sweep(directory)
                raise
            self._owner = os.getpid()
            self._cluster = cluster
            atexit.register(self.stop)
            self._tell()

    def stop(self) -> None:
        """End all servers and remove all files; does nothing when stopped, or in a forked child."""
        with self._life:
            cluster = self._cluster
            if cluster is None or self._owner != os.getpid():
                return
            cluster.stopping.set()
            for host in cluster.hosts.values():
                if host.rejoin is not None:
                    host.rejoin.join(REJOIN_END_SECONDS)
            with cluster.lock:
                faults.lift_all(cluster)
                for host in cluster.hosts.values():
                    host.server.end_session()
                self._sweep(cluster.directory)
                for host in cluster.hosts.values():
                    if host.server.process is not None:
                        host.server.process.wait()
                        host.server.process = None
                    host.state = "stopped"
            self._cluster = None
            atexit.unregister(self.stop)
            self._tell()

    def _keep(self, directory: Path) -> None:
        """Start the program that ends the servers should this process die without doing so."""
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", reaping.__file__, str(directory), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def _sweep(self, directory: Path) -> None:
        reaping.sweep(directory)
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            keeper.wait(KEEPER_SECONDS)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have *listener* called, on the thread that made it, after each change of what the lab tells."""
        self._listeners = (*self._listeners, listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    @property
    def cluster(self) -> Cluster:
        """The lab's inner state; :class:`LabError` when it is not running."""
        if self._cluster is None:
            raise LabError("the lab is not running; use it as a context manager, or call start()")
        return self._cluster

    # What it tells

    def status(self) -> tuple[HostStatus, ...]:
        """Every host as the lab knows it; asks no server, never waits."""
        return self.cluster.status()

    @property
    def events(self) -> tuple[LabEvent, ...]:
        """All facts so far, oldest first."""
        return self.cluster.events

    @property
    def writer(self) -> str:
        """Id of the host that writes."""
        return self.cluster.writer.id

    @property
    def readers(self) -> tuple[str, ...]:
        """Ids of the readers that run and answer."""
        return tuple(host.id for host in self.cluster.live_readers())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Ids of all hosts."""
        return self._ids if self._cluster is None else tuple(self._cluster.hosts)

    @property
    def replication(self) -> Replication:
        """What a commit waits for now."""
        return self.cluster.replication

    @property
    def directory(self) -> Path:
        """The lab's directory; each host's ``server.log`` lies in a folder of its id."""
        return self.cluster.directory

    @property
    def black_hole_kind(self) -> str:
        """How :meth:`black_hole` and :meth:`cut_flow` work here: ``nft`` or ``socket-filter`` (docs/lab.md tells more)."""
        return faults.black_hole_kind()

    @property
    def zone(self) -> Zone:
        """Names and places."""
        return self.cluster.zone

    @property
    def dns_views(self) -> Sequence[DnsView]:
        """Where names led, oldest first."""
        return self.cluster.views

    @property
    def writer_endpoint(self) -> str:
        """The cluster endpoint's name."""
        return self.cluster.zone.writer_endpoint

    @property
    def reader_endpoint(self) -> str:
        """The reader endpoint's name."""
        return self.cluster.zone.reader_endpoint

    def endpoint(self, which: str = "writer") -> str:
        """Name of an endpoint: ``writer``, ``reader`` or a host's id."""
        named = {"writer": self.writer_endpoint, "reader": self.reader_endpoint}
        return named.get(which) or self.cluster.zone.instance_endpoint(self.cluster.host(which).id)

    def address(self, host: str) -> tuple[str, int]:
        """Address and port of a host."""
        place = self.cluster.host(host).place
        return place.address, place.port

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Look up a name of the cluster: the resolver to give to ``aurora_actors.set_resolver``.

        :class:`socket.gaierror` for names of others: the lab never asks real DNS.
        """
        cluster = self.cluster
        return answer(
            cluster.zone, cluster.views, host, port, now=time.monotonic(), turn=next(self._turns)
        )

    def conninfo(self, endpoint: str = "writer", **extra: Any) -> str:
        """Connection string for ``writer``, ``reader`` or a host's id, with the application's login."""
        port = self.cluster.zone.places[0].port
        parameters: dict[str, Any] = {
            "host": self.endpoint(endpoint), "port": port, "dbname": self.login.database,
            "user": self.login.user, "password": self.login.password,
        }  # fmt: skip
        return make_conninfo("", **{**parameters, **extra})

    # Operations

    def failover(
        self, to: str | None = None, how: How = "crash", *, rejoin: bool = True, after_seconds: float = 0.0
    ) -> OperationRecord:
        """Move the role of writer to the reader *to*, or to the one that has received most.

        ``crash``: SIGKILL of the writer, so that the kernel closes its sockets; the promotion starts *after_seconds*
        later. ``planned``: the writer is stopped in order first. A frozen or black-holed writer is left in its
        silence; it is ended when it is thawed or healed. The old writer comes back as a reader in the background,
        unless *rejoin* is false. Returns when the promoted host has committed and the other readers follow it.
        """
        await_candidates(self.cluster, to)
        return fail_over(self.cluster, to, how, rejoin=rejoin, after_seconds=after_seconds)

    def crash(self, host: str) -> OperationRecord:
        """SIGKILL a host's processes; it stays down until :meth:`restart`."""
        return faults.crash(self.cluster, host)

    def restart(self, host: str, *, down_seconds: float = 0.0) -> OperationRecord:
        """Kill the host if it runs, and start it: a writer as the writer, a deposed writer and a reader as a reader."""
        return faults.restart(self.cluster, host, down_seconds)

    def freeze(self, host: str) -> OperationRecord:
        """SIGSTOP all processes of a host: its sockets stay open, the kernel accepts more, nobody answers."""
        return faults.freeze(self.cluster, host)

    def thaw(self, host: str) -> OperationRecord:
        """End :meth:`freeze`. A writer that was deposed meanwhile is killed in its sleep and comes back as a reader."""
        return faults.thaw(self.cluster, host)

    def black_hole(self, host: str) -> OperationRecord:
        """Drop all packets from and to a host, of open connections and new ones."""
        return faults.black_hole(self.cluster, host)

    def refuse_logins(self, host: str, on: bool = True) -> None:
        """Refuse new logins of applications with SQLSTATE 28000; open sessions live on."""
        faults.refuse_logins(self.cluster, host, on)

    def kill_session(self, host: str, pid: int) -> bool:
        """End one session with 57P01, as ``pg_terminate_backend`` does; false if there is no such session."""
        return faults.kill_session(self.cluster, host, pid)

    def reset(self, seconds: float = READY_SECONDS) -> None:
        """Set everything back: all hosts in good health, the first one writes, logins are accepted, nothing is stored.

        Ends all sessions of applications. Meant for the time between two tests.
        """
        cluster = self.cluster
        for host in cluster.hosts.values():
            settle(host)
            if host.server.refuses_logins:
                self.refuse_logins(host.id, False)
        repair.heal_hosts(cluster)
        self.wait_ready(seconds)
        members.restore(cluster, self._ids)
        self.wait_ready(seconds)
        if cluster.writer.id != self._ids[0]:
            self.failover(self._ids[0], "planned")
            self.wait_ready(seconds)
        repair.empty(cluster, self.login)

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every host runs and answers, and the readers hold what is acknowledged."""
        cluster = self.cluster
        until(
            lambda: all(host.is_live for host in cluster.hosts.values())
            and (self._options.asynchronous or len(cluster.holders) == len(cluster.hosts) - 1),
            "every host is available", seconds=seconds, stopping=cluster.stopping,
        )  # fmt: skip
