"""What labs of all engines have in common: their life, what they tell, and what can be done to them."""

from __future__ import annotations

import atexit
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, get_args

from . import faults, members, reaping, repair
from .account import Account
from .cluster import Cluster, Host, Options
from .engine import Engine, Server
from .names import DnsView, Place, Zone, answer
from .operations import Operations
from .promoting import await_candidates, fail_over
from .rejoining import settle
from .starting import MEMORY, place_for_data, start_hosts
from .tls import Tls
from .values import CA_FILE, Flavour, Habit, HostStatus, How, LabError, LabEvent, Login, OperationRecord, Replication
from .waiting import until

__all__ = ["Lab", "ServerPlan"]

READY_SECONDS = 60.0
KEEPER_SECONDS = 15.0
REJOIN_END_SECONDS = 10.0


class ServerPlan(ABC):
    """What the servers of one start have in common."""

    account: Account
    """Whom servers and their files belong to."""

    @abstractmethod
    def places(self, ids: Sequence[str]) -> tuple[Place, ...]:
        """Choose where the hosts listen."""

    @abstractmethod
    def server(self, place: Place, directory: Path, stopping: threading.Event, tls: Tls | None) -> Server:
        """Make the server of a host in a directory that is still to be made, with its data."""


class Lab(Operations, ABC):
    """A writer and readers on loopback addresses; see :class:`PostgresLab` and :class:`MysqlLab`."""

    engine: ClassVar[Engine]
    usual_port: ClassVar[int]

    def __init__(
        self,
        hosts: int,
        *,
        name: str,
        domain: str,
        login: Login,
        dns_lag_seconds: float,
        directory: str | os.PathLike[str] | None,
        options: Options,
        tls: bool,
    ) -> None:
        if hosts < 1:
            raise LabError(f"a lab needs at least one host, not {hosts}")
        if options.habit not in get_args(Habit):
            raise LabError(f"habit is 'keep', 'drop' or 'restart', not {options.habit!r}")
        if options.flavour not in get_args(Flavour):
            raise LabError(f"flavour is 'aurora', 'multi-az' or 'plain', not {options.flavour!r}")
        if login.token_user and (not tls or login.token_user == login.user):
            raise LabError("token_user is another user than user, and needs tls=True: a token is sent in clear text")
        self.login = login
        self._has_tls = tls
        self._options = options
        self._ids = tuple(f"{name}-{number}" for number in range(1, hosts + 1))
        self._name, self._domain, self._dns_lag, self._parent = name, domain, dns_lag_seconds, directory
        self._turns = itertools.count()
        self._cluster: Cluster | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._claim: int | None = None
        self._owner = os.getpid()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._life = threading.RLock()

    @abstractmethod
    def _plan(self) -> ServerPlan:
        """Find the programs and prepare what all hosts start from."""

    def __repr__(self) -> str:
        state = "stopped" if self._cluster is None else f"writer {self._cluster.writer.id}"
        return f"<{type(self).__name__} {self._name} of {len(self._ids)} hosts, {state}>"

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
            for place in (self._parent,) if self._parent else (MEMORY, tempfile.gettempdir()):
                reaping.sweep_orphans(Path(place))
            plan = self._plan()
            places = plan.places(self._ids)
            parent = self._parent or place_for_data(len(self._ids))
            directory = Path(tempfile.mkdtemp(prefix=reaping.PREFIX, dir=parent))
            directory.chmod(0o755)
            stopping = threading.Event()
            try:
                self._claim = reaping.claimed(directory)
                self._keep(directory)
                tls = None
                if self._has_tls:
                    tls = Tls(directory, self._domain, plan.account, self.login.token_user, self.usual_port)
                hosts = {place.id: Host(plan.server(place, directory / place.id, stopping, tls)) for place in places}
                zone = Zone(self._name, self._domain, places, self._dns_lag, self.usual_port)
                cluster = Cluster(self._options, self.engine, zone, directory, hosts, stopping, self._tell)
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
                    host.server.collect()
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
        claim, self._claim = self._claim, None
        if claim is not None:
            os.close(claim)
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
    def ca_file(self) -> Path:
        """The certificate of the authority that signs those of the hosts, where the lab serves TLS: ``sslrootcert``."""
        if not self._has_tls:
            raise LabError("the lab serves no TLS; tls=True makes it do so")
        return self.directory / CA_FILE

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

    def _parameters(self, endpoint: str, database_key: str, extra: dict[str, Any]) -> dict[str, Any]:
        port = self.cluster.zone.places[0].port
        return {
            "host": self.endpoint(endpoint), "port": port, database_key: self.login.database,
            "user": self.login.user, "password": self.login.password, **extra,
        }  # fmt: skip

    @abstractmethod
    def conninfo(self, endpoint: str = "writer", **extra: Any) -> str:
        """Connection string for ``writer``, ``reader`` or a host's id, with the application's login."""

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
            self.failover(self._ids[0], self.engine.handover)
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
        with cluster.lock:
            """The last that came back has been told, and told of."""
