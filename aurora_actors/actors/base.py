"""The actor that survives its own errors, and the ways to talk to one.

pykka's actors have habits that a library must fence off; it is done here, once. An error in a handler does not
kill the actor and ``SystemExit`` does not stop every actor of the process; each request is answered, also when the
actor crashes or stops; no actor delays the end of the process; a forked child sees its parent's actors as dead.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import field
from functools import partial
from itertools import count
from queue import SimpleQueue
from time import monotonic
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

import pykka

from aurora_actors.model.values import dataclass
from aurora_actors.signals import ActorCrashed

from .forking import on_fork
from .reply import Reply

__all__ = ["Actor", "ActorCrashed", "ActorStopped", "Ping", "Ref", "Request", "Stop", "stop_all", "tell"]

logger = logging.getLogger("aurora_actors.actors")

R = TypeVar("R")

Ref: TypeAlias = pykka.ActorRef[Any]
"""The address of an actor: stays valid when the actor crashes and starts afresh."""

MAX_CRASHES: Final = 3
"""An actor that crashes more often within ``CRASH_WINDOW_SECONDS`` stops: it would go on failing."""
CRASH_WINDOW_SECONDS: Final = 60.0
"""Long enough that a crash at every failover attempt counts, short enough to forget one odd crash a day."""


class ActorStopped(Exception):
    """The actor cannot answer: it has stopped, or it crashed and started afresh without the request."""


@dataclass(frozen=True, slots=True)
class Request(Generic[R]):
    """A message that wants an answer. Subclasses are frozen, slotted dataclasses; each is told to one actor, once."""

    reply: Reply[R] = field(kw_only=True, default_factory=Reply, compare=False, repr=False)

    def answer(self, value: R) -> bool:
        """Give the asker ``value``; any thread. False if it is answered already or the asker gave up."""
        return self.reply.set_result(value)

    def refuse(self, error: Exception) -> bool:
        """Raise ``error`` at the asker; any thread. One error object per request: its traceback grows at the asker."""
        if isinstance(error, StopIteration):  # a coroutine that lets one out is taken for ended
            error = RuntimeError(f"refused with {error!r}")
        return self.reply.set_exception(error)


@dataclass(frozen=True, slots=True)
class Ping(Request[int]):
    """Is anybody there? Every actor answers with the number of messages that it handled before."""


@dataclass(frozen=True, slots=True)
class Stop(Request[threading.Thread]):
    """Stop after the present message; what waits in the inbox is refused. Answered, when ``end()`` is done, with
    the thread that is about to end."""


def tell(ref: Ref, message: object) -> bool:
    """Put ``message`` into the actor's inbox; any thread. Never waits, never raises.

    False if the actor has stopped; a request is then refused with :class:`ActorStopped`.
    """
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        stopped = True
    else:
        # Put first, look second: an actor that is stopping drains its inbox after it said that it stops, so
        # either the drain finds the message or we see the flag.
        stopped = ref.actor_stopped.is_set()
    if stopped and isinstance(message, Request):
        message.refuse(ActorStopped(f"{ref.actor_class.__name__} has stopped"))
    return not stopped


def stop_all(refs: Iterable[Ref], seconds: float) -> tuple[Ref, ...]:
    """Tell all actors to stop, then wait for all of them until one deadline, ``seconds`` from now.

    Returns the actors that still run; their threads are daemons and do not delay the exit. Not for actors: they do
    not wait, they tell :class:`Stop`.
    """
    until = monotonic() + seconds
    asked = [(ref, Stop()) for ref in refs]
    for ref, stop in asked:
        tell(ref, stop)
    return tuple(ref for ref, stop in asked if not _ended(stop.reply, until))


def _ended(reply: Reply[threading.Thread], until: float) -> bool:
    try:
        thread = reply.result(max(0.0, until - monotonic()))
    except ActorStopped:
        return True
    except TimeoutError:
        return False
    thread.join(max(0.0, until - monotonic()))
    return not thread.is_alive()


class Actor(pykka.ThreadingActor):
    """An actor with a guarded handler, started with ``TheActor.start(name, ..., report=...)``.

    Subclasses override :meth:`handle`, and :meth:`begin` and :meth:`end` where they hold something; all three run
    in the actor's thread. Any error in them, ``SystemExit`` included, is a crash: all requests that are open are
    refused, ``report`` is called in the actor's thread (it must not wait), and the actor begins again in place,
    with the same ref and inbox. After more than 3 crashes in 60 seconds it stops and reports ``final``.

    ``now`` reads the monotonic clock, in seconds.
    """

    use_daemon_thread: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        *,
        report: Callable[[ActorCrashed], object],
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__()
        on_fork(_forget_inherited)
        self.name = name
        self._report = report
        self._now = now
        self._keys = count()
        self._open: dict[int, Request[Any]] = {}
        self._crashes: deque[float] = deque()
        self._handled = 0
        self._begun = False
        self._leaving = False

    def __repr__(self) -> str:
        state = "stopped" if self.actor_stopped.is_set() else "leaving" if self._leaving else "running"
        return f"<{type(self).__name__} {self.name!r} {state}, {len(self._open)} open, {len(self._crashes)} crashes>"

    def begin(self) -> None:
        """Take up work with fresh state: at the start, and again after each crash."""

    def handle(self, message: Any) -> None:
        """Handle one message. The default refuses to know any: end a ``match`` over messages with it."""
        raise TypeError(f"{type(self).__name__} does not know what to do with a {type(message).__name__}")

    def end(self) -> None:
        """Give back what :meth:`begin` took, which may have failed half-way: before each restart and at the end."""

    def on_receive(self, message: Any) -> None:
        """Guard :meth:`handle`; called by pykka."""
        if isinstance(message, Request):
            if not self._admit(message):
                return
        elif self._leaving:
            return
        self._handled += 1
        try:
            self.handle(message)
        except BaseException as error:  # noqa: BLE001 - _crashed() logs and reports it
            self._crashed(error, f"handling {type(message).__name__}")

    def on_start(self) -> None:
        """Guard the first :meth:`begin`; called by pykka."""
        threading.current_thread().name = f"aurora_actors-{self.name}"
        self._begin_guarded()

    def on_stop(self) -> None:
        """End, and answer every request; called by pykka after ``actor_stopped`` is set."""
        self._leaving = True
        self._end_guarded()
        while not self.actor_inbox.empty():  # nobody else takes from it
            envelope = self.actor_inbox.get()
            if isinstance(envelope.message, Request):
                self._track(envelope.message)
            if envelope.reply_to is not None:  # somebody used pykka's own ask() or stop()
                error = pykka.ActorDeadError(f"{self.name} has stopped")
                envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))
        self._refuse_open("has stopped")
        for request in list(self._open.values()):
            if isinstance(request, Stop):
                request.answer(threading.current_thread())

    def _start_actor_loop(self) -> None:
        try:
            super()._start_actor_loop()
        except RuntimeError:  # no more threads: pykka would leave an actor that looks alive
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_stopped.set()
            raise
        except BaseException:  # a signal handler's: nobody gets to know the actor, whether or not its thread runs
            tell(self.actor_ref, Stop())
            raise

    @staticmethod
    def _create_actor_inbox() -> Any:
        # A finalizer that garbage collection runs inside tell() may tell the same actor: queue.Queue would deadlock.
        return SimpleQueue[Any]()

    def _admit(self, request: Request[Any]) -> bool:
        """Keep track of a request; False if there is nothing left to handle."""
        self._track(request)
        if isinstance(request, Stop):
            if not self._leaving:
                self._leave()
            return False
        if self._leaving:
            request.refuse(ActorStopped(f"{self.name} has stopped"))
            return False
        if isinstance(request, Ping):
            request.answer(self._handled)
            return False
        return True

    def _track(self, request: Request[Any]) -> None:
        # The callback stays in the reply, which its asker may keep: it must not hold the actor.
        key = next(self._keys)
        self._open[key] = request
        request.reply.then(partial(self._open.pop, key, None))

    def _leave(self) -> None:
        """Stop when pykka's own message has come through the inbox; what is before it there is refused."""
        self._leaving = True
        if not self.actor_stopped.is_set():
            self.stop()

    def _begin_guarded(self) -> None:
        self._begun = True
        try:
            self.begin()
        except BaseException as error:  # noqa: BLE001 - _crashed() logs and reports it
            self._crashed(error, "starting")

    def _end_guarded(self) -> None:
        if not self._begun:
            return
        self._begun = False
        try:
            self.end()
        except BaseException:
            logger.exception("%s failed while it ended", self.name)

    def _crashed(self, error: BaseException, doing: str) -> None:
        """Start afresh, or stop for good; recursion with :meth:`_begin_guarded` is bounded by ``MAX_CRASHES``."""
        at = self._now()
        self._crashes.append(at)
        while at - self._crashes[0] > CRASH_WINDOW_SECONDS:
            self._crashes.popleft()
        crashes = len(self._crashes)
        final = crashes > MAX_CRASHES
        outcome = "stops" if final else "starts afresh"
        logger.error("%s crashed while %s and %s", self.name, doing, outcome, exc_info=error)
        text = _text(error)
        self._end_guarded()
        self._refuse_open(f"crashed while {doing} ({text}) and {outcome}")
        self._say(ActorCrashed(self.name, text, final, crashes, at))
        if final:
            self._leave()
        else:
            self._begin_guarded()

    def _say(self, crash: ActorCrashed) -> None:
        try:
            self._report(crash)
        except BaseException:
            logger.exception("The crash of %s could not be reported", self.name)

    def _refuse_open(self, why: str) -> None:
        for request in list(self._open.values()):
            if not isinstance(request, Stop):
                request.refuse(ActorStopped(f"{self.name} {why}"))


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - an error whose __str__ raises
        return type(error).__name__


def _forget_inherited() -> None:
    """In a forked child: give pykka's registry a new lock, and let the parent's actors look as dead as they are."""
    registry = pykka.ActorRegistry
    # Another thread may have held the lock while the process forked.
    registry._actor_refs_lock = threading.RLock()
    stopped = threading.Event()
    stopped.set()
    refs = registry._actor_refs
    for ref in list(refs):
        if issubclass(ref.actor_class, Actor):
            # A new event: the lock inside the old one may be held as well.
            ref.actor_stopped = stopped
            refs.remove(ref)
