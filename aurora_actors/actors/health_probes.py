"""The probes of every kind of monitor at one host: started, timed, and their failures reported once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from aurora_actors.actors.complaints import HELD_UP_SECONDS, Origin, complain
from aurora_actors.actors.names import names
from aurora_actors.actors.polling import Poller, Task
from aurora_actors.actors.reply import Reply
from aurora_actors.actors.watched import Kind, Watched
from aurora_actors.drivers.base import Resolver
from aurora_actors.model.health import Sign
from aurora_actors.model.hosts import Host

__all__ = ["Context", "HealthProbes", "judged"]

P = ParamSpec("P")
R = TypeVar("R")


BLOCKING_AT_ONCE = 2
"""Threads that the blocking code of one monitor may hold: what never returns must not take one more at every interval."""
HOLD_UPS = 3
"""So many probes in a row that hold up their host's monitor turn theirs off. One may be this process's own doing: it was
stopped, or starved."""


class Context:
    """The ``MonitorContext`` of one kind of monitor at one host."""

    def __init__(
        self,
        word: Callable[[], Reply[Sign]],
        host: Host,
        settings: Mapping[str, Any],
        resolve: Resolver | None,
        poller: Poller,
    ) -> None:
        self._word = word
        self._resolve = resolve
        self._poller = poller
        self._running: list[Reply[Any]] = []
        self.host = host
        self.settings = settings

    def now(self) -> float:
        return self._poller.now()

    async def sleep(self, seconds: float) -> None:
        await self._poller.sleep(seconds)

    async def readable(self, fd: int) -> None:
        await self._poller.readable(fd)

    async def writable(self, fd: int) -> None:
        await self._poller.writable(fd)

    async def blocking(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        while len(running := [each for each in self._running if not each.done()]) >= BLOCKING_AT_ONCE:
            await self._poller.wait(_end_of(running[0]), float("inf"))
        reply = self._poller.begin_blocking(fn, *args, **kwargs)
        self._running = [*running, reply]
        return await self._poller.wait(reply, float("inf"))

    async def addresses(self) -> tuple[tuple[str, int], ...]:
        place = await names.found(self._resolve, self.host.endpoint, self.host.port, self._poller)
        return place.addresses

    async def ask(self) -> Sign:
        return await self._poller.wait(self._word(), float("inf"))


def _end_of(other: Reply[Any]) -> Reply[None]:
    end: Reply[None] = Reply()
    other.then(partial(end.set_result, None))
    return end


class HealthProbes:
    """Belongs to the thread of its host's monitor. *off* are the kinds that are not used for this host any more."""

    def __init__(self, cluster: str, host: Host, poller: Poller, ping: Callable[[], None], off: set[str]) -> None:
        self._cluster = cluster
        self._host = host
        self._poller = poller
        self._ping = ping
        self._monitors: dict[str, tuple[Kind, Any]] = {}
        self._under_way: dict[Task[Any], str] = {}
        self._hold_ups: dict[str, int] = {}
        self._off = off
        self._words: list[Reply[Sign]] = []

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
            self._failed(monitor[0], "probing", error)
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
        held_up = self._hold_ups[name] = self._hold_ups.get(name, 0) + 1 if task.stuck > HELD_UP_SECONDS else 0
        if held_up:
            # It held up every other probe of the host; its own word is worth nothing.
            if held_up == HOLD_UPS:
                self._turn_off(kind, f"it held up its host's monitor for {task.stuck:.1f} s and is off from now on")
            return Sign.NOTHING
        try:
            return judged(task)
        except Exception as error:  # noqa: BLE001 - a monitor may raise anything
            self._failed(kind, "probing", error)
            return Sign.NOTHING

    def next_word(self) -> Reply[Sign]:
        """What the host's next answer, to whatever question, will say."""
        word: Reply[Sign] = Reply()
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
                self._failed(kind, "closing", error)

    def _monitor(self, name: str, sessions: list[Watched]) -> tuple[Kind, Any] | None:
        known = self._monitors.get(name)
        if known is not None:
            return known
        found = next(((kind, s.access.resolve) for s in sessions for kind in s.kinds if kind.name == name), None)
        if found is None:
            return None
        kind, resolve = found
        began = monotonic()
        try:
            context = Context(self.next_word, self._host, kind.settings, resolve, self._poller)
            made = self._poller.call(name, kind.make, context)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a monitor may raise anything
            self._turn_off(kind, error)
            return None
        if name in self._off:
            # It came back after it had been given up.
            return None
        if monotonic() - began > HELD_UP_SECONDS:
            self._failed(kind, "being made", f"it held up its host's monitor for {monotonic() - began:.1f} s")
        self._monitors[name] = (kind, made)
        return self._monitors[name]

    def _turn_off(self, kind: Kind, error: BaseException | str) -> None:
        self._off.add(kind.name)
        self._failed(kind, "being made" if kind.name not in self._monitors else "probing", error)

    def _failed(self, kind: Kind, doing: str, error: BaseException | str) -> None:
        origin = Origin("monitor", kind.name, kind.distribution)
        complain(origin, self._cluster, doing, error, f" (at {self._host})")


def judged(task: Task[Any]) -> Sign:
    """What a probe that has ended says of its host. Raises what says nothing of the host but that the monitor is broken."""
    if isinstance(task.error, TimeoutError | ConnectionError):
        return Sign.SILENT
    if isinstance(task.error, OSError):
        return Sign.NOTHING
    if task.error is not None:
        raise task.error
    if not isinstance(task.result, Sign):
        raise TypeError(f"probe() gave {type(task.result).__name__}, which is no Sign")
    return task.result
