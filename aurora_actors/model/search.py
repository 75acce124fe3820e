"""Which host is asked when: the regular look at the writer, and the search for a writer or a reader.

Pure decisions of the topology actor: each function takes what is known, what happened and the time, and gives what is
known then and the probes to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace

from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import Knowledge, Observation, doubted, observed
from aurora_actors.model.values import dataclass

__all__ = ["Probe", "Watch", "begun", "due", "ended", "heard", "looked", "missed", "pace", "saw", "started"]

SEARCH_RATE = 23.0
"""Probes a second over all members; one more goes to the given endpoint."""
LEAST_RATE = 7.0
"""What is left of that for hosts that have to be asked again and again, however many hold an answer back."""
LOST_SHARE = 8.0
"""How many times rarer the host that was lost is asked than one that may take over from it."""
SEARCH_SECONDS = 30.0
"""A search this old slows down: the interval doubles each time it has passed."""
SLOWEST_SECONDS = 1.0
"""The longest interval between two looks at one host while somebody waits for an answer."""
ENDPOINT_SECONDS = 1.0
"""How often the given endpoint is asked while its hosts are: it helps only where all hosts were replaced."""
HOLD_SECONDS = 1.0
"""How long a reader holds an answer back while it waits to be promoted; short of any sensible statement_timeout."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask *host*, *delay* seconds from now, on a session opened after *fresh_after*.

    *hold*: for how many seconds a reader may wait on its side for the end of recovery before it answers. *turn*: which of
    the delayed probes it is.
    """

    host: Host
    delay: float = 0.0
    fresh_after: float = 0.0
    hold: float = 0.0
    turn: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the topology actor knows and does.

    ``since``: when the present search began (None: there is none); ``held``: somebody waits for it, and says when to
    stop. ``endpoints``: the given endpoints, asked only when their hosts are not enough. ``unreachable``: ids of the hosts
    whose last probe failed. ``probing``: of those that are being asked; ``delayed``: of those whose turn is still to come,
    and which turn that is: of a probe that another took the place of, the timer still comes.
    ``least`` and ``least_lost``: no host, and not the lost one, is asked more often than every that many seconds.
    """

    known: Knowledge
    endpoints: tuple[Host, ...] = ()
    since: float | None = None
    held: bool = False
    lost: str = ""
    unreachable: frozenset[str] = frozenset()
    probing: frozenset[str] = frozenset()
    delayed: Mapping[str, int] = field(default_factory=dict)
    turn: int = 0
    least: float = 0.0
    least_lost: float = 0.0

    @property
    def searching(self) -> bool:
        return self.since is not None

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The members as far as they are known, else the endpoints."""
        return self.known.topology.hosts or self.endpoints

    def host(self, host_id: str) -> Host | None:
        every = (*self.known.topology.hosts, *self.endpoints)
        return next((host for host in every if host.id == host_id), None)


Step = tuple[Watch, tuple[Probe, ...]]


def pace(watch: Watch, host_id: str, now: float) -> float:
    """Seconds until *host_id* is asked again while searching: one budget, shared by all members."""
    if any(host.id == host_id for host in watch.endpoints) and watch.known.topology.host(host_id) is None:
        return ENDPOINT_SECONDS
    asked = watch.unreachable.intersection(host.id for host in watch.hosts) | {host_id}
    others = len(asked - {watch.lost})
    # Whoever is not asked again and again holds an answer back: about one probe in HOLD_SECONDS.
    rate = max(SEARCH_RATE - (len(watch.hosts) - len(asked)) / HOLD_SECONDS, LEAST_RATE)
    turn = (others * LOST_SHARE + (watch.lost in asked)) / (LOST_SHARE * rate)
    interval = max(turn * LOST_SHARE, watch.least_lost) if host_id == watch.lost else max(turn, watch.least)
    age = now - (watch.since if watch.since is not None else now)
    slower = 2.0 ** int(age / SEARCH_SECONDS)
    return min(interval * slower, max(SLOWEST_SECONDS, interval))


def begun(watch: Watch, now: float, lost: str = "", *, held: bool = True) -> Step:
    """Start to search, or join the search under way (whose doubt stays: answers given after it arose are as good)."""
    if watch.searching and not watch.known.settled:
        return replace(watch, held=watch.held or held), ()
    watch = replace(
        watch,
        known=doubted(watch.known, now),
        since=now,
        held=held,
        lost=lost,
        unreachable=frozenset(),
        delayed={},
    )
    probes = [Probe(host, 0.0, now) for host in watch.hosts]
    members = {host.id for host in watch.hosts}
    probes += [Probe(e, ENDPOINT_SECONDS, now) for e in watch.endpoints if e.id not in members]
    return _sending(watch, probes)


def ended(watch: Watch) -> Watch:
    """Nobody waits any more."""
    return replace(watch, since=None, held=False, lost="", delayed={})


def started(watch: Watch, host_id: str, turn: int) -> Step:
    """The turn of a delayed probe has come: send it if it is still wanted."""
    host = watch.host(host_id)
    if watch.delayed.get(host_id) != turn:
        return watch, ()
    watch = replace(watch, delayed={other: its for other, its in watch.delayed.items() if other != host_id})
    if host is None:
        return watch, ()
    # A host that is back says so at once, for those who wait for a reader; after that it may hold its answers.
    hold = 0.0 if host_id in watch.unreachable else HOLD_SECONDS
    return _sending(watch, [Probe(host, 0.0, watch.known.doubt or 0.0, hold)])


def looked(watch: Watch) -> Step:
    """The regular look: at the writer, or at whom we have while no writer is known."""
    writer = watch.known.topology.writer
    hosts = (writer,) if writer is not None and watch.known.settled else watch.hosts
    return _sending(watch, [Probe(host, fresh_after=watch.known.doubt or 0.0) for host in hosts])


def due(watch: Watch, hosts: Iterable[Host]) -> Step:
    """Ask *hosts* once, now."""
    return _sending(watch, [Probe(host, fresh_after=watch.known.doubt or 0.0) for host in hosts])


def heard(watch: Watch, seen: Observation, members: tuple[Host, ...], now: float) -> Step:
    """News that nobody was asked for. Where it raises a doubt, who writes is found out at once, whoever waits or not."""
    known = observed(watch.known, seen, members)
    doubtful = known.doubt is not None and watch.known.doubt is None
    watch = replace(watch, known=known)
    return begun(watch, now, held=False) if doubtful and not watch.searching else (watch, ())


def saw(
    watch: Watch, seen: Observation, probe: Probe, members: tuple[Host, ...], now: float
) -> Step:
    """A host answered *probe*, which may have gone to an endpoint."""
    asked_as = probe.host.id
    answered = {asked_as, seen.host.id}
    watch = replace(watch, unreachable=watch.unreachable - answered, probing=watch.probing - {asked_as})
    watch, first = heard(watch, seen, members, now)
    known = watch.known
    if first:
        return watch, first
    if watch.searching and known.settled and not watch.held:
        watch = ended(watch)
    probes: list[Probe] = []
    candidate = known.topology.host(known.candidate) if known.candidate else None
    if candidate is not None and candidate.id not in watch.probing and not candidate.is_same(seen.host):
        probes.append(Probe(candidate, 0.0, known.doubt or 0.0))
    if watch.searching and not (known.settled and seen.host.is_same(known.topology.writer)):
        # A held answer took its time; one that came at once (a dialect that cannot hold) must not become a busy loop.
        quick = probe.hold > 0 and now - seen.asked < probe.hold / 2
        pause = pace(watch, asked_as, now) if quick else 0.0
        host = watch.host(asked_as)
        if host is not None and asked_as not in {p.host.id for p in probes}:
            probes.append(Probe(host, pause, known.doubt or 0.0, HOLD_SECONDS))
    return _sending(watch, probes)


def missed(watch: Watch, host_id: str, now: float, *, had_session: bool) -> Step:
    """A probe failed. A session that has just died is replaced at once, the rest at the search's pace."""
    watch = replace(watch, unreachable=watch.unreachable | {host_id}, probing=watch.probing - {host_id})
    host = watch.host(host_id)
    writer = watch.known.topology.writer
    if not watch.searching:
        if writer is None or writer.id != host_id:
            return watch, ()
        # The look at the writer failed: find out, whether or not a connection has noticed yet.
        return begun(watch, now, host_id, held=False)
    if host is None:
        return watch, ()
    delay = 0.0 if had_session else pace(watch, host_id, now)
    return _sending(watch, [Probe(host, delay, watch.known.doubt or 0.0)])


def _sending(watch: Watch, probes: list[Probe]) -> Step:
    """One probe at a time for each host; one that is due now takes the place of one that is due later."""
    probing, delayed, turn = set(watch.probing), dict(watch.delayed), watch.turn
    sent: list[Probe] = []
    for probe in probes:
        host = probe.host.id
        if host in probing or (probe.delay > 0 and host in delayed):
            continue
        if probe.delay > 0:
            turn += 1
            delayed[host] = turn
        else:
            delayed.pop(host, None)
            probing.add(host)
        sent.append(replace(probe, turn=turn) if probe.delay > 0 else probe)
    if not sent:
        return watch, ()
    return replace(watch, probing=frozenset(probing), delayed=delayed, turn=turn), tuple(sent)
