"""What extensions of others do wrong: told once for each kind, with the distribution that is at fault."""

from __future__ import annotations

import logging
from time import monotonic

from aurora_actors import signals
from aurora_actors.actors.forking import on_fork
from aurora_actors.model.values import dataclass

__all__ = ["HELD_UP_SECONDS", "Origin", "complain", "described"]

log = logging.getLogger("aurora_actors.plugins")

HELD_UP_SECONDS = 0.25
"""What must not block, and takes longer, holds up others: the probes of a host, or an event loop."""
TOLD_LIMIT = 1000
"""Kinds of failure that are remembered as told; beyond that, failures are counted as told already."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which extension it was: ``group`` is its entry-point group without the package, such as ``plugin``."""

    group: str
    name: str
    distribution: str

    def __str__(self) -> str:
        return f"{self.group} {self.name} of {self.distribution}"


_told: dict[tuple[str, Origin, str], object] = {}
on_fork(_told.clear)


def complain(origin: Origin, cluster: str, doing: str, error: BaseException | str, where: str = "") -> None:
    """Log and signal that an extension failed while *doing* something: the first time only, in this process.

    An extension that fails, fails at every statement or every interval. Any thread; never waits, never raises.
    """
    text = (error if isinstance(error, str) else described(error)) + where
    mine = object()
    # One operation that only one thread can win; finalizers come here, too.
    if len(_told) >= TOLD_LIMIT or _told.setdefault((cluster, origin, doing), mine) is not mine:
        log.debug("%s failed again while %s: %s", origin, doing, text)
        return
    trace = error if isinstance(error, BaseException) and error.__traceback__ is not None else None
    log.warning("%s failed while %s: %s", origin, doing, text, exc_info=trace)
    event = signals.PluginFailed(origin.name, origin.distribution, f"{doing}: {text}", monotonic())
    signals.emit(signals.plugin_failed, cluster, event)


def described(error: BaseException) -> str:
    """Type and message, also of an error whose ``__str__`` raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - it is somebody else's
        return type(error).__name__
