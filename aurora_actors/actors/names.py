"""Name look-ups: off the threads that cannot wait for them, each name once at a time, the last good answer kept."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol, TypeVar

from aurora_actors.drivers.base import Place, Resolver
from aurora_actors.model.endpoints import EndpointKind, parse_endpoint

from .forking import on_fork
from .reply import Reply

__all__ = ["FRESH_SECONDS", "Names", "Waiting", "names", "set_resolver", "system_resolver"]

PATIENCE_SECONDS = 1.0
"""How long a look-up may take before the last good answer is used instead: DNS that fails slowly is common while a
host is down, and its address rarely changes."""
WORKERS = 3
"""Look-ups under way at the same time; more would only queue in the system's resolver."""
STUCK_SECONDS = 0.25
"""One look-up at a time is enough while each takes less: another worker starts only behind one that takes longer."""
FRESH_SECONDS = 0.1
"""Whoever goes to a host that somebody has just looked up goes where that one went: far less than any DNS answer may be
kept for, and enough that a crowd which moves to a new writer does not look its name up one by one."""
IDLE_SECONDS = 5.0
"""A worker with nothing to do ends after this long."""

log = logging.getLogger("aurora_actors.names")

R = TypeVar("R")

Addresses = tuple[tuple[str, int], ...]


