"""Answers connections in need of a host: one search for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from aurora_actors import signals
from aurora_actors.actors.base import Actor, ActorCrashed, Ref, tell
from aurora_actors.actors.clock import Timer
from aurora_actors.actors.messages import EndSearch, FindHost, HostSighted, SearchFor, Tick, WriterConfirmed
from aurora_actors.actors.published import Published
from aurora_actors.model.failover import READER_GRACE_SECONDS, Mode, Sighting, answer, explained
from aurora_actors.model.hosts import Host
from aurora_actors.model.topology import ClusterTopology, Verdict

__all__ = ["FailoverActor"]

GRACE_OVER = -1
"""The turn of the tick that says that readers have had their time to answer."""


class FailoverActor(Actor):
    """One for each cluster. Holds the requests of all connections that wait; never waits itself."""

    def __init__(
        self,
        name: str,
        *,
        report: Callable[[ActorCrashed], object],
        cell: Published,
        topology: Ref,
        timer: Timer,
    ) -> None:
        super().__init__(name, report=report)
        self._cell = cell
        self._topology = topology
        self._timer = timer
        self._turn = 0

    def begin(self) -> None:
        self._waiting: list[FindHost] = []
        self._began: float | None = None
        self._due = math.inf
        self._lost: Host | None = None
        self._answered = 0
        self._sightings: dict[str, Sighting] = {}

    def end(self) -> None:
        if self._began is not None:
            self._give_up("the search was cut short")

    def handle(self, message: object) -> None:
        match message:
            case FindHost() as request:
                self._find(request)
            case HostSighted(sighting):
                if self._began is not None and sighting.asked >= self._began:
                    self._sightings[sighting.host.id] = sighting
                    self._answer()
            case WriterConfirmed(verdict=verdict):
                if self._began is None:
                    return
                if verdict.at < self._began:
                    # Said before this search began: what it rests on is the very thing in doubt.
                    tell(self._topology, SearchFor(self._lost.id if self._lost else ""))
                else:
                    self._answer()
            case Tick(turn) if turn == GRACE_OVER:
                if self._began is not None:
                    self._answer()
            case Tick(turn):
                if turn == self._turn:
                    self._expire()
            case _:
                super().handle(message)

    def _find(self, request: FindHost) -> None:
        standing = self._cell.standing
        if explained(request.want, standing.topology, standing.verdict, standing.settled):
            assert standing.topology.writer is not None
            request.answer((standing.topology.writer,))
            return
        began = self._began is not None
        if not began:
            self._begin_search(request)
        # Nothing is new for those who wait already: each newcomer is looked at alone.
        if not began or not self._served(request, self._found()):
            self._waiting.append(request)
            self._watch_deadline(request.until)
        if request.want.mode is Mode.READER_OR_WRITER:
            self._timer.tell_after(READER_GRACE_SECONDS, self.actor_ref, Tick(GRACE_OVER))

    def _begin_search(self, request: FindHost) -> None:
        self._began = self._timer.now()
        self._lost = request.want.lost
        self._answered = 0
        self._sightings = {}
        topology = self._cell.view.topology
        event = signals.FailoverStarted(topology.cluster, self._lost, topology.generation, self._began)
        signals.emit(signals.failover_started, topology.cluster, event)
        tell(self._topology, SearchFor(self._lost.id if self._lost else ""))

    def _answer(self) -> None:
        """Answer all that can be; the search ends with the last of them."""
        given: Host | None = None
        waiting: list[FindHost] = []
        found = self._found()
        for request in self._waiting:
            if host := self._served(request, found):
                given = host
            elif not request.reply.done():
                waiting.append(request)
        self._waiting = waiting
        if not waiting and given is not None:
            self._end_search(given)

    def _found(self) -> tuple[ClusterTopology, Verdict, bool, tuple[Sighting, ...], float]:
        """What the search has brought so far, by which requests are answered."""
        assert self._began is not None
        standing = self._cell.standing
        settled = standing.settled and standing.verdict.at >= self._began
        # The tick comes when the grace is over; the difference may fall short of it by the last bit.
        waited = round(self._timer.now() - self._began, 6)
        return standing.topology, standing.verdict, settled, tuple(self._sightings.values()), waited

    def _served(
        self, request: FindHost, found: tuple[ClusterTopology, Verdict, bool, tuple[Sighting, ...], float]
    ) -> Host | None:
        """Answer *request* if it can be: with the host, or the first of several, that it was given."""
        hosts = answer(request.want, *found)
        if not hosts or not request.answer(hosts):
            return None
        self._answered += 1
        return hosts[0]

    def _end_search(self, given: Host) -> None:
        cluster, now = self._cell.view.topology.cluster, self._timer.now()
        assert self._began is not None
        writer = self._cell.standing.topology.writer or given
        event = signals.FailoverCompleted(cluster, writer, now - self._began, self._answered, now)
        self._began = None
        tell(self._topology, EndSearch())
        signals.emit(signals.failover_completed, cluster, event)

    def _watch_deadline(self, until: float) -> None:
        """Have the clock call when the first of those that wait gives up, one of them at *until*."""
        if until < self._due:
            self._due = until
            self._turn += 1
            self._timer.tell_at(until, self.actor_ref, Tick(self._turn))

    def _expire(self) -> None:
        now = self._timer.now()
        self._waiting = [r for r in self._waiting if r.until > now and not r.reply.done()]
        self._due = math.inf
        if self._waiting:
            self._watch_deadline(min(request.until for request in self._waiting))
            return
        if self._began is not None:
            self._give_up("no host answered in the role asked for")

    def _give_up(self, why: str) -> None:
        assert self._began is not None
        cluster, now = self._cell.view.topology.cluster, self._timer.now()
        event = signals.FailoverFailed(cluster, now - self._began, why, self._cell.attempts, now)
        self._began = None
        tell(self._topology, EndSearch())
        signals.emit(signals.failover_failed, cluster, event)
