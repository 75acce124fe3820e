"""What a forked child must do before it may use the library: forget the parent's threads and renew locks.

Only the child acts. A hook that acquired locks before the fork could deadlock the forking thread against itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from types import MethodType
from typing import Final, TypeAlias
from weakref import WeakMethod

__all__ = ["on_fork"]

logger = logging.getLogger("aurora_actors.actors")

Reset: TypeAlias = Callable[[], object]


class _Resets:
    """The resets of the process; tells Python about itself with the first of them."""

    def __init__(self) -> None:
        self._known: list[Reset | WeakMethod[Reset]] = []
        self._registered = False
        self._renew_lock()

    def _renew_lock(self) -> None:
        # Reentrant: a garbage collection inside add() may run a finalizer that comes here, too.
        self._lock = threading.RLock()

    def add(self, reset: Reset) -> None:
        entry: Reset | WeakMethod[Reset] = WeakMethod(reset) if isinstance(reset, MethodType) else reset
        with self._lock:
            if entry not in self._known:
                self._known = [known for known in self._known if _strong(known) is not None]
                self._known.append(entry)
            if not self._registered and hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._run_in_child)
                self._registered = True

    def _run_in_child(self) -> None:
        self._renew_lock()
        for entry in self._known:
            reset = _strong(entry)
            if reset is None:
                continue
            try:
                reset()
            except BaseException:
                logger.exception("After a fork %s failed; the other resets go on", reset)


def _strong(entry: Reset | WeakMethod[Reset]) -> Reset | None:
    return entry() if isinstance(entry, WeakMethod) else entry


_resets: Final = _Resets()


def on_fork(reset: Reset) -> None:
    """Call ``reset()`` in every child that is forked from now on, in its only thread, before ``os.fork`` returns.

    A bound method is held weakly, a function for ever; the same reset is registered once. A reset must not
    acquire a lock that it did not just make: the thread that held it does not exist in the child.
    """
    _resets.add(reset)
