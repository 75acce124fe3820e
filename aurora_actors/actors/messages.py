"""Every message of the control plane. All are frozen; the reply of a request is the only thing in them that changes."""

from __future__ import annotations

from aurora_actors.actors.base import Ref, Request
from aurora_actors.actors.polling import Running
from aurora_actors.model.failover import Sighting, Want
from aurora_actors.model.hosts import Host
from aurora_actors.model.search import Probe
from aurora_actors.model.topology import ClusterTopology, Observation, Verdict
from aurora_actors.model.values import dataclass

__all__ = [
    "Depose",
    "EndSearch",
    "FindHost",
    "HostObserved",
    "HostSighted",
    "HostSilent",
    "HostSpoke",
    "HostSuspected",
    "HostUnreachable",
    "LookAtCalls",
    "LookForStuck",
    "LookNow",
    "ProbeDue",
    "ProbeHost",
    "ProcessSlept",
    "RefreshTopology",
    "ReportTo",
    "Rest",
    "Retire",
    "SearchFor",
    "Tick",
    "WatchCalls",
    "WatchHost",
    "WriterConfirmed",
]


# Questions


@dataclass(frozen=True, slots=True)
class FindHost(Request[tuple[Host, ...]]):
    """Asked of the failover actor by a connection in need: which hosts may it go to? Answered when there is one."""

    want: Want
    until: float


@dataclass(frozen=True, slots=True)
class RefreshTopology(Request[ClusterTopology]):
    """Asked of the topology actor: the topology once a host has been asked after now."""

    until: float


# Commands


@dataclass(frozen=True, slots=True)
class ProbeHost:
    """Told to a host monitor: ask your host."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class Rest:
    """Told to a host monitor: nobody asks for now, give the session back."""


@dataclass(frozen=True, slots=True)
class ReportTo:
    """Told to the topology actor: whom to tell what a search brings."""

    failover: Ref


@dataclass(frozen=True, slots=True)
class SearchFor:
    """Told to the topology actor: a connection to *lost* is gone; ask everybody until told to end."""

    lost: str


@dataclass(frozen=True, slots=True)
class EndSearch:
    """Told to the topology actor: nobody waits any more."""


@dataclass(frozen=True, slots=True)
class LookNow:
    """Told to the topology actor by its clock: the regular look is due. ``turn`` tells a stale one from the last."""

    turn: int


@dataclass(frozen=True, slots=True)
class ProbeDue:
    """Told to the topology actor by its clock: the delayed probe of that host is due."""

    host: str
    turn: int


@dataclass(frozen=True, slots=True)
class WatchHost:
    """Told to the topology actor: an application has a guarded session with *host*."""

    host: Host


@dataclass(frozen=True, slots=True)
class WatchCalls:
    """Told to a host monitor: there is a new session whose calls may have to be ended."""


@dataclass(frozen=True, slots=True)
class Depose:
    """Told to a host monitor: whether another host writes now, where its own did before."""

    deposed: bool


@dataclass(frozen=True, slots=True)
class LookAtCalls:
    """Told to a host monitor by its clock: a look at the calls in flight was ``due`` (on the clock's time)."""

    turn: int
    due: float


@dataclass(frozen=True, slots=True)
class Retire:
    """Told to the topology actor by the clock: a grace period that began when the last connection went is over."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Told by the clock to whoever asked for it."""

    turn: int


@dataclass(frozen=True, slots=True)
class LookForStuck:
    """Told to the topology actor by the clock: is the monitor of *host* still ``running`` the same code?"""

    host: Host
    running: Running


# Facts


@dataclass(frozen=True, slots=True)
class HostObserved:
    """A host answered; ``members`` are the hosts it named, with their endpoints. ``probe`` is None when an
    application's own connection brought the news."""

    seen: Observation
    members: tuple[Host, ...]
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class HostUnreachable:
    """A probe failed. ``had_session``: on a session that had worked before. ``answered``: the host refused, alive."""

    probe: Probe
    at: float
    error: str
    had_session: bool = False
    answered: bool = False


@dataclass(frozen=True, slots=True)
class HostSilent:
    """Calls to *host* were ended: it answers no probe. ``at``: when the verdict fell."""

    host: Host
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class HostSuspected:
    """Calls wait for *host*, and the first probe has gone unanswered."""

    host: Host


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Told by the monitor of *host*: it has ended a session that nobody used just then."""

    host: Host


@dataclass(frozen=True, slots=True)
class ProcessSlept:
    """Told by the monitor of *host*: the process was stopped, or its machine. What it knew before may have changed."""

    host: Host


@dataclass(frozen=True, slots=True)
class HostSpoke:
    """A host that was silent answers again."""

    host: Host
    at: float


@dataclass(frozen=True, slots=True)
class HostSighted:
    """During a search a host answered in its role."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class WriterConfirmed:
    """The writer is known, by its own word."""

    topology: ClusterTopology
    verdict: Verdict
