"""What a deadline does to a call of psycopg's, in the caller's thread or task, which wakes ten times a second anyway."""

from __future__ import annotations

import select
from collections.abc import Callable, Generator
from inspect import isawaitable
from time import monotonic
from typing import Any

import psycopg
from psycopg import waiting

from aurora_actors.deadlines import END_SECONDS, NEVER, nearest
from aurora_actors.proxies.proxy import Proxy

__all__ = ["Overdue", "Steps", "cancelled", "connecting", "pace", "watching"]

PAUSE_SECONDS = 0.1
"""How long psycopg itself sleeps at most before it looks whether it was interrupted."""
SHORTEST_PAUSE_SECONDS = 0.001

_EVENTS = {waiting.WAIT_R: 1, waiting.WAIT_W: 4, waiting.WAIT_RW: 5}  # select.POLLIN, select.POLLOUT


class Overdue(Exception):
    """The deadline came. Not an ``OSError``, which psycopg for asyncio takes for a closed socket."""


class Steps:
    """A generator of psycopg's, taken as far as its deadline and, if need be, on from there."""

    def __init__(self, gen: Generator[Any, Any, Any]) -> None:
        self._gen = gen
        self._state: Any = None

    def until(self, until: float, late: type[Exception] = Overdue) -> Generator[Any, Any, Any]:
        """To be driven in its place. Raises *late* between two steps; what has arrived is read first."""
        try:
            if self._state is None:
                self._state = next(self._gen)
            while True:
                ready = yield self._state
                self._state = self._gen.send(ready)
                if monotonic() >= until:
                    raise late("the deadline came")
        except StopIteration as stop:
            return stop.value


def watching(gen: Generator[Any, Any, Any], began: float, proxy: Proxy | None) -> Generator[Any, Any, Any]:
    """*gen*, of a call that began then: on demand its host begins to be watched once the call has lasted."""
    if proxy is None or proxy.look_after == NEVER:
        return gen
    return _looking(gen, began + proxy.look_after, proxy.look)


def _looking(gen: Generator[Any, Any, Any], at: float, look: Callable[[], object]) -> Generator[Any, Any, Any]:
    """*gen*, and *look* called once, at *at*, if it still waits then."""
    try:
        state = next(gen)
        while True:
            ready = yield state
            if monotonic() >= at:
                at = NEVER
                look()
            state = gen.send(ready)
    except StopIteration as stop:
        return stop.value


def pace(args: tuple[Any, ...], kwargs: dict[str, Any], until: float) -> dict[str, Any]:
    """*kwargs* of a wait with pauses of which the last one ends at *until*."""
    left = max(SHORTEST_PAUSE_SECONDS, until - monotonic())
    own = {} if args else {"interval": left / -(-left // PAUSE_SECONDS)}
    return {**own, **kwargs}


def connecting(made: Any, *, blocks: bool) -> Callable[..., Any]:
    """The ``_connect_gen`` of *made*, ended at the deadline: the driver's own limit is of two whole seconds at least.

    *blocks*: it is driven in a thread, where psycopg makes a selector for each login, and system calls for each step of it.
    """

    def _connect_gen(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        gen, until = super(made, cls)._connect_gen(*args, **kwargs), nearest()
        gen = _swift(gen) if blocks and hasattr(select, "poll") else gen
        return gen if until == NEVER else Steps(gen).until(until, psycopg.errors.ConnectionTimeout)

    return _connect_gen


def _swift(gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """*gen* without a selector for as long as psycopg does not look at its deadline either: nearly all logins end in it."""
    try:
        fd, wanted = next(gen)
        until = monotonic() + min(PAUSE_SECONDS, max(0.0, nearest() - monotonic()))
        while (left := until - monotonic()) > 0:
            poll = select.poll()
            poll.register(fd, _EVENTS[wanted])
            fd, wanted = gen.send(_ready(poll.poll(left * 1000.0)))
        while True:
            fd, wanted = gen.send((yield fd, wanted))
    except StopIteration as stop:
        return stop.value


def _ready(events: list[tuple[int, int]]) -> int:
    # Errors wake both, as psycopg's selectors have it.
    happened = events[0][1] if events else 0
    readable = waiting.READY_R if happened & ~select.POLLOUT else waiting.READY_NONE
    return readable | (waiting.READY_W if happened & ~select.POLLIN else waiting.READY_NONE)


async def cancelled(conn: Any) -> bool:
    """Ask the server to cancel what runs on *conn*, for no longer than ``END_SECONDS``; False: it cannot be asked."""
    if not psycopg.capabilities.has_cancel_safe():
        return False  # an older libpq blocks for as long as it likes
    try:
        cancelling = conn.cancel_safe(timeout=END_SECONDS)
        if isawaitable(cancelling):
            await cancelling
    except psycopg.Error:
        return False
    return True
