"""Run a flow in a thread. (In asyncio it is simply awaited.)"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeAlias, TypeVar

__all__ = ["Flow", "FlowError", "run_blocking"]

R = TypeVar("R")

Flow: TypeAlias = Coroutine[Any, Any, R]
"""What an ``async def`` of ours or a plugin's gives: awaits nothing but other flows and the io it was handed."""


class FlowError(RuntimeError):
    """A flow awaited something that is neither a flow nor the io it was handed; the traceback ends at that await.

    ``answered``: whoever called the flow that did so has dealt with it, and goes on without.
    """

    answered = False


def run_blocking(flow: Flow[R]) -> R:
    """Run *flow* to its end in this thread, where every operation of its io blocks.

    Raises whatever the flow raises, and ``FlowError`` when it suspends.
    """
    try:
        flow.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    while True:
        error = FlowError("a flow awaited something that is neither another flow nor the io that it was given")
        try:
            flow.throw(error)
        except StopIteration as stop:
            if error.answered:
                answer: R = stop.value
                return answer
            # It swallowed the error; it is one all the same.
            raise error from None
        if not error.answered:
            flow.close()
            raise error
