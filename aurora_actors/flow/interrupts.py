"""What the application's signal handlers raise, wherever they are called: never a failure of whatever ran just then.

Ctrl-C is no ``Exception``, but the soft time limit of a task queue is one, and a handler may raise ``TimeoutError``.
"""

from __future__ import annotations

import functools
import signal
from types import CodeType
from typing import Any

__all__ = ["pass_interrupt"]


def pass_interrupt(error: BaseException) -> None:
    """Raise what a signal handler raised, if that is why there is *error*: itself, or what a driver made its own error of.

    Known by its traceback, in which the handler stands. ``__context__`` is not looked at: an application that cleans up
    after an interrupt has it there for whatever fails then.
    """
    codes = {code for number in signal.valid_signals() if (code := _code(signal.getsignal(number))) is not None}
    seen: BaseException | None = error
    while codes and seen is not None:
        trace = seen.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                raise seen
            trace = trace.tb_next
        seen = seen.__cause__


def _code(handler: Any) -> CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
