"""A cluster's two deciding actors over monitors that follow a script, on a clock turned by hand or a real one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from aurora_actors import signals
from aurora_actors.actors.base import Actor, ActorCrashed, Ref, Stop, stop_all, tell
from aurora_actors.actors.clock import HandClock, Timer, settle_actors
from aurora_actors.actors.failover import FailoverActor
from aurora_actors.actors.messages import Depose, FindHost, HostObserved, HostUnreachable, ProbeHost, ReportTo, Rest
from aurora_actors.actors.published import Published
from aurora_actors.actors.topology import TopologyActor
from aurora_actors.model.failover import Mode, Want
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.search import Probe
from aurora_actors.model.topology import ClusterTopology, Knowledge, Observation, Verdict

__all__ = ["CLUSTER", "Rig", "host", "rig"]

SECONDS = 10.0
"""A bound on what takes milliseconds; only a failing test waits for it."""
CLUSTER = "rig"
START = 1000.0
REFRESH = 30.0

Behaviour: TypeAlias = Callable[[Probe, float], HostObserved | HostUnreachable | None]
"""How a host answers a probe at a time; None: not at all."""


def host(name: str, role: Role = Role.UNKNOWN) -> Host:
    return Host(name, f"{name}.abc", 5432, role)


class ScriptedMonitor(Actor):
    """Stands for a host monitor: answers as the rig's script says, a held probe of a reader when it was held."""

    def __init__(self, rig: Rig, host_id: str, topology: Ref) -> None:
        super().__init__(f"host {host_id}", report=rig.crashes.append)
        self._rig = rig
        self._host = host_id
        self._topology = topology

    def handle(self, message: Any) -> None:
        rig = self._rig
        match message:
            case ProbeHost(probe):
                rig.probes.append((rig.clock.now(), probe))
                reply = rig.script[self._host](probe, rig.clock.now())
                held = isinstance(reply, HostObserved) and reply.seen.role is Role.READER and probe.hold > 0
                if held:
                    rig.clock.tell_after(probe.hold, self.actor_ref, probe)
                elif reply is not None:
                    tell(self._topology, reply)
            case Probe() as probe:
                # The time is up, or the host was promoted meanwhile.
                reply = rig.script[self._host](probe, rig.clock.now())
                if reply is not None:
                    tell(self._topology, reply)
            case Rest():
                rig.rested.append(self._host)
            case Depose(deposed):
                rig.deposed[self._host] = deposed
            case _:
                super().handle(message)


class Rig:
    """What a test turns, asks and reads."""

    def __init__(self, clock: Timer, names: str = "abc", *, grace: Callable[[], object] = lambda: None) -> None:
        self.clock = clock
        self.script: dict[str, Behaviour] = {}
        self.probes: list[tuple[float, Probe]] = []
        self.rested: list[str] = []
        self.crashes: list[ActorCrashed] = []
        self.deposed: dict[str, bool] = {}
        self.events: list[tuple[str, Any]] = []
        self.monitors: dict[str, Ref] = {}
        self.names = names
        for name in names:
            self.reads(name)
        self.writes(names[0], promotion=1)
        members = tuple(host(name, Role.WRITER if name == names[0] else Role.READER) for name in names)
        known = Knowledge(ClusterTopology(CLUSTER, members, 1), Verdict(at=clock.now() - 1, promotion=1))
        self.cell = Published(known)
        self.topology: Ref = TopologyActor.start(
            "topology rig",
            report=self.crashes.append,
            cell=self.cell,
            endpoints=(host("endpoint"),),
            refresh=REFRESH,
            least=(0.0, 0.0),
            monitor=self._monitor,
            watched_hosts=lambda: (),
            retire=grace,
            timer=clock,
        )
        self.failover: Ref = FailoverActor.start(
            "failover rig", report=self.crashes.append, cell=self.cell, topology=self.topology, timer=clock
        )
        tell(self.topology, ReportTo(self.failover))
        self.refuses("endpoint")

    def _monitor(self, at: Host, topology: Ref) -> Ref:
        self.monitors[at.id] = ref = ScriptedMonitor.start(self, at.id, topology)
        return ref

    # The script

    def says(self, name: str, role: Role, promotion: float = 0.0) -> None:
        """From now on that host answers in that role, on a session as young as the probe wants."""

        def behave(probe: Probe, now: float) -> HostObserved:
            session = max(now, math.nextafter(probe.fresh_after, math.inf))
            seen = Observation(host(name, role), role, (), session, now, promotion)
            members = tuple(host(each, Role.READER) for each in self.names if each != name)
            return HostObserved(seen, (host(name, role), *members), probe)

        self.script[name] = behave

    def writes(self, name: str, *, promotion: float) -> None:
        self.says(name, Role.WRITER, promotion)

    def reads(self, name: str) -> None:
        self.says(name, Role.READER)

    def refuses(self, name: str) -> None:
        self.script[name] = lambda probe, now: HostUnreachable(probe, now, "connection refused")

    def is_silent(self, name: str) -> None:
        self.script[name] = lambda probe, now: None

    # The application

    def lose(
        self, name: str = "a", *, opened: float = 0.0, until: float = 60.0, mode: Mode = Mode.STRICT_WRITER
    ) -> FindHost:
        """A connection to that host, opened then, asks for another; ``until`` seconds from now."""
        now = self.clock.now()
        lost = self.cell.view.topology.host(name)
        request = FindHost(Want(mode, lost, opened, now), now + until)
        tell(self.failover, request)
        return request

    # Time

    @property
    def refs(self) -> tuple[Ref, ...]:
        return (self.topology, self.failover, *self.monitors.values())

    def settle(self) -> None:
        """Until nobody has anything left to say; a monitor that was started meanwhile counts too."""
        settled: tuple[Ref, ...] = ()
        while settled != self.refs:
            settled = self.refs
            settle_actors(settled, SECONDS)

    def turn(self, seconds: float) -> None:
        assert isinstance(self.clock, HandClock)
        self.clock.advance(seconds, self.settle)

    # What came of it

    def told(self) -> list[str]:
        """The names of the signals so far, in their order."""
        assert signals.settle(SECONDS)
        return [name for name, _ in self.events]

    def probed(self, since: float = 0.0) -> list[str]:
        return [probe.host.id for at, probe in self.probes if at >= since]

    @property
    def writer(self) -> str | None:
        writer = self.cell.view.topology.writer
        return writer.id if writer is not None else None


@contextmanager
def rig(clock: Timer | None = None, names: str = "abc", **options: Any) -> Iterator[Rig]:
    """A running rig whose signals are noted; its actors end with the block."""
    # Receivers are looked up at delivery: what an earlier rig still had to say is not for this one.
    assert signals.settle(SECONDS)
    made = Rig(clock or HandClock(START), names, **options)

    def noting(name: str) -> Callable[..., None]:
        def note(_: str, event: Any) -> None:
            made.events.append((name, event))

        return note

    receivers = {name: noting(name) for name in signals.namespace}
    for name, receiver in receivers.items():
        signals.namespace[name].connect(receiver, sender=CLUSTER)
    try:
        yield made
    finally:
        for name, receiver in receivers.items():
            signals.namespace[name].disconnect(receiver, sender=CLUSTER)
        tell(made.topology, Stop())
        assert stop_all(made.refs, SECONDS) == ()
