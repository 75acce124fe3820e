"""The lab's state: its hosts, who writes, who holds what was acknowledged, and what it tells the world of it."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .engine import Engine, Server
from .lines import Line
from .names import DnsView, Place, Zone
from .values import Flavour, Habit, HostStatus, LabError, LabEvent, OperationRecord, Replication, Role, State

__all__ = ["Claim", "Cluster", "Host", "Journal", "Options"]

KEPT_EVENTS = 10_000
KEPT_VIEWS = 64
"""Name views older than any sensible lag; failovers come seconds apart."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the cluster behaves, fixed at its start."""

    habit: Habit
    flavour: Flavour
    asynchronous: bool
    restart_seconds: float
    stale_topology_seconds: float
    own_report_time: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A host tells that it writes, and that it reported so many seconds ago; none: no other time than without."""

    updated_seconds_ago: float | None


@dataclass(slots=True)
class Host:
    """One host and what the lab knows of it."""

    server: Server
    state: State = "stopped"
    role: Role = "READER"
    timeline: int = 1
    deposed: bool = False
    """It wrote, another was promoted, and it still has the processes or the data of a writer."""
    seen: float | None = None
    """Epoch seconds of its last sign of life, once it is silent or dead."""
    session: str = field(default_factory=lambda: str(uuid.uuid4()))
    rejoin: threading.Thread | None = None
    line: Line = field(default_factory=Line)
    added: bool = False
    """It was not there at the start."""
    claim: Claim | None = None
    born: str = ""
    """The id it began with, once it has another."""

    @property
    def id(self) -> str:
        """Its instance name."""
        return self.server.place.id

    @property
    def place(self) -> Place:
        """Where it listens."""
        return self.server.place

    @property
    def is_live(self) -> bool:
        """Whether it runs and answers."""
        return self.state == "available"

    @property
    def is_silent(self) -> bool:
        """Whether it runs but neither answers nor acknowledges."""
        return self.state in {"frozen", "black-holed"}


@dataclass(slots=True)
class Journal:
    """The facts of one operation under way."""

    cluster: Cluster
    operation: str
    host: str
    started_at: float = field(default_factory=time.monotonic)
    events: list[LabEvent] = field(default_factory=list)

    def note(self, name: str, host: str, at: float | None = None) -> LabEvent:
        """Record a fact, now or at the given :func:`time.monotonic` time."""
        event = LabEvent(name, host, time.monotonic() if at is None else at)
        self.events.append(event)
        self.cluster.remember(event)
        return event

    def record(self) -> OperationRecord:
        """The operation as it is now."""
        return OperationRecord(self.operation, self.host, self.started_at, time.monotonic(), tuple(self.events))


@dataclass(slots=True)
class Cluster:
    """Everything that the operations work on. One operation at a time holds ``lock``."""

    options: Options
    engine: Engine
    zone: Zone
    directory: Path
    hosts: dict[str, Host]
    """By id. Replaced, never changed: anyone may read it at any time."""
    stopping: threading.Event
    changed: Callable[[], None]
    """Called after each change of what the outside may know."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    events: tuple[LabEvent, ...] = ()
    views: tuple[DnsView, ...] = ()
    holders: tuple[str, ...] = ()
    """Readers of which at least one holds each acknowledged commit; none: only the writer holds all."""
    nobody_writes: bool = False
    """No host tells who writes."""
    former_ids: set[str] = field(default_factory=set)
    spent: set[tuple[str, int]] = field(default_factory=set)
    """Where hosts listened that are gone."""
    _told: list[dict[str, Any]] = field(default_factory=list)
    _events_lock: threading.Lock = field(default_factory=threading.Lock)

    def host(self, id_: str) -> Host:
        """The host of that id; :class:`LabError` if there is none."""
        try:
            return self.hosts[id_]
        except KeyError:
            raise LabError(f"there is no host {id_!r}; the hosts are {', '.join(self.hosts)}") from None

    @property
    def writer(self) -> Host:
        """The host that writes, or that wrote last where none was promoted since."""
        return next(host for host in self.hosts.values() if host.role == "WRITER")

    def set_hosts(self, hosts: Iterable[Host]) -> None:
        """Have these hosts from now on, in this order; names follow with the next :meth:`publish`."""
        self.hosts = {host.id: host for host in hosts}
        self.zone = replace(self.zone, places=tuple(host.place for host in self.hosts.values()))

    def live_readers(self) -> list[Host]:
        """Readers that run and answer."""
        return [host for host in self.hosts.values() if host.role == "READER" and host.is_live]

    def remember(self, event: LabEvent) -> None:
        """Append to the events that anyone may read."""
        with self._events_lock:
            self.events = (*self.events[-KEPT_EVENTS:], event)

    def remember_now(self, name: str, host: str) -> None:
        """Append a fact that belongs to no operation."""
        self.remember(LabEvent(name, host, time.monotonic()))

    @contextlib.contextmanager
    def operation(self, name: str, host: str) -> Iterator[Journal]:
        """Do one operation at a time; tell the outside what became of it, however it ends."""
        with self.lock:
            if self.stopping.is_set():
                raise LabError(f"{name}: the lab is stopped")
            journal = Journal(self, name, host)
            try:
                yield journal
            finally:
                self.changed()

    def pause(self, seconds: float) -> None:
        """Let time pass as part of an operation; :class:`LabError` if the lab is stopped meanwhile."""
        if seconds > 0 and self.stopping.wait(seconds):
            raise LabError("the lab was stopped during an operation")

    def kill_before_promotion(self, journal: Journal, new: Host) -> None:
        """The habit ``restart``: the host to be promoted goes down first, for as long as the options say."""
        journal.note("restarting", new.id)
        new.state = "restarting"
        new.server.kill()
        self.pause(self.options.restart_seconds)

    def publish(self, *, stale_for: float = 0.0) -> None:
        """Write what each host says of the cluster, and what names lead to from now on.

        With *stale_for* seconds, every host but the writer goes on telling what it told before for that long.
        """
        now = time.time()
        rows = self._rows()
        for host in self.hosts.values():
            if host.is_silent or host.state == "rejoining":
                continue
            if stale_for > 0 and host.role == "READER" and self._told:
                old = [{**row, "until": now + stale_for, "seen": row["seen"] or now} for row in self._told]
                new = [{**row, "since": now + stale_for} for row in rows]
                host.server.write_topology(self._told_by(host, [*old, *new]))
            else:
                host.server.write_topology(self._told_by(host, rows))
        self._told = rows
        self._publish_names()
        self.changed()

    def _told_by(self, host: Host, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a host says where that is not the truth."""
        if self.nobody_writes:
            return [{**row, "hidden": True} for row in rows]
        if host.claim is None:
            return rows
        lie = {"claims": True, "ago": host.claim.updated_seconds_ago}
        return [{**row, **lie} if row["id"] == host.id else row for row in rows]

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "id": host.id,
                "resource": host.server.resource_id,
                "endpoint": self.zone.instance_endpoint(host.id),
                "port": host.place.port,
                "session": host.session,
                "writer": host.role == "WRITER",
                "own_time": self.options.own_report_time,
                "seen": None if host.is_live else host.seen,
                "since": None,
                "until": None,
            }
            for host in self.hosts.values()
        ]

    def _publish_names(self) -> None:
        writer = next((host.id for host in self.hosts.values() if host.role == "WRITER"), None)
        readers = tuple(
            host.id
            for host in self.hosts.values()
            if host.role == "READER" and not host.deposed and (host.is_live or host.is_silent)
        )
        view = DnsView(time.monotonic(), writer, readers, self.zone.places)
        if not self.views or replace(self.views[-1], at=view.at) != view:
            self.views = (*self.views[-KEPT_VIEWS:], view)

    def status(self) -> tuple[HostStatus, ...]:
        """Every host, in the order of their numbers."""
        return tuple(
            HostStatus(
                host.id,
                host.role,
                host.place.address,
                host.place.port,
                host.state,
                host.timeline,
                self.replication,
                host.server.refuses_logins,
                len(host.line.cut),
                host.line.late_ms,
                host.line.loss_percent,
                host.claim is not None or host.state == "resurrected",
            )
            for host in self.hosts.values()
        )

    @property
    def replication(self) -> Replication:
        """What a commit waits for now."""
        if self.options.asynchronous:
            return "asynchronous"
        return "synchronous" if self.holders else "none"
