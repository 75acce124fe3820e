"""What happened, as it is told: by the library's signals, by the lab, and by whoever does something to the cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any

from aurora_actors import signals
from aurora_actors.lab import HostStatus
from aurora_actors.model.hosts import Role
from aurora_actors.signals import ConnectionSwitched

if TYPE_CHECKING:
    from aurora_actors.lab.nemesis.engines import Lab

__all__ = ["Kind", "Loss", "Moment", "Story", "Switch"]

LATEST_NEWS_SECONDS = 5.0
"""How long the end of the story waits for signals that were sent and not yet delivered."""


class Kind(Enum):
    """What kind of thing happened."""

    PHASE = "phase"
    FAULT = "fault"
    VERDICT = "verdict"
    SEARCH = "search"
    PROMOTION = "promotion"
    WRITER = "writer"
    UP = "up"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. ``at`` is on the clock of ``time.monotonic()``; ``host`` is an id, or empty."""

    at: float
    kind: Kind
    text: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """A writer that was lost: by which fault and when, who was promoted and when."""

    number: int
    fault: str
    host: str
    at: float
    promoted: str
    promoted_at: float


@dataclass(frozen=True, slots=True)
class Switch:
    """A connection that went elsewhere, as ``signals.connection_switched`` told it; times in ``time.monotonic()``.

    ``idle``: no statement of it was lost. ``steps``: when each step of the ledger was reached.
    """

    at: float
    idle: bool
    began: float
    steps: dict[str, float]


STEPS = ("verdict", "writer_known", "connected", "restored")


class Story:
    """Collects from several threads; what it holds is only ever appended to."""

    def __init__(self, lab: Lab, began: float, tell: Callable[[Moment], None]) -> None:
        self.began = began
        self.moments: list[Moment] = []
        self.switches: list[Switch] = []
        self.losses: list[Loss] = []
        self.states: list[tuple[float, tuple[HostStatus, ...]]] = []
        """What the lab told of its hosts, at each change."""
        self.down: dict[str, str] = {}
        """The hosts that the library holds dead, and why."""
        self.roles: dict[str, Role] = {}
        """Who plays which part, as the library knows it."""
        self.log: list[tuple[float, str]] = []
        """What the library logged."""
        self._lab = lab
        self._told = tell
        self._order = threading.Lock()

    def tell(self, kind: Kind, text: str, host: str = "", at: float | None = None) -> None:
        """Add to the story, and show it."""
        moment = Moment(monotonic() if at is None else at, kind, text, host)
        with self._order:
            self.moments.append(moment)
            self._told(moment)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this the story writes itself."""
        self._look()
        self._lab.on_change(self._look)
        receivers: tuple[tuple[signals.EventSignal[Any], Callable[..., object]], ...] = (
            (signals.topology_changed, self._topology_changed),
            (signals.writer_changed, self._writer_changed),
            (signals.host_down, self._host_down),
            (signals.host_up, self._host_up),
            (signals.failover_started, self._failover_started),
            (signals.failover_completed, self._failover_completed),
            (signals.failover_failed, self._failover_failed),
            (signals.connection_switched, self._connection_switched),
            (signals.actor_crashed, self._actor_crashed),
            (signals.plugin_failed, self._plugin_failed),
        )
        for signal, receiver in receivers:
            signal.connect(receiver)
        log, handler = logging.getLogger("aurora_actors"), _Log(self.log)
        propagated, log.propagate = log.propagate, False
        log.addHandler(handler)
        try:
            yield
            signals.settle(LATEST_NEWS_SECONDS)
        finally:
            for signal, receiver in receivers:
                signal.disconnect(receiver)
            log.removeHandler(handler)
            log.propagate = propagated

    @property
    def in_order(self) -> list[Moment]:
        """The moments by their time: signals come a little after what they tell of."""
        return sorted(self.moments, key=lambda moment: moment.at)

    def _look(self) -> None:
        try:
            self.states.append((monotonic(), self._lab.status()))
        except RuntimeError:
            return  # the lab has stopped: it has no hosts any more

    def _topology_changed(self, _: str, event: signals.TopologyChanged) -> None:
        self.roles = {host.id: host.role for host in event.new.hosts}

    def _writer_changed(self, _: str, event: signals.WriterChanged) -> None:
        if event.new_writer is not None and event.old_writer is not None:
            text = f"writer_changed: {event.new_writer.id} writes, {event.old_writer.id} did"
            self.tell(Kind.WRITER, text, event.new_writer.id, event.at)

    def _host_down(self, _: str, event: signals.HostDown) -> None:
        self.down[event.host.id] = event.reason
        self.tell(Kind.VERDICT, f"host_down: {event.host.id}: {_first_line(event.reason)}", event.host.id, event.at)

    def _host_up(self, _: str, event: signals.HostUp) -> None:
        self.down.pop(event.host.id, None)
        self.tell(Kind.UP, f"host_up: {event.host.id}: {_first_line(event.reason)}", event.host.id, event.at)

    def _failover_started(self, _: str, event: signals.FailoverStarted) -> None:
        lost = event.lost.id if event.lost is not None else "a host"
        self.tell(Kind.SEARCH, f"failover_started: a connection lost {lost} and asks for a writer", at=event.at)

    def _failover_completed(self, _: str, event: signals.FailoverCompleted) -> None:
        text = f"failover_completed: {event.writer.id} found after {event.seconds:.3f} s, {event.waiting} wait for it"
        self.tell(Kind.SEARCH, text, event.writer.id, event.at)

    def _failover_failed(self, _: str, event: signals.FailoverFailed) -> None:
        self.tell(Kind.TROUBLE, f"failover_failed after {event.seconds:.1f} s: {event.reason}", at=event.at)

    def _connection_switched(self, _: str, event: ConnectionSwitched) -> None:
        began: float = event.ledger.symptom_at
        reached = {step: getattr(event.ledger, step) for step in STEPS}
        steps = {step: began + seconds for step, seconds in reached.items() if seconds is not None}
        self.switches.append(Switch(event.at, event.idle, began, steps))

    def _actor_crashed(self, _: str, event: signals.ActorCrashed) -> None:
        self.tell(Kind.TROUBLE, f"actor_crashed: {event.name}: {event.error}")

    def _plugin_failed(self, _: str, event: signals.PluginFailed) -> None:
        self.tell(Kind.TROUBLE, f"plugin_failed: {event.plugin}: {event.error}")


class _Log(logging.Handler):
    """Keeps what is logged out of the picture, for the report."""

    def __init__(self, lines: list[tuple[float, str]]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((monotonic(), f"{record.levelname} {record.name}: {record.getMessage()}"))


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
