"""The hooks of several plugins, composed once per connection; a hook that fails is passed by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any, Generic, TypeAlias, TypeVar

from aurora_actors.flow.interrupts import pass_interrupt
from aurora_actors.flow.running import Flow, FlowError

__all__ = ["Guard", "Hook", "Proceed", "composed"]

C = TypeVar("C")
R = TypeVar("R")

Proceed: TypeAlias = Callable[[C], Flow[R]]
"""The rest of the chain: await it with the call (or a changed one) to go on."""
Hook: TypeAlias = Callable[[C, Proceed[C, R]], Flow[R]]


class Guard(Generic[R]):
    """What the hooks of a chain may raise and give; where they do otherwise, the chain goes on as if without them.

    *speaks*: the classes of errors by which a hook tells the application something. *failed* is told of a hook that
    raised something else, with the error. *fits* says whether a result can be one, given what ``proceed`` gave (None where
    it was not awaited).
    """

    def __init__(
        self,
        speaks: tuple[type[Exception], ...],
        failed: Callable[[Hook[Any, R], Exception], object],
        fits: Callable[[Any, R | None], bool],
    ) -> None:
        self.speaks = speaks
        self.failed = failed
        self.fits = fits


def composed(
    hooks: Sequence[Hook[C, R]], innermost: Proceed[C, R], guard: Guard[R] | None = None
) -> Proceed[C, R]:
    """One callable that runs *hooks*, the first outermost, round *innermost*; with none, *innermost* itself."""
    proceed = innermost
    for hook in reversed(hooks):
        proceed = _link(hook, proceed) if guard is None else _guarded(hook, proceed, guard)
    return proceed


def _link(hook: Hook[C, R], proceed: Proceed[C, R]) -> Proceed[C, R]:
    async def call(argument: C) -> R:
        return _awaited(hook, await hook(argument, proceed))

    return call


def _awaited(hook: Callable[..., Any], result: R) -> R:
    if isinstance(result, CoroutineType):
        result.close()
        raise TypeError(f"{hook.__qualname__} returned a coroutine: it has to await proceed(call)")
    return result


class _Rest(Generic[C, R]):
    """The rest of the chain as one call of one hook saw it."""

    __slots__ = ("_proceed", "awaited", "error", "result")

    def __init__(self, proceed: Proceed[C, R]) -> None:
        self._proceed = proceed
        self.awaited = False
        self.result: R | None = None
        self.error: Exception | None = None

    async def __call__(self, argument: C) -> R:
        self.awaited, self.result, self.error = True, None, None
        try:
            self.result = await self._proceed(argument)
        except Exception as error:
            self.error = error
            raise
        return self.result


def _guarded(hook: Hook[C, R], proceed: Proceed[C, R], guard: Guard[R]) -> Proceed[C, R]:
    async def call(argument: C) -> R:
        rest = _Rest(proceed)
        try:
            result = _awaited(hook, await hook(argument, rest))
            if guard.fits(result, rest.result):
                return result
            raise TypeError(f"{hook.__qualname__} gave {type(result).__name__}, which is no result")
        except guard.speaks:
            raise
        except Exception as error:
            pass_interrupt(error)
            if error is rest.error:
                raise
            if isinstance(error, FlowError):
                error.answered = True
            guard.failed(hook, error)
            failure = error
        # The application gets what it would have got without the hook.
        if rest.error is not None:
            raise rest.error
        if rest.awaited:
            return rest.result  # type: ignore[return-value]
        try:
            return await proceed(argument)
        except Exception as error:
            error.add_note(f"before that, {hook.__qualname__} failed: {type(failure).__name__}: {failure}")
            raise

    return call
