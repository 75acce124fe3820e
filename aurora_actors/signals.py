"""What the library learned, for whoever may care: one blinker signal per kind of fact.

    @aurora_actors.signals.writer_changed.connect
    def moved(cluster, *, event):
        log.warning("%s now writes for %s", event.new.writer, cluster)

The sender is the id of the cluster (a string), so ``sender="orders"`` filters by value; ``event`` is one frozen
value. Receivers run in one thread of their own, in the order in which the facts happened, never in an actor and
never in the thread that sent. A receiver that raises is logged and stays connected. A coroutine function is
awaited in the event loop that was running when it was connected. As always with blinker, receivers are held
weakly unless ``weak=False`` is given.

Every ``at`` is in seconds on the clock of :func:`time.monotonic`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from blinker import ANY, NamedSignal, Namespace
from blinker._utilities import make_id
from blinker.base import ANY_ID

from aurora_actors.model.values import dataclass

from .actors.dispatch import Dispatcher, TaskLine, dispatcher, loop_of
from .actors.forking import on_fork

if TYPE_CHECKING:
    import weakref
    from collections.abc import Hashable

    from .model.hosts import Host
    from .model.outcome import Attempt
    from .model.topology import ClusterTopology

__all__ = [
    "ActorCrashed",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionSwitched",
    "EventSignal",
    "FailoverCompleted",
    "FailoverFailed",
    "FailoverStarted",
    "HealthEvent",
    "HostAdded",
    "HostDown",
    "HostRemoved",
    "HostUp",
    "MemberEvent",
    "PluginFailed",
    "SignalNamespace",
    "TopologyChanged",
    "TopologyEvent",
    "WriterChanged",
    "actor_crashed",
    "connection_closed",
    "connection_opened",
    "connection_switched",
    "emit",
    "failover_completed",
    "failover_failed",
    "failover_started",
    "host_added",
    "host_down",
    "host_removed",
    "host_up",
    "namespace",
    "plugin_failed",
    "settle",
    "topology_changed",
    "writer_changed",
]

E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])
Results: TypeAlias = list[tuple[Callable[..., Any], Any]]


class EventSignal(NamedSignal, Generic[E]):
    """A blinker signal that any thread may use, and whose ``send`` only queues.

    blinker's own signals break when threads connect, disconnect and send at once. Names of blinker that are
    overridden though private: ``_disconnect`` and ``_make_cleanup_sender``, the targets of its weak references.
    """

    def __init__(self, name: str, doc: str | None = None, *, dispatcher: Dispatcher = dispatcher) -> None:
        super().__init__(name, doc)
        self._dispatcher = dispatcher
        # RLock: a garbage collection under the lock may find a dead receiver and come back to _disconnect().
        self._lock = threading.RLock()
        self._lines: dict[Hashable, TaskLine] = {}
        self._first: set[Hashable] = set()

    def connect(self, receiver: F, sender: Any = ANY, weak: bool = True, *, first: bool = False) -> F:
        """Call ``receiver(sender, event=...)`` for each event of ``sender`` (default: of every sender).

        ``first`` puts it before all receivers connected without it; that is for receivers that only take note.
        A coroutine function belongs to the running event loop and leaves when that loop is closed; without a
        running loop this raises RuntimeError.
        """
        loop = loop_of(receiver, self.name)
        if not self.receivers:  # else it is known since the first of them
            on_fork(self._after_fork_in_child)
        receiver_id = make_id(receiver)
        with self._lock:
            line = self._lines.get(receiver_id)
            if loop is None:
                self._lines.pop(receiver_id, None)
            elif line is None or not line.belongs_to(loop):
                self._lines[receiver_id] = TaskLine(loop)
            if first:
                self._first.add(receiver_id)
            return super().connect(receiver, sender, weak)

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:  # type: ignore[override]
        """The live receivers of this moment, those connected with ``first`` before the others."""
        with self._lock:
            receivers = list(super().receivers_for(sender))
            if self._first:
                receivers.sort(key=lambda receiver: make_id(receiver) not in self._first)
        return iter(receivers)

    def has_receivers_for(self, sender: Any) -> bool:
        """Whether an event of ``sender`` would reach anybody; weak receivers may be dead already."""
        with self._lock:
            return super().has_receivers_for(sender)

    def line_for(self, receiver: Callable[..., Any]) -> TaskLine | None:
        """Where the events of a coroutine function wait; None for any other receiver."""
        return self._lines.get(make_id(receiver)) if self._lines else None

    def send(self, sender: Any = None, /, *, _async_wrapper: Any = None, **kwargs: Any) -> Results:
        """Queue an event for the receivers connected when its turn comes, and return at once, with an empty list.

        Never raises what a receiver raises. ``_async_wrapper`` is blinker's and has no use here.
        """
        if self.receivers and not self.is_muted:
            self._dispatcher.put(self, sender, kwargs)
        return []

    async def send_async(self, sender: Any = None, /, *, _sync_wrapper: Any = None, **kwargs: Any) -> Results:
        """The same as :meth:`send`: nothing is awaited."""
        return self.send(sender, **kwargs)

    def _disconnect(self, receiver_id: Hashable, sender_id: Hashable) -> None:
        with self._lock:
            super()._disconnect(receiver_id, sender_id)
            if sender_id == ANY_ID:
                self._lines.pop(receiver_id, None)
                self._first.discard(receiver_id)

    def _make_cleanup_sender(self, sender_id: Hashable) -> Callable[[weakref.ref[Any]], None]:
        def cleanup(_: weakref.ref[Any]) -> None:
            # blinker takes the bucket away, which changes the dictionary under a loop of _disconnect(); the
            # receivers leave it instead, and a later sender with the same id starts with an empty one.
            with self._lock:
                self._weak_senders.pop(sender_id, None)
                bucket = self._by_sender.get(sender_id, set[Any]())
                for receiver_id in tuple(bucket):
                    bucket.discard(receiver_id)
                    self._by_receiver[receiver_id].discard(sender_id)

        return cleanup

    def _after_fork_in_child(self) -> None:
        """Make a new lock, and let go of coroutine functions: their loop runs in the parent."""
        self._lock = threading.RLock()
        for receiver_id in tuple(self._lines):
            self._disconnect(receiver_id, ANY_ID)


class SignalNamespace(Namespace):
    """Signals by name; :meth:`signal` makes those of third parties.

    slow_query = aurora_actors.signals.namespace.signal("slow_query", "A statement ran past the limit.")
    """

    def signal(self, name: str, doc: str | None = None) -> EventSignal[Any]:
        """The signal called ``name``, made on the first call; any thread."""
        known = self.get(name)
        if known is None:
            known = self.setdefault(name, EventSignal[Any](name, doc))
        if not isinstance(known, EventSignal):
            raise TypeError(f"{name!r} was put into this namespace by hand and is no EventSignal")
        return known


def emit(signal: EventSignal[E], cluster: str, event: E) -> None:
    """Send ``event`` of ``cluster`` if anybody listens; any thread, never waits, never raises.

    Where building the event costs something, look at ``signal.receivers`` first.
    """
    if signal.receivers and not signal.is_muted:
        signal._dispatcher.put(signal, cluster, {"event": event})


def settle(timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until what was sent before is delivered; False if it was not. For tests."""
    return dispatcher.settle(timeout)


