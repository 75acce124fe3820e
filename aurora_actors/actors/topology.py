"""The sole writer of a cluster's published topology: decides whom to ask, and what the answers mean."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace

from aurora_actors import signals
from aurora_actors.actors.base import Actor, ActorCrashed, Ref, Stop, tell
from aurora_actors.actors.clock import Timer
from aurora_actors.actors.messages import (
    Depose,
    EndSearch,
    HostObserved,
    HostSighted,
    HostSilent,
    HostSpoke,
    HostSuspected,
    HostUnreachable,
    LookForStuck,
    LookNow,
    ProbeDue,
    ProbeHost,
    ProcessSlept,
    RefreshTopology,
    ReportTo,
    Rest,
    Retire,
    SearchFor,
    SessionEnded,
    WatchCalls,
    WatchHost,
    WriterConfirmed,
)
from aurora_actors.actors.polling import Running
from aurora_actors.actors.published import Published
from aurora_actors.model import search
from aurora_actors.model.failover import Sighting
from aurora_actors.model.hosts import Host
from aurora_actors.model.outcome import Attempt
from aurora_actors.model.search import Probe, Watch
from aurora_actors.model.topology import ClusterTopology, Knowledge

__all__ = ["TopologyActor"]

log = logging.getLogger("aurora_actors.topology")

JITTER = 0.2
"""How far a delayed probe may come early or late, as a share: so that processes do not ask in step."""

STUCK_SECONDS = 3.0
"""A monitor whose thread has been in the same code for so long is given up: what it waits for, it waits for elsewhere."""


class TopologyActor(Actor):
    """A shell round ``model.search`` and ``model.topology``; one for each cluster. Never waits for anybody.

    ``monitor(host, topology)`` starts a host monitor; ``watched_hosts`` gives the hosts that applications have guarded
    sessions with; ``retire`` is called when a grace period ends, ``stuck`` with what a monitor did not come back from.
    ``refresh`` is the interval of the regular look, ``least`` the shortest of a search (and the one for the lost
    host), in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        report: Callable[[ActorCrashed], object],
        cell: Published,
        endpoints: tuple[Host, ...],
        refresh: float,
        least: tuple[float, float],
        monitor: Callable[[Host, Ref], Ref],
        watched_hosts: Callable[[], tuple[Host, ...]],
        retire: Callable[[], object],
        timer: Timer,
        stuck: Callable[[Host, str], object] | None = None,
    ) -> None:
        super().__init__(name, report=report)
        self._cell = cell
        self._endpoints = endpoints
        self._refresh = refresh
        self._least = least
        self._monitor = monitor
        self._watched_hosts = watched_hosts
        self._retire = retire
        self._timer = timer
        self._stuck = stuck
        self._turn = 0
        self._failover: Ref | None = None
        self._woken = float("-inf")

    def begin(self) -> None:
        standing = self._cell.standing
        known = Knowledge(standing.topology, standing.verdict, None if standing.settled else self._timer.now())
        known = known if standing.topology.writer is not None else replace(known, doubt=None)
        self._watch = Watch(known, self._endpoints, least=self._least[0], least_lost=self._least[1])
        self._monitors: dict[str, Ref] = {}
        self._down: dict[str, Host] = {}
        self._asking: list[RefreshTopology] = []
        self._missed: dict[str, Attempt] = {}
        for host in self._watched_hosts():
            self._watch_host(host)
        self._again(0.0 if not standing.settled else self._refresh)

    def end(self) -> None:
        for monitor in self._monitors.values():
            tell(monitor, Stop())
        self._monitors = {}
        self._cell.nobody_down()

    def handle(self, message: object) -> None:  # noqa: PLR0912 - one line for each message
        now = self._timer.now()
        match message:
            case HostObserved(probe=None) as fact:
                self._store(*search.heard(self._watch, fact.seen, fact.members, now))
            case HostObserved() as fact:
                self._saw(fact, now)
            case HostUnreachable() as fact:
                self._unreachable(fact, now)
            case ProbeDue(host, turn):
                self._store(*search.started(self._watch, host, turn))
            case WatchHost(host):
                self._watch_host(host)
            case HostSilent() as fact:
                self._silent(fact, now)
            case HostSpoke(host, at):
                self._up(host, at)
            case ProcessSlept(host):
                self._slept(host, now)
            case HostSuspected(host):
                if host.is_same(self._watch.known.topology.writer):
                    self._store(*search.begun(self._watch, now, host.id, held=False))
            case SessionEnded(host):
                if host.is_same(self._watch.known.topology.writer):
                    self._store(*search.due(self._watch, (host,)))
            case SearchFor(lost):
                self._suspect_monitors()
                self._store(*search.begun(self._watch, now, lost))
            case EndSearch():
                self._store(search.ended(self._watch), ())
            case RefreshTopology() as request:
                self._asking.append(request)
                self._store(*search.due(self._watch, self._watch.hosts))
            case LookNow(turn):
                if turn == self._turn:
                    for host in self._watched_hosts():
                        if host.id not in self._monitors:
                            self._watch_host(host)
                    self._suspect_monitors()
                    self._store(*search.looked(self._watch))
                    self._again(self._refresh)
            case LookForStuck(host, running):
                self._replace_stuck(host, running, now)
            case Retire():
                self._retire()
            case ReportTo(failover):
                self._failover = failover
            case _:
                super().handle(message)

    def _saw(self, fact: HostObserved, now: float) -> None:
        assert fact.probe is not None
        self._missed.pop(fact.probe.host.id, None)
        self._store(*search.saw(self._watch, fact.seen, fact.probe, fact.members, now))
        if self._failover is not None and self._watch.searching:
            tell(self._failover, HostSighted(Sighting(fact.seen.host, fact.seen.asked)))
        asking, self._asking = self._asking, []
        for request in asking:
            request.answer(self._watch.known.topology)

    def _unreachable(self, fact: HostUnreachable, now: float) -> None:
        host = fact.probe.host
        self._missed[host.id] = Attempt(str(host), fact.at, fact.error)
        self._cell.attempts = tuple(self._missed.values())
        self._store(*search.missed(self._watch, host.id, now, had_session=fact.had_session))

    def _watch_host(self, host: Host) -> None:
        monitor = self._monitor_of(host)
        if monitor is not None:
            tell(monitor, WatchCalls())

    def _suspect_monitors(self) -> None:
        """Look again later whether monitors that run something just now still run the same."""
        for host in {*self._watch.hosts, *self._endpoints, *self._watched_hosts()}:
            running = _running(self._monitors.get(host.id))
            if running is not None:
                self._timer.tell_after(STUCK_SECONDS, self.actor_ref, LookForStuck(host, running))

    def _replace_stuck(self, host: Host, running: Running, now: float) -> None:
        monitor = self._monitors.get(host.id)
        if monitor is None or _running(monitor) is not running:
            return
        log.error("the monitor of %s is stuck in %s: another takes its place", host, running.name)
        # It stops when it is let go of; its thread does not hold up the end of the process.
        tell(self._monitors.pop(host.id), Stop())
        if self._stuck is not None:
            self._stuck(host, running.name)
        if any(host.id == other.id for other in self._watched_hosts()):
            self._watch_host(host)
        if host.id in self._watch.probing:
            self._store(*search.missed(self._watch, host.id, now, had_session=False))

    def _silent(self, fact: HostSilent, now: float) -> None:
        """A verdict fell: published first, so that whoever is told finds it. If the host wrote, another is looked for."""
        host, known = fact.host, self._watch.known
        log.warning("%s of cluster %s is down: %s", host, known.topology.cluster, fact.reason)
        self._down[host.id] = host
        self._cell.publish(known, frozenset(self._down))
        event = signals.HostDown(known.topology.cluster, host, fact.reason, fact.at)
        signals.emit(signals.host_down, known.topology.cluster, event)
        if host.is_same(known.topology.writer):
            self._store(*search.begun(self._watch, now, host.id, held=False))

    def _slept(self, host: Host, now: float) -> None:
        """Nothing that was known before counts: everybody is asked anew, on sessions opened from now on."""
        self._down.pop(host.id, None)
        if now - self._woken > STUCK_SECONDS:  # each monitor tells of the same sleep
            log.info("this process slept: who writes in cluster %s is asked anew", self._watch.known.topology.cluster)
            self._woken = now
            self._cell.woken = now
            watch = search.ended(self._watch)
            self._store(*search.begun(watch, now, self._watch.lost, held=self._watch.held))

    def _up(self, host: Host, at: float) -> None:
        if self._down.pop(host.id, None) is None:
            return
        cluster = self._watch.known.topology.cluster
        log.info("%s of cluster %s answers again", host, cluster)
        self._cell.publish(self._watch.known, frozenset(self._down))
        signals.emit(signals.host_up, cluster, signals.HostUp(cluster, host, "it answers", at))

    def _store(self, watch: Watch, probes: tuple[Probe, ...]) -> None:
        before, self._watch = self._watch, watch
        if watch.known is not before.known:
            self._publish(before.known, watch.known)
        for probe in probes:
            self._send(probe)
        if before.searching and not watch.searching:
            self._rest()

    def _publish(self, before: Knowledge, known: Knowledge) -> None:
        # Published first, answered after: whoever is answered finds the news in the cell.
        self._cell.publish(known, frozenset(self._down))
        if known.settled and known.verdict is not before.verdict and self._failover is not None:
            tell(self._failover, WriterConfirmed(known.topology, known.verdict))
        if known.topology is not before.topology:
            self._announce(before.topology, known.topology)
            self._dismiss(known.topology)
            self._depose(before.topology.writer, known.topology.writer)

    def _announce(self, old: ClusterTopology, new: ClusterTopology) -> None:
        cluster, at = new.cluster, self._timer.now()
        signals.emit(signals.topology_changed, cluster, signals.TopologyChanged(cluster, old, new, at))
        if old.writer is not None and new.writer is not None and not new.writer.is_same(old.writer):
            signals.emit(signals.writer_changed, cluster, signals.WriterChanged(cluster, old, new, at))
        for host in new.hosts:
            if old.host(host.id) is None:
                signals.emit(signals.host_added, cluster, signals.HostAdded(cluster, host, at))
        for host in old.hosts:
            if new.host(host.id) is None:
                signals.emit(signals.host_removed, cluster, signals.HostRemoved(cluster, host, at))

    def _dismiss(self, topology: ClusterTopology) -> None:
        """Stop the monitors of hosts that are no members any more."""
        wanted = {host.id for host in (*topology.hosts, *self._endpoints, *self._watched_hosts())}
        for host_id in [host_id for host_id in self._monitors if host_id not in wanted]:
            tell(self._monitors.pop(host_id), Stop())
            if host_id in self._down:
                self._up(self._down[host_id], self._timer.now())

    def _depose(self, old: Host | None, new: Host | None) -> None:
        """Calls that wait for a writer which falls silent need not wait longer once another writes."""
        if new is None or new.is_same(old):
            return
        for host, deposed in ((old, True), (new, False)):
            if host is not None and host.id in self._monitors:
                tell(self._monitors[host.id], Depose(deposed))

    def _rest(self) -> None:
        """After a search only the writer is looked at; the others' sessions are given back, the endpoints' monitors end."""
        topology = self._watch.known.topology
        needed = {host.id for host in (*(topology.hosts or self._endpoints), *self._watched_hosts())}
        for host_id, monitor in list(self._monitors.items()):
            if host_id not in needed:
                tell(self._monitors.pop(host_id), Stop())
            elif topology.writer is None or host_id != topology.writer.id:
                tell(monitor, Rest())

    def _send(self, probe: Probe) -> None:
        host = probe.host
        if probe.delay > 0:
            delay = probe.delay * random.uniform(1 - JITTER, 1 + JITTER)
            self._timer.tell_after(delay, self.actor_ref, ProbeDue(host.id, probe.turn))
            return
        monitor = self._monitor_of(host)
        if monitor is None or not tell(monitor, ProbeHost(probe)):
            # It crashed too often and stopped, or never started: a new one is started, not before the next look.
            self._monitors.pop(host.id, None)
            tell(self.actor_ref, HostUnreachable(probe, self._timer.now(), "its monitor does not run"))

    def _monitor_of(self, host: Host) -> Ref | None:
        """The monitor of *host*, started if need be; None where this process has no descriptor or thread left for one."""
        monitor = self._monitors.get(host.id)
        if monitor is None:
            try:
                monitor = self._monitors[host.id] = self._monitor(host, self.actor_ref)
            except (OSError, RuntimeError) as error:
                log.warning("%s cannot be watched: %s", host, error)
        return monitor

    def _again(self, seconds: float) -> None:
        self._turn += 1
        self._timer.tell_after(seconds, self.actor_ref, LookNow(self._turn))


def _running(monitor: Ref | None) -> Running | None:
    """The code that the thread of *monitor* is in just now."""
    running: Running | None = getattr(monitor.actor_inbox, "running", None) if monitor is not None else None
    return running
