"""Who waits for which kind of host, and who can be answered: the decisions of the failover actor."""

from __future__ import annotations

from enum import Enum

from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import ClusterTopology, ClusterView, Verdict
from aurora_actors.model.values import dataclass

__all__ = ["FRESH_SECONDS", "READER_GRACE_SECONDS", "Mode", "Sighting", "Want", "answer", "explained", "why_stale"]

FRESH_SECONDS = 1.0
"""A loss noticed this soon after a search ended is taken for the one that it was about."""
READER_GRACE_SECONDS = 0.3
"""How much sooner the writer may answer than a reader without taking the reader's place: some round trips and a login."""


class Mode(Enum):
    """Which hosts a connection accepts: parameter ``failover_mode``."""

    STRICT_WRITER = "strict_writer"
    STRICT_READER = "strict_reader"
    READER_OR_WRITER = "reader_or_writer"

    def accepts(self, host: Host) -> bool:
        """Whether a session may go on at *host*, going by its role."""
        if self is Mode.STRICT_WRITER:
            return host.is_writer
        return host.is_reader or (self is Mode.READER_OR_WRITER and host.is_writer)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A host that answered since the search began, in the role it gave itself."""

    host: Host
    asked: float


@dataclass(frozen=True, slots=True)
class Want:
    """A connection in need of a host.

    ``lost`` is the host it was on, ``opened`` when its lost session was opened, ``since`` when it noticed (or when the
    host that it was last given turned out wrong), all on the clock of ``time.monotonic()``.
    """

    mode: Mode
    lost: Host | None
    opened: float
    since: float


def explained(want: Want, topology: ClusterTopology, verdict: Verdict, settled: bool) -> bool:
    """Whether the verdict in force already accounts for the loss, so that the writer is handed out without a search."""
    if want.mode is not Mode.STRICT_WRITER or not settled or topology.writer is None:
        return False
    if verdict.at > want.since:
        return True
    if want.lost is not None and not topology.writer.is_same(want.lost) and verdict.at > want.opened:
        return True
    return verdict.doubt > want.opened and want.since - verdict.at < FRESH_SECONDS


def answer(
    want: Want,
    topology: ClusterTopology,
    verdict: Verdict,
    settled: bool,
    sightings: tuple[Sighting, ...],
    waited: float,
) -> tuple[Host, ...]:
    """The hosts that *want* may be given now; empty: it has to wait. *waited*: seconds since the search began."""
    writer = topology.writer if settled and verdict.at > want.opened else None
    if want.mode is Mode.STRICT_WRITER:
        return (writer,) if writer is not None else ()
    readers = tuple(s.host for s in sightings if s.host.is_reader)
    # A cluster of one host has no reader to wait for.
    alone = len(topology.hosts) == 1
    instead = want.mode is Mode.READER_OR_WRITER and waited >= READER_GRACE_SECONDS
    if readers or writer is None or not (alone or instead):
        return readers
    return (writer,)


def why_stale(view: ClusterView, verdict: Verdict, mode: Mode, host: Host, opened: float) -> str:
    """Why a connection on *host* should go elsewhere before its next statement; empty: it should not.

    *host*: in the role that it gave itself then. *opened*: when its session was; news that is older says nothing against
    it. Whoever was brought to a reader by its instance endpoint stays there.
    """
    if host.id in view.down:
        return f"{host.id} is down"
    writer = view.topology.writer
    if view.doubt is not None or writer is None or verdict.at <= opened:
        return ""
    if mode is Mode.STRICT_WRITER:
        return f"{writer.id} writes now" if host.is_writer and not writer.is_same(host) else ""
    if mode is Mode.STRICT_READER and writer.is_same(host) and view.topology.readers:
        return f"{host.id} writes now"
    return ""