def system_resolver(host: str, port: int) -> Sequence[tuple[str, int]]:
    """What the operating system says. Blocks; raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(info[4][0], int(info[4][1])) for info in found if isinstance(info[4][0], str)]


def _system_canonical(host: str) -> str:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    return found[0][3] or host


def _canonical_or_same(ask: Callable[[str], str], host: str) -> str:
    try:
        return ask(host)
    except Exception as error:  # noqa: BLE001 - a resolver is the user's code
        # The connect that follows looks the name up as well, and its error is the one to see.
        log.debug("no canonical name of %s: %s", host, error)
        return host


class Waiting(Protocol):
    """The part of an io that waits for what a thread brings."""

    async def wait(self, reply: Reply[R], until: float) -> R:
        """The result of *reply*. Raises ``TimeoutError`` at *until*, on the clock of ``time.monotonic()``."""
        ...


class Names:
    """All names that this process looked up, with the addresses they last stood for."""

    def __init__(self) -> None:
        self.resolver: Resolver | None = None
        self.reset()

    def reset(self) -> None:
        """Start afresh, as in a forked child, where the workers are gone."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[Resolver, str, int], Reply[Addresses]] = {}
        self._good: dict[tuple[Resolver, str, int], tuple[float, Addresses]] = {}
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._workers: set[threading.Thread] = set()
        self._idle = 0
        self._began = 0.0

    def effective(self, own: Resolver | None) -> Resolver | None:
        """The resolver in force for a connection; None: the driver resolves names by itself."""
        return own or self.resolver

    async def found(
        self,
        own: Resolver | None,
        host: str,
        port: int,
        waiting: Waiting,
        seconds: float = PATIENCE_SECONDS,
        longest: float | None = None,
        fresh: float = 0.0,
    ) -> Place:
        """Where *host* is, for whoever waits through *waiting*; the last good answer when there is none within *seconds*.

        A socket directory is where it says, and nothing is asked. Raises ``OSError``.
        *longest*: how many seconds to wait where there is no good answer of before, if not *seconds*.
        *fresh*: how many seconds old an answer may be to be taken without asking.
        """
        if not host or parse_endpoint(host).kind is EndpointKind.SOCKET:
            return Place(host, ((host, port),))
        resolver = self.effective(own) or system_resolver
        key = (resolver, host, port)
        known = self._good.get(key)
        if known is not None and monotonic() - known[0] < fresh:
            return Place(host, known[1])
        if longest is not None and known is None:
            seconds = longest
        try:
            addresses = await waiting.wait(self._asked(key), monotonic() + seconds)
        except (OSError, TimeoutError) as error:
            known = self._good.get(key)
            if known is None:
                if isinstance(error, TimeoutError):
                    raise OSError(f"no answer to the look-up of {host!r} within {seconds:.1f} s") from None
                raise
            addresses = known[1]
        return Place(host, addresses)

    async def canonical(self, own: Resolver | None, host: str, waiting: Waiting) -> str:
        """The name that *host* is an alias of; *host* when it is none, or cannot be found out in time.

        A resolver may answer through a method ``canonical(host)``; without one its names are taken as they are.
        """
        resolver = self.effective(own)
        ask = _system_canonical if resolver is None else getattr(resolver, "canonical", None)
        if ask is None:
            return host
        reply: Reply[str] = Reply()
        with self._lock:
            self._put(lambda: reply.set_result(_canonical_or_same(ask, host)))
        try:
            return await waiting.wait(reply, monotonic() + PATIENCE_SECONDS)
        except TimeoutError:
            return host

    def _put(self, task: Callable[[], object]) -> None:
        """Have a worker do it. Called under the lock."""
        self._work.put(task)
        now = monotonic()
        busy = self._work.qsize() > self._idle
        if not self._workers or (busy and len(self._workers) < WORKERS and now - self._began > STUCK_SECONDS):
            worker = threading.Thread(target=self._serve, name="aurora_actors-names", daemon=True)
            self._began = now
            self._workers.add(worker)
            try:
                worker.start()
            except BaseException:  # a signal handler's: it may run or not, and is not counted on
                self._workers.discard(worker)
                raise

    def _asked(self, key: tuple[Resolver, str, int]) -> Reply[Addresses]:
        with self._lock:
            pending = self._pending.get(key)
            if pending is None:
                reply: Reply[Addresses] = Reply()
                self._put(lambda: self._resolve(key, reply))
                # Only once somebody will answer: a signal handler may raise before. No worker takes it out meanwhile.
                pending = self._pending[key] = reply
            return pending

    def _resolve(self, key: tuple[Resolver, str, int], reply: Reply[Addresses]) -> None:
        resolver, host, port = key
        addresses: Addresses = ()
        began = monotonic()
        try:
            addresses = tuple((str(address), int(number)) for address, number in resolver(host, port))
            if not addresses:
                raise OSError(f"{host!r} stands for no address")
            self._good[key] = began, addresses
        except BaseException as error:  # noqa: BLE001 - it is the answer
            outcome: BaseException | None = error
        else:
            outcome = None
        with self._lock:
            self._pending.pop(key, None)
        if outcome is None:
            reply.set_result(addresses)
        else:
            reply.set_exception(outcome if isinstance(outcome, OSError) else OSError(f"the resolver failed: {outcome!r}"))

    @property
    def running(self) -> bool:
        return bool(self._workers)

    def rest(self, seconds: float = 0.0) -> None:
        """Let idle workers end now, waiting no longer than *seconds*; one that is in a look-up ends after it."""
        with self._lock:
            workers, self._workers = self._workers, set()
            work, self._work = self._work, SimpleQueue()
            for _ in workers:
                work.put(None)
        until = monotonic() + seconds
        for worker in workers:
            worker.join(max(0.0, until - monotonic()))

    def _serve(self) -> None:
        work = self._work
        while True:
            with self._lock:
                self._idle += 1
            try:
                task = work.get(timeout=IDLE_SECONDS)
            except Empty:
                task = None
            with self._lock:
                self._idle -= 1
                if task is None and work.empty():
                    self._workers.discard(threading.current_thread())
                    return
                self._began = monotonic()
            if task is not None:
                task()


names = Names()
on_fork(names.reset)


def set_resolver(resolver: Resolver | None) -> Resolver | None:
    """Look names up through *resolver* in the whole process; None: by the operating system. Gives the one before.

    ``resolver(host, port)`` gives the addresses and ports that a name stands for; it may block and raises ``OSError``
    for a name that it does not know. TLS still verifies the name. What connections behind a bastion, a port-forward or
    PrivateLink need.
    """
    before, names.resolver = names.resolver, resolver
    return before
