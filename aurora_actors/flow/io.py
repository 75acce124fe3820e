"""The operations that a flow may await, and the face that performs them blocking, for threads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Any, ParamSpec, Protocol, TypeVar

from aurora_actors.actors.asking import DeadlineExceeded, ask
from aurora_actors.actors.base import Ref, Request
from aurora_actors.actors.names import names
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, Driver, Place, Wire
from aurora_actors.model.hosts import Host

__all__ = ["LOGINS_AT_ONCE", "BlockingIo", "DeadlineExceeded", "Io"]

P = ParamSpec("P")
R = TypeVar("R")

LOGINS_AT_ONCE = 8
"""Logins under way at the same time in one process: a SCRAM login costs both sides milliseconds of CPU, so that two
hundred at once would only delay each other."""

_logins = threading.BoundedSemaphore(LOGINS_AT_ONCE)


def reset_after_fork() -> None:
    """New lock in a forked child: the old one may be held by a thread that is gone."""
    global _logins
    _logins = threading.BoundedSemaphore(LOGINS_AT_ONCE)


class Io(Protocol):
    """What a flow may await. Times are on the clock of ``now()``; ``until`` is a deadline on it."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def jitter(self, seconds: float) -> float:
        """*seconds*, give or take a quarter, so that processes do not march in step."""
        ...

    async def ask(self, ref: Ref, request: Request[R], until: float) -> R:
        """The answer of an actor. Raises ``DeadlineExceeded``, or ``ActorStopped``."""
        ...

    async def wait(self, future: Future[R], until: float) -> R: ...

    async def sleep(self, seconds: float) -> None: ...

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking library code. In threads: here; in asyncio: on a daemon worker."""
        ...

    async def place(self, access: Access, host: Host | None, until: float | None) -> Place | None:
        """Where *host* is just now; None: the driver looks for itself. Raises ``OSError``."""
        ...

    async def canonical(self, access: Access, host: str) -> str:
        """The name that *host* is an alias (CNAME) of; *host* itself if it is none."""
        ...

    async def connect(self, access: Access, place: Place | None, until: float | None, *, guarded: bool) -> Wire:
        """Open a connection, a bounded number at a time. Raises the driver's error."""
        ...

    async def query(self, wire: Wire, sql: str, until: float) -> Rows:
        """The rows of one internal statement, as text. Raises the driver's error."""
        ...

    async def restore(self, old: Wire, new: Wire, until: float) -> None:
        """Give *new* the session of *old*."""
        ...

    async def close(self, wire: Wire) -> None: ...

    def discard(self, wire: Wire) -> None:
        """Drop a connection without waiting."""
        ...


class BlockingIo:
    """The face for threads: each operation blocks the caller's thread, none longer than its deadline."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def now(self) -> float:
        return monotonic()

    def jitter(self, seconds: float) -> float:
        return seconds * random.uniform(0.75, 1.25)

    async def ask(self, ref: Ref, request: Request[R], until: float) -> R:
        return ask(ref, request, until)

    async def wait(self, future: Future[R], until: float) -> R:
        try:
            return future.result(max(0.0, until - monotonic()))
        except TimeoutError:
            if future.done():
                return future.result()
            raise DeadlineExceeded("no answer before the deadline") from None

    async def sleep(self, seconds: float) -> None:
        sleep(seconds)

    async def blocking(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    async def place(self, access: Access, host: Host | None, until: float | None) -> Place | None:
        if host is not None:
            return names.look_up(access.resolve, host.endpoint, host.port)
        if names.effective(access.resolve) is None:
            return None
        return _together([names.look_up(access.resolve, *seed) for seed in self._driver.seeds(access.parameters)])

    async def canonical(self, access: Access, host: str) -> str:
        return names.canonical(access.resolve, host)

    async def connect(self, access: Access, place: Place | None, until: float | None, *, guarded: bool) -> Wire:
        logins = _logins
        if not logins.acquire(timeout=None if until is None else max(0.0, until - monotonic())):
            raise DeadlineExceeded("no turn to log in came before the deadline")
        try:
            timeout = None if until is None else max(0.0, until - monotonic())
            return self._driver.open(access, place, timeout, guarded=guarded)
        finally:
            logins.release()

    async def query(self, wire: Wire, sql: str, until: float) -> Rows:
        return self._driver.query(wire, sql, max(0.0, until - monotonic()))

    async def restore(self, old: Wire, new: Wire, until: float) -> None:
        self._driver.restore(old, new, max(0.0, until - monotonic()))

    async def close(self, wire: Wire) -> None:
        self._driver.close(wire)

    def discard(self, wire: Any) -> None:
        self._driver.discard(wire)


def _together(places: Sequence[Place]) -> Place:
    """Several given hosts as one place, for drivers that try one after the other."""
    pairs = [(place.host, address) for place in places for address in place.addresses]
    return Place(",".join(host for host, _ in pairs), tuple(address for _, address in pairs))
