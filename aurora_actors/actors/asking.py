"""How threads and tasks of the application ask an actor: tell, then wait for the one answer until a deadline."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from .base import Ref, Request, tell
from .reply import brought

__all__ = ["DeadlineExceeded", "ask", "ask_async"]

R = TypeVar("R")


class DeadlineExceeded(TimeoutError):
    """No answer came before the asker's deadline."""


def ask(ref: Ref, request: Request[R], until: float) -> R:
    """Ask, and block the calling thread until the answer or ``until`` (seconds on ``time.monotonic()``).

    Raises :class:`DeadlineExceeded`, ``ActorStopped`` if the actor cannot answer, or the error it refused with. When
    the wait ends in any other way, KeyboardInterrupt for one, the request is cancelled and the actor drops it.
    Not for actors: they only tell each other.
    """
    reply = request.reply
    try:
        seconds = until - monotonic()
        if seconds <= 0:
            raise _exceeded(request)
        tell(ref, request)
        try:
            return reply.result(seconds)
        except TimeoutError:
            if reply.cancel():
                raise _exceeded(request) from None
            return reply.result(0)  # it came just then, or the actor refused with a TimeoutError
    except BaseException:
        reply.cancel()
        raise
    finally:
        # An error that the reply holds refers to this frame by its traceback: no cycle through it.
        del reply, request


async def ask_async(ref: Ref, request: Request[R], until: float) -> R:
    """The same as :func:`ask` for a task: the event loop goes on meanwhile.

    A cancelled task cancels the request; an answer that arrives at the same moment is lost.
    """
    import asyncio  # see brought()

    reply = request.reply
    try:
        seconds = until - monotonic()
        if seconds <= 0:
            raise _exceeded(request)
        tell(ref, request)
        # The loop's clock need not be time.monotonic(). No asyncio.wait_for: on 3.11 it swallows cancellations.
        scope = asyncio.timeout_at(asyncio.get_running_loop().time() + seconds)
        try:
            async with scope:
                return await brought(reply)
        except TimeoutError:
            if scope.expired() and reply.cancel():
                raise _exceeded(request) from None
            return reply.result(0)  # it came just then, or the actor refused with a TimeoutError
    except BaseException:
        reply.cancel()
        raise
    finally:
        del reply, request


def _exceeded(request: Request[R]) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer to {type(request).__name__} before the deadline")
