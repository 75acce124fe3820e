"""The hooks of several plugins, composed once per connection."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from inspect import iscoroutine
from typing import Any, TypeAlias, TypeVar

from aurora_actors.flow.running import Flow

__all__ = ["Hook", "Proceed", "composed"]

C = TypeVar("C")
R = TypeVar("R")

Proceed: TypeAlias = Callable[[C], Flow[R]]
"""The rest of the chain: await it with the call (or a changed one) to go on."""
Hook: TypeAlias = Callable[[C, Proceed[C, R]], Flow[R]]


def composed(hooks: Sequence[Hook[C, R]], innermost: Proceed[C, R]) -> Proceed[C, R]:
    """One callable that runs *hooks*, the first outermost, round *innermost*; with none, *innermost* itself."""
    proceed = innermost
    for hook in reversed(hooks):
        proceed = _link(hook, proceed)
    return proceed


def _link(hook: Hook[C, R], proceed: Proceed[C, R]) -> Proceed[C, R]:
    async def call(argument: C) -> R:
        result: R = await hook(argument, proceed)
        if iscoroutine(result):
            _forgotten(hook, result)
        return result

    return call


def _forgotten(hook: Callable[..., Any], result: Coroutine[Any, Any, Any]) -> None:
    result.close()
    raise TypeError(f"{hook.__qualname__} returned a coroutine: it has to await proceed(call)")
