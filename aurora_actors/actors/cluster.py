"""One cluster as this process knows it: its published cell, its actors, and the connections that keep them alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from aurora_actors import signals
from aurora_actors.actors.base import ActorCrashed, ActorStopped, Ref, stop_all, tell
from aurora_actors.actors.clock import Timer
from aurora_actors.actors.complaints import Origin, complain
from aurora_actors.actors.failover import FailoverActor
from aurora_actors.actors.host_monitor import HostMonitor
from aurora_actors.actors.messages import HostObserved, ReportTo, Retire, WatchHost
from aurora_actors.actors.naming import Naming
from aurora_actors.actors.published import Published
from aurora_actors.actors.topology import TopologyActor
from aurora_actors.actors.watched import Watched, WatchedSessions
from aurora_actors.drivers.base import Access
from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import Knowledge, Observation
from aurora_actors.model.values import dataclass

__all__ = ["Cluster", "Identity", "Lease"]

log = logging.getLogger("aurora_actors.cluster")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one cluster from another.

    ``engine`` is the code of its plain dialect; ``cluster_id`` is the user's and only ever separates. ``zone`` is the DNS
    zone of the hosts with their port, which all clusters of an AWS account and region share, so that it takes the
    cluster's ``label`` or common ``members`` on top of it. Without a zone only the ``addresses`` connected to count: when
    in doubt two stay apart.
    """

    engine: str
    cluster_id: str
    zone: str
    labels: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    addresses: frozenset[tuple[str, int]] = frozenset()

    def is_same(self, other: Identity) -> bool:
        if (self.engine, self.cluster_id, self.zone) != (other.engine, other.cluster_id, other.zone):
            return False
        if self.zone:
            return bool(self.labels & other.labels or self.members & other.members)
        return bool(self.addresses & other.addresses)

    def with_more(self, other: Identity) -> Identity:
        """What is known when both are the same."""
        return replace(
            self,
            labels=self.labels | other.labels,
            members=self.members | other.members,
            addresses=self.addresses | other.addresses,
        )


class Lease:
    """One connection's hold on its cluster. ``release`` may be called from any thread, more than once.

    ``on_demand``: no thread has to run for it while no call is under way.
    """

    __slots__ = ("_cluster", "access", "held", "on_demand")

    def __init__(self, cluster: Cluster, access: Access, *, on_demand: bool) -> None:
        self._cluster = cluster
        self.access = access
        self.on_demand = on_demand
        self.held = False

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        self._cluster.released(self)