# Where events have the same fields, one dataclass serves: making one takes 0.3 ms of everybody's import.


@dataclass(frozen=True, slots=True)
class TopologyEvent:
    """A cluster's topology before and after."""

    cluster: str
    old: ClusterTopology
    new: ClusterTopology
    at: float

    @property
    def old_writer(self) -> Host | None:
        """The host that wrote before; None if none was known."""
        return self.old.writer

    @property
    def new_writer(self) -> Host | None:
        """The host that writes now; None if none is known."""
        return self.new.writer


class TopologyChanged(TopologyEvent):
    """The members of a cluster or their roles are others than before."""

    __slots__ = ()


class WriterChanged(TopologyEvent):
    """Another host writes now, by its own word."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """A host of a cluster."""

    cluster: str
    host: Host
    at: float


class HostAdded(MemberEvent):
    """A host joined the cluster."""

    __slots__ = ()


class HostRemoved(MemberEvent):
    """A host left the cluster."""

    __slots__ = ()


class ConnectionClosed(MemberEvent):
    """The application closed its connection to ``host``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """What a host's monitor found, and why."""

    cluster: str
    host: Host
    reason: str
    at: float


class HostDown(HealthEvent):
    """A host is silent or its sockets break."""

    __slots__ = ()


class HostUp(HealthEvent):
    """A host that was down answered."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class FailoverStarted:
    """The first connection asks for a writer; ``lost`` is the host it lost, ``generation`` what it had seen."""

    cluster: str
    lost: Host | None
    generation: int
    at: float


@dataclass(frozen=True, slots=True)
class FailoverCompleted:
    """``waiting`` connections were told the writer, ``seconds`` after the search began."""

    cluster: str
    writer: Host
    seconds: float
    waiting: int
    at: float


@dataclass(frozen=True, slots=True)
class FailoverFailed:
    """No host was found in ``seconds``; ``attempts`` are the last failed probe of each."""

    cluster: str
    seconds: float
    reason: str
    attempts: tuple[Attempt, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """An application's connection is open; ``pid`` is the server's name for the session, where it has one."""

    cluster: str
    host: Host
    pid: int | None
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionSwitched:
    """A connection goes on at another host; ``idle`` if no statement was lost; ``ledger`` has the times of it."""

    cluster: str
    old_host: Host | None
    new_host: Host
    outcome: str
    idle: bool
    ledger: Any
    at: float


@dataclass(frozen=True, slots=True)
class ActorCrashed:
    """An actor failed in ``error`` (type and message), for the ``crashes``-th time in the last minute.

    It started afresh in place, or stopped for good if ``final``.
    """

    name: str
    error: str
    final: bool
    crashes: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class PluginFailed:
    """A plugin, of the named distribution, could not be loaded or raised where that must not matter."""

    plugin: str
    distribution: str | None
    error: str
    at: float


namespace: Final = SignalNamespace()
"""All signals of the library by name, and those that plugins add."""


def _signal(name: str, event: type[E], doc: str) -> EventSignal[E]:
    return namespace.signal(name, f"{doc} Event: :class:`{event.__name__}`.")


topology_changed: Final = _signal(
    "topology_changed", TopologyChanged, "The accepted topology of a cluster changed; a new generation."
)
writer_changed: Final = _signal(
    "writer_changed", WriterChanged, "Another host writes; sent after topology_changed of the same news."
)
host_added: Final = _signal("host_added", HostAdded, "A host joined the cluster.")
host_removed: Final = _signal("host_removed", HostRemoved, "A host left the cluster.")
host_down: Final = _signal("host_down", HostDown, "A host is silent or its sockets break.")
host_up: Final = _signal("host_up", HostUp, "A host that was down answered.")
failover_started: Final = _signal(
    "failover_started", FailoverStarted, "A search for the writer began; one per cluster, however many wait."
)
failover_completed: Final = _signal("failover_completed", FailoverCompleted, "The search found the writer.")
failover_failed: Final = _signal("failover_failed", FailoverFailed, "The search ended without a writer.")
connection_opened: Final = _signal("connection_opened", ConnectionOpened, "A connection was opened.")
connection_switched: Final = _signal("connection_switched", ConnectionSwitched, "A connection goes on at another host.")
connection_closed: Final = _signal("connection_closed", ConnectionClosed, "A connection was closed.")
actor_crashed: Final = _signal("actor_crashed", ActorCrashed, "An actor failed; the application is not harmed.")
plugin_failed: Final = _signal("plugin_failed", PluginFailed, "A plugin could not be loaded, or failed.")
