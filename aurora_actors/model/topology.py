"""Who is in the cluster and who writes: frozen snapshots, and the rules by which reports change them.

The rules (law 12 of the architecture, "old news"):

* A report older than what the present writer rests on changes nothing.
* A reader's word about another host makes a candidate. Only a host's own word makes a writer, and while the writer is in
  doubt only a word given on a session that was opened after the doubt arose.
* Of two self-claims the newer promotion wins; one that cannot be ordered raises a doubt.
* Only the writer's own report removes hosts; a reader's may be stale, so it only adds some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.values import dataclass

__all__ = [
    "ClusterTopology",
    "ClusterView",
    "HostRow",
    "Knowledge",
    "Observation",
    "Verdict",
    "doubted",
    "observed",
]


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host as another (or itself) reports it. ``updated`` is the server's time of the row, in epoch seconds."""

    id: str
    is_writer: bool
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What one probe saw of ``host``, in the host's own words.

    ``session`` is when the session it was asked on was opened, ``asked`` a time not later than that at which the server
    looked (both on the clock of ``time.monotonic()``). ``promotion`` orders two claims to write: the timeline on
    PostgreSQL, the time of the writer's own row on Aurora; 0 when the server could not tell.
    """

    host: Host
    role: Role
    rows: tuple[HostRow, ...]
    session: float
    asked: float
    promotion: float = 0.0

    @property
    def names_writer(self) -> str | None:
        """The id of the host that this report calls the writer."""
        return next((row.id for row in self.rows if row.is_writer), None)


@dataclass(frozen=True, slots=True)
class ClusterTopology:
    """Who is in the cluster and who writes, as last seen. ``generation`` counts the changes."""

    cluster: str
    hosts: tuple[Host, ...] = ()
    generation: int = 0

    @property
    def writer(self) -> Host | None:
        return next((host for host in self.hosts if host.is_writer), None)

    @property
    def readers(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.is_reader)

    def host(self, host_id: str) -> Host | None:
        """The host of that id, if it is a member."""
        return next((host for host in self.hosts if host.id == host_id), None)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What proxies compare by identity: the topology, the ids of the hosts known to be down, and since when the writer
    is in doubt (None: it is not)."""

    topology: ClusterTopology
    down: frozenset[str] = frozenset()
    doubt: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the writer of a topology rests on.

    ``at``: not later than its last own word. ``doubt``: when the doubt arose that this verdict settled (0.0: there was
    none). ``promotion``: see ``Observation``.
    """

    at: float = 0.0
    doubt: float = 0.0
    promotion: float = 0.0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that the topology actor knows. ``doubt`` is since when the writer is in doubt; None: it is not."""

    topology: ClusterTopology
    verdict: Verdict = Verdict()
    doubt: float | None = None
    candidate: str | None = None

    @property
    def settled(self) -> bool:
        """Whether somebody may be handed the writer."""
        return self.doubt is None and self.topology.writer is not None


def doubted(known: Knowledge, at: float) -> Knowledge:
    """The writer was found wanting at *at*: until a host says anew that it writes, nobody is handed out."""
    if known.doubt is not None and known.doubt >= at:
        return known
    return replace(known, doubt=at)


def observed(known: Knowledge, seen: Observation, members: Iterable[Host] = ()) -> Knowledge:
    """What is known after *seen*; the same object when nothing changed.

    *members* are the hosts of ``seen.rows`` with their endpoints, which only the caller can derive.
    """
    if seen.role is Role.WRITER:
        return _claimed(known, seen, tuple(members))
    if seen.asked < known.verdict.at:
        return known
    return _reported(known, seen, tuple(members))


def _claimed(known: Knowledge, seen: Observation, members: tuple[Host, ...]) -> Knowledge:
    """A host says of itself that it writes."""
    writer = known.topology.writer
    if writer is not None and writer.is_same(seen.host):
        stale = seen.promotion < known.verdict.promotion
        early = seen.asked < known.verdict.at or (known.doubt is not None and seen.session <= known.doubt)
        return known if stale or early else _accepted(known, seen, members)
    if known.doubt is not None:
        # A former writer that comes back claims with an older promotion, and an answer given before the doubt
        # arose may be the very thing in doubt.
        former = 0 < seen.promotion <= known.verdict.promotion
        return known if former or seen.session <= known.doubt else _accepted(known, seen, members)
    if writer is None:
        return known if seen.asked < known.verdict.at else _accepted(known, seen, members)
    if seen.promotion > known.verdict.promotion > 0:
        return _accepted(known, seen, members)
    if 0 < seen.promotion <= known.verdict.promotion or seen.asked <= known.verdict.at:
        return known
    return replace(doubted(known, seen.asked), candidate=seen.host.id)


def _accepted(known: Knowledge, seen: Observation, members: tuple[Host, ...]) -> Knowledge:
    writer = seen.host.playing(Role.WRITER)
    others = tuple(
        host.playing(Role.READER if host.role is Role.WRITER else host.role)
        for host in members or known.topology.hosts
        if not host.is_same(writer)
    )
    hosts = _ordered((writer, *others))
    return replace(
        known,
        topology=_with_hosts(known.topology, hosts),
        verdict=Verdict(at=seen.asked, doubt=known.doubt or known.verdict.doubt, promotion=seen.promotion),
        doubt=None,
        candidate=None,
    )


def _reported(known: Knowledge, seen: Observation, members: tuple[Host, ...]) -> Knowledge:
    """A host that does not write tells whom it knows."""
    itself = seen.host.playing(seen.role)
    current = {host.id: host for host in known.topology.hosts}
    hosts = dict(current)
    for host in members:
        hosts.setdefault(host.id, host.playing(Role.UNKNOWN if host.is_writer else host.role))
    was = current.get(itself.id)
    demoted = was is not None and was.is_writer
    # The writer's own denial is fresh news: its role stays until another claims it, but nobody is handed it.
    hosts[itself.id] = was if was is not None and was.is_writer else itself
    after = replace(known, topology=_with_hosts(known.topology, _ordered(hosts.values())))
    # Said again, it is no new doubt: each would put off the answer of whoever writes now.
    if demoted and known.doubt is None and seen.asked > known.verdict.at:
        after = doubted(after, seen.asked)
    named = seen.names_writer
    writer = known.topology.writer
    if named is not None and named != seen.host.id and (writer is None or named != writer.id):
        after = replace(after, candidate=named)
    return known if after == known else after


def _ordered(hosts: Iterable[Host]) -> tuple[Host, ...]:
    return tuple(sorted(hosts, key=lambda host: (host.role is not Role.WRITER, host.id)))


def _with_hosts(topology: ClusterTopology, hosts: tuple[Host, ...]) -> ClusterTopology:
    if hosts == topology.hosts:
        return topology
    return ClusterTopology(topology.cluster, hosts, topology.generation + 1)