class Cluster:
    """Shared by all connections to one cluster. ``refresh``, ``least`` and ``grace`` are in seconds."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        naming: Naming,
        known: Knowledge,
        *,
        refresh: float,
        least: tuple[float, float],
        grace: float,
        timer: Timer,
        idle: Callable[[Cluster], None],
    ) -> None:
        self.name = name
        self.identity = identity
        self.naming = naming
        self.grace = grace
        self.cell = Published(known)
        self._refresh = refresh
        self._least = least
        self._timer = timer
        self._idle = idle
        self._lock = threading.RLock()
        self._retiring: Ref | None = None
        self._uses: dict[Access, int] = {}
        self.background = 0
        self.released_at = timer.now()
        self._accesses: tuple[Access, ...] = ()
        self._monitors: list[Ref] = []
        self._refs: tuple[Ref, ...] = ()
        self._sessions = WatchedSessions()
        self._off: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        topology = self.cell.view.topology
        return (
            f"<Cluster {self.name!r} {self.naming.dialect.code}, {len(topology.hosts)} hosts,"
            f" writer {topology.writer}, {self.leases} connections>"
        )

    @property
    def leases(self) -> int:
        return sum(self._uses.values())

    @property
    def accesses(self) -> tuple[Access, ...]:
        """How the live connections connect, each way once, the newest last."""
        return self._accesses

    @property
    def failover(self) -> Ref:
        """Begun with the first search: at rest a cluster does without this thread. Raises ``ActorStopped``."""
        try:
            return self._started(searching=True)[1]
        except RuntimeError as error:
            raise ActorStopped(f"the failover actor of cluster {self.name} cannot be started: {error}") from error

    @property
    def topology(self) -> Ref:
        return self._started()[0]

    @property
    def running(self) -> bool:
        return bool(self._refs or self._monitors)

    def lease(self, access: Access, *, on_demand: bool = False) -> Lease:
        """Keep the cluster alive for one more connection."""
        with self._lock:
            same = next((known for known in self._uses if known.is_like(access)), access)
            self._accesses = (*(known for known in self._uses if known is not same), same)
            if not on_demand:
                self._started()
            made = Lease(self, same, on_demand=on_demand)
            # Counted last, in one step with what ends it: a signal handler may raise at any call before.
            self._uses[same] = self._uses.get(same, 0) + 1
            self.background += not on_demand
            made.held = True
            return made

    def released(self, lease: Lease) -> None:
        with self._lock:
            if not lease.held:
                return
            if self.leases == 1:
                self.released_at = self._timer.now()
                if not lease.on_demand:
                    self._retire_later(self.grace)
            uses = {**self._uses, lease.access: self._uses[lease.access] - 1}
            if not uses[lease.access]:
                del uses[lease.access]
            # The last one's settings stay for the actors until the grace period is over.
            accesses = self._accesses if lease.access in uses else tuple(uses) or (lease.access,)
            # A signal handler may raise up to here, and the lease's finalizer does it all again; then nothing is called.
            self._uses, self._accesses, lease.held = uses, accesses, False
            self.background -= not lease.on_demand

    def _retire_later(self, seconds: float) -> None:
        """One timer at most is under way, however often the last connection goes: it looks at its end when that was."""
        if self._refs and self._retiring is not self._refs[0]:
            self._timer.tell_after(seconds, self._refs[0], Retire())
            self._retiring = self._refs[0]

    def _retired(self) -> None:
        """A grace period is over; called by the topology actor."""
        with self._lock:
            self._retiring = None
            if self._uses:
                return
            left = self.released_at + self.grace - self._timer.now()
            if left > 0:
                self._retire_later(left)
                return
        self._idle(self)

    def learn(self, seen: Observation, members: tuple[Host, ...]) -> None:
        """A connection of the application's brought news."""
        tell(self.topology, HostObserved(seen, members))

    def watch(self, watched: Watched, *, on_demand: bool = False) -> None:
        """Have the calls of a session watched by the monitor of its host; *on_demand*: which need not run yet."""
        if self._sessions.add(watched) or on_demand:
            tell(self.topology, WatchHost(watched.host))

    def unwatch(self, watched: Watched) -> None:
        self._sessions.remove(watched)

    def stop(self, seconds: float) -> None:
        """Stop the actors, waiting no longer than *seconds*."""
        stop_all(self.let_go(), seconds)

    def let_go(self) -> tuple[Ref, ...]:
        """The actors, for the caller to stop: whoever needs some from now on starts others."""
        with self._lock:
            refs, self._refs = self._refs, ()
            monitors, self._monitors = self._monitors, []
        return (*refs, *monitors)

    def reset(self) -> None:
        """In a forked child: the threads are gone, the locks may be held; begin again at the next use."""
        self._lock = threading.RLock()
        self._refs = ()
        self._monitors = []
        self._sessions.reset()

    def _started(self, *, searching: bool = False) -> tuple[Ref, ...]:
        refs, wanted = self._refs, 1 + searching
        if len(refs) >= wanted and not any(ref.actor_stopped.is_set() for ref in refs):
            return refs  # the usual case: an event loop's thread waits for no lock
        with self._lock:
            if not self._refs or any(ref.actor_stopped.is_set() for ref in self._refs):
                self._refs = (self._start(),)
            if len(self._refs) < wanted:
                self._refs = (*self._refs, self._start_failover(self._refs[0]))
            return self._refs

    def _start(self) -> Ref:
        log.debug("watching cluster %s", self.name)
        return TopologyActor.start(
            f"topology {self.name}",
            report=self._crashed,
            cell=self.cell,
            endpoints=self.naming.endpoints,
            refresh=self._refresh,
            least=self._least,
            monitor=self._monitor,
            stuck=self._stuck,
            watched_hosts=lambda: self._sessions.hosts,
            retire=self._retired,
            timer=self._timer,
        )

    def _start_failover(self, topology: Ref) -> Ref:
        failover = FailoverActor.start(
            f"failover {self.name}", report=self._crashed, cell=self.cell, topology=topology, timer=self._timer
        )
        tell(topology, ReportTo(failover))
        return failover

    def _monitor(self, host: Host, topology: Ref) -> Ref:
        ref = HostMonitor.start(
            f"host {host.id}",
            report=self._crashed,
            cluster=self.name,
            host=host,
            naming=self.naming,
            accesses=lambda: self._accesses_to(host),
            watched=lambda: self._sessions.at(host.id),
            topology=topology,
            timer=self._timer,
            off=self._off.setdefault(host.id, set()),
        )
        with self._lock:
            self._monitors = [*(m for m in self._monitors if not m.actor_stopped.is_set()), ref]
        return ref

    def _stuck(self, host: Host, name: str) -> None:
        """A monitor of that name does not let go of the thread of *host*; called by the topology actor."""
        self._off.setdefault(host.id, set()).add(name)
        kinds = (kind for session in self._sessions.at(host.id) for kind in session.kinds if kind.name == name)
        kind = next(kinds, None)
        distribution = kind.distribution if kind is not None else self.naming.dialect.code
        complain(
            Origin("monitor", name, distribution),
            self.name,
            "probing",
            f"it does not let go of its host's monitor and is off from now on (at {host})",
        )

    def _accesses_to(self, host: Host) -> tuple[Access, ...]:
        """How to log in to *host*, the best way last: as somebody does who has a session there."""
        there = tuple(dict.fromkeys(watched.access for watched in self._sessions.at(host.id)))
        return (*(access for access in self._accesses if access not in there), *there)

    def _crashed(self, crash: ActorCrashed) -> None:
        signals.emit(signals.actor_crashed, self.name, crash)
