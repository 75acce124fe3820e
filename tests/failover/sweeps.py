"""Has a signal handler raise at each moment of a call at which CPython could call it, one after the other."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["FORMS", "KINDS", "HardLimit", "SoftLimit", "Sweep", "swept"]

POINTS = 60
"""At how many moments of a call a handler raises, but for SWEEP=1."""
FORMS = ("c_return", "begin")
"""After a call of a C function, and where a function begins: there CPython looks for signals. Not before a call of one
in C: nothing comes between the end of a `with` block and its lock."""


class SoftLimit(Exception):
    """Raised by the handler."""


class HardLimit(BaseException):
    """Raised by the handler."""


KINDS = [SoftLimit, HardLimit]


class Sweep:
    """Sends a signal at the n-th moment of what the application's thread runs; its handler raises *raised*, if any.

    Ours, the driver's, and the standard library's own locks and queues count. CPython 3.11 crashes when its profiler raises
    where a function begins; a tracer may do so at the first line of it.
    """

    MODULES = ("aurora_actors", "psycopg", "mysql", "threading", "queue", "concurrent", "pykka", "selectors")

    def __init__(
        self, at: int, raised: BaseException | None, form: str = "c_return", number: int = signal.SIGALRM
    ) -> None:
        self._left = at
        self._raised = raised
        self._form = form
        self._number = number
        self.calls = 0
        self.place = ""

    def _handler(self, *_: object) -> None:
        if self._raised is not None:
            raise self._raised

    def _counts(self, frame: Any) -> bool:
        # Nothing gets out of a finalizer.
        return str(frame.f_globals.get("__name__")).startswith(self.MODULES) and frame.f_code.co_name != "__del__"

    def _moment(self, frame: Any) -> None:
        self.calls += 1
        if self.calls == self._left:
            self._watch(on=False)
            self.place = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}:{frame.f_lineno}"
            signal.raise_signal(self._number)

    def _profile(self, frame: Any, event: str, _: object) -> None:
        if event == self._form and self._counts(frame):
            self._moment(frame)

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if event == "call":
            return self._trace if self._counts(frame) else None
        if event == "line":
            frame.f_trace_lines = False
            self._moment(frame)
        return None

    def _watch(self, *, on: bool) -> None:
        if self._form == "begin":
            sys.settrace(self._trace if on else None)
        else:
            sys.setprofile(self._profile if on else None)

    def run(self, call: Callable[[], Any]) -> BaseException | None:
        """What *call* raises."""
        before = signal.signal(self._number, self._handler) if self._raised is not None else None
        self._watch(on=True)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is what the test is about
            return error
        finally:
            self._watch(on=False)
            if self._raised is not None:
                signal.signal(self._number, before)
        return None


def _points(calls: int, points: int) -> range:
    """Every moment with SWEEP=1, else a share of them: another one at each place of the code that is met twice."""
    return range(1, calls + 1, 1 if os.environ.get("SWEEP") else max(1, calls // points))


def swept(
    call: Callable[[], Any],
    ready: Callable[[], object],
    after: Callable[[int], object],
    form: str = "c_return",
    points: int = POINTS,
    *,
    ctrl_c: bool = False,
    passes: Callable[[BaseException], bool] = lambda _: False,
) -> None:
    """Interrupt *call* everywhere: what the handler raised passes unchanged, or it ended as it does by itself.

    *ctrl_c*: by the signal of that, with the handler that is there. *passes*: whether what was raised went where it has to
    where it cannot reach the caller.
    """
    ready()
    counted = Sweep(0, SoftLimit(), form)
    usual = type(counted.run(call))
    for point in _points(counted.calls, points):
        ready()
        raised = KINDS[point % 2](point)
        sweep = Sweep(point, None, form, signal.SIGINT) if ctrl_c else Sweep(point, raised, form)
        error = sweep.run(call)
        unchanged = isinstance(error, KeyboardInterrupt) if ctrl_c else error is raised or passes(raised)
        assert unchanged or type(error) is usual, (point, sweep.place, error)
        # What was raised holds the frames that it came through, and they what was open in them.
        raised.__traceback__ = None
        del error, raised
        try:
            after(point)
        except BaseException as found:
            found.add_note(f"interrupted at moment {point} ({form}), {sweep.place}")
            raise
