"""The guarded sessions of the applications, as the monitor of their host sees them: looked at, never told."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from aurora_actors.drivers.base import Access, Wire
from aurora_actors.drivers.lines import Line
from aurora_actors.model.health import Call, Detection, idle_pause
from aurora_actors.model.hosts import Host
from aurora_actors.model.values import dataclass

__all__ = ["Kind", "Watched", "WatchedSessions"]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of monitor that a connection asked for: what makes one, whose it is, and its parameters."""

    name: str
    make: Callable[[Any], Any]
    distribution: str
    settings: Mapping[str, Any]


class Watched:
    """One session of an application with one host. Held by its connection, looked at by the host's monitor.

    It does not keep the connection alive. ``idle``: the pause between two looks while no call waits long, in seconds.
    ``ended``: that its server has ended it is known.
    """

    __slots__ = ("__weakref__", "_wire", "access", "detection", "ended", "host", "idle", "kinds", "line", "wants_writer")

    def __init__(
        self,
        host: Host,
        wire: Wire,
        line: Line | None,
        detection: Detection,
        kinds: tuple[Kind, ...],
        access: Access,
        *,
        wants_writer: bool,
    ) -> None:
        self.host = host
        self._wire = weakref.ref(wire)
        self.line = line
        self.detection = detection
        self.idle = idle_pause(detection)
        self.kinds = kinds
        self.access = access
        self.wants_writer = wants_writer
        self.ended = False

    def busy(self) -> float:
        """Since when a call on it waits; 0.0: none does."""
        wire = self._wire()
        return self.access.driver.busy_since(wire) if wire is not None else 0.0

    def call(self, *, deposed: bool = False) -> Call | None:
        """The call that waits now. *deposed*: its host was the writer, and another is."""
        since = self.busy()
        return Call(id(self), since, self.detection, deposed and self.wants_writer) if since else None


class WatchedSessions:
    """All of one cluster. Any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everybody: in a forked child nobody is watched until it connects anew."""
        self._lock = threading.Lock()
        self._by_host: dict[str, dict[int, weakref.ref[Watched]]] = {}
        self._ways: dict[str, set[Detection]] = {}

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts that somebody has a session with."""
        return tuple(there[0].host for host in list(self._by_host) if (there := self.at(host)))

    def add(self, watched: Watched) -> bool:
        """Whether the host's monitor has to look again: it was idle, or this session is to be judged in a new way."""
        key = id(watched)
        with self._lock:
            of_host = self._by_host.setdefault(watched.host.id, {})
            ways = self._ways.setdefault(watched.host.id, set())
            new = not of_host or watched.detection not in ways
            ways.add(watched.detection)
        # A dictionary that is only ever changed by single operations, and read by list(): no lock in a finalizer.
        of_host[key] = weakref.ref(watched, lambda _: of_host.pop(key, None))
        return new

    def remove(self, watched: Watched) -> None:
        self._by_host.get(watched.host.id, {}).pop(id(watched), None)

    def at(self, host: str) -> list[Watched]:
        """The sessions with *host* at this moment."""
        of_host = self._by_host.get(host)
        if not of_host:
            return []
        return [watched for reference in list(of_host.values()) if (watched := reference()) is not None]
