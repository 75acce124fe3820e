"""The probes of every kind of monitor at one host: started, timed, and their failures reported once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from aurora_actors import signals
from aurora_actors.actors.names import names
from aurora_actors.actors.polling import STUCK_SECONDS, Poller, Task
from aurora_actors.actors.watched import Kind, Watched
from aurora_actors.drivers.base import Resolver
from aurora_actors.model.health import Sign
from aurora_actors.model.hosts import Host

__all__ = ["HealthProbes"]

log = logging.getLogger("aurora_actors.monitors")

STRIKES = 3
"""How often a kind of probe may hold up the others of its host before it is off: a process that was stopped for a while
shows the same."""

P = ParamSpec("P")
R = TypeVar("R")


class Context:
    """The ``MonitorContext`` of one kind of monitor at one host."""

    def __init__(self, probes: HealthProbes, host: Host, kind: Kind, resolve: Resolver | None, poller: Poller) -> None:
        self._probes = probes
        self._resolve = resolve
        self._poller = poller
        self.host = host
        self.settings = kind.settings

    def now(self) -> float:
        return self._poller.now()

    async def sleep(self, seconds: float) -> None:
        await self._poller.sleep(seconds)

    async def readable(self, fd: int) -> None:
        await self._poller.readable(fd)

    async def writable(self, fd: int) -> None:
        await self._poller.writable(fd)

    async def blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._poller.blocking(fn, *args, **kwargs)

    async def addresses(self) -> tuple[tuple[str, int], ...]:
        place = await names.found(self._resolve, self.host.endpoint, self.host.port, self._poller)
        return place.addresses

    async def ask(self) -> Sign:
        return await self._poller.wait(self._probes.next_word(), float("inf"))


class HealthProbes:
    """Belongs to the thread of its host's monitor."""

    def __init__(self, cluster: str, host: Host, poller: Poller, ping: Callable[[], None]) -> None:
        self._cluster = cluster
        self._host = host
        self._poller = poller
        self._ping = ping
        self._monitors: dict[str, tuple[Kind, Any]] = {}
        self._under_way: dict[Task[Any], str] = {}
        self._reported: set[str] = set()
        self._off: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._words: list[Future[Sign]] = []

    def start(self, name: str, sessions: list[Watched], interval: float) -> bool:
        """Send one probe of that kind; False if it cannot be sent. One that is still out counts as sent."""
        if name in self._off:
            return False
        if name in self._under_way.values():
            return True
        monitor = self._monitor(name, sessions)
        if monitor is None:
            return False
        try:
            flow = monitor[1].probe()
        except Exception as error:  # noqa: BLE001 - a monitor may raise anything
            self._failed(monitor[0], error)
            return False
        task = self._poller.start(name, flow, self._poller.now() + interval)
        self._under_way[task] = name
        return True

    def ended(self, task: Task[Any]) -> tuple[str, Sign]:
        """The kind of probe that *task* was, and what it brought."""
        name = self._under_way.pop(task)
        return name, self._sign_of(name, task)

    def _sign_of(self, name: str, task: Task[Any]) -> Sign:
        kind = self._monitors[name][0]
        if task.stuck > STUCK_SECONDS:
            # It held up every other probe of the host; its own word is worth nothing. Once may be this process's fault.
            self._strikes[name] = self._strikes.get(name, 0) + 1
            if self._strikes[name] == STRIKES:
                self._off.add(name)
                error = RuntimeError(f"it held up its host's monitor for {task.stuck:.1f} s and is off from now on")
                self._failed(kind, error)
            return Sign.NOTHING
        if isinstance(task.error, TimeoutError | ConnectionError):
            return Sign.SILENT
        if task.error is None and isinstance(task.result, Sign):
            return task.result
        if not isinstance(task.error, OSError):
            self._failed(kind, task.error or TypeError(f"probe() gave {task.result!r}, which is no Sign"))
        return Sign.NOTHING

    def next_word(self) -> Future[Sign]:
        """What the host's next answer, to whatever question, will say."""
        word: Future[Sign] = Future()
        self._words.append(word)
        self._ping()
        return word

    def heard(self, sign: Sign) -> None:
        """The host was asked something, and this came of it."""
        words, self._words = self._words, []
        for word in words:
            word.set_result(sign)

    def close(self) -> None:
        for kind, monitor in self._monitors.values():
            try:
                monitor.close()
            except Exception as error:  # noqa: BLE001 - a monitor may raise anything
                self._failed(kind, error)

    def _monitor(self, name: str, sessions: list[Watched]) -> tuple[Kind, Any] | None:
        known = self._monitors.get(name)
        if known is not None:
            return known
        found = next(((kind, s.access.resolve) for s in sessions for kind in s.kinds if kind.name == name), None)
        if found is None:
            return None
        kind, resolve = found
        try:
            made = kind.make(Context(self, self._host, kind, resolve, self._poller))
        except Exception as error:  # noqa: BLE001 - a monitor may raise anything
            self._failed(kind, error)
            self._off.add(name)
            return None
        self._monitors[name] = (kind, made)
        return self._monitors[name]

    def _failed(self, kind: Kind, error: Exception) -> None:
        """Say it once for each kind: a monitor that fails fails at every interval."""
        if kind.name in self._reported:
            return
        self._reported.add(kind.name)
        text = f"monitor {kind.name} at {self._host}: {type(error).__name__}: {error}"
        log.warning("%s, of %s", text, kind.distribution)
        event = signals.PluginFailed(kind.name, kind.distribution, text, self._poller.now())
        signals.emit(signals.plugin_failed, self._cluster, event)
