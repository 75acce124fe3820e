"""What strikes the cluster: by a list, or at random from a seed. Each fault is over when the cluster can serve again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import TypeAlias

from aurora_actors.lab.lab import Lab

from .history import Struck

__all__ = ["FAULTS", "schedule", "strike"]

OUTAGE_SECONDS = 1.0
"""The longest time from the loss of a writer to the promotion of another, and of a disturbance; Aurora takes some more."""
LATE_MS = 40.0
"""What a slow line adds; far below what is taken for silence."""

Fault: TypeAlias = Callable[[Lab, float], Callable[[], object] | None]
"""Strikes the writer of a lab, for so many seconds, and returns what must be undone afterwards."""


def _crash(lab: Lab, seconds: float) -> None:
    lab.failover(after_seconds=seconds)


def _planned(lab: Lab, _: float) -> None:
    lab.failover(how="planned")


def _freeze(lab: Lab, seconds: float) -> Callable[[], object]:
    lost = lab.writer
    lab.freeze(lost)
    lab.failover(after_seconds=seconds)
    return lambda: lab.thaw(lost)


def _black_hole(lab: Lab, seconds: float) -> Callable[[], object]:
    lost = lab.writer
    lab.black_hole(lost)
    lab.failover(after_seconds=seconds)
    return lambda: lab.heal(lost)


def _restart(lab: Lab, seconds: float) -> None:
    lab.restart(lab.writer, down_seconds=seconds)


def _drop(lab: Lab, seconds: float) -> None:
    lab.drop_sessions(refuse_seconds=seconds / 2)


def _cut(lab: Lab, seconds: float) -> None:
    lab.cut_flow(lab.writer)
    time.sleep(seconds)
    lab.heal(lab.writer)


def _slow(lab: Lab, seconds: float) -> None:
    lab.slow(lab.writer, LATE_MS)
    time.sleep(seconds)
    lab.slow(lab.writer, 0)


FAULTS: Mapping[str, Fault] = MappingProxyType({
    "crash": _crash,
    "planned": _planned,
    "freeze": _freeze,
    "black-hole": _black_hole,
    "restart": _restart,
    "drop-sessions": _drop,
    "cut-flow": _cut,
    "slow": _slow,
})  # fmt: skip
"""By the name that a plan takes."""


def schedule(seed: int, names: Sequence[str] = (), count: int | None = None) -> Iterator[tuple[str, float]]:
    """Faults and how many seconds each lasts: *names* in their order; without them at random, without end or *count*."""
    chance = random.Random(seed)
    number = 0
    while number < len(names) if names else count is None or number < count:
        yield names[number] if names else chance.choice(tuple(FAULTS)), chance.uniform(0, OUTAGE_SECONDS)
        number += 1


def strike(lab: Lab, name: str, seconds: float) -> tuple[Struck, Callable[[], object] | None]:
    """Have a fault happen; what is returned with it ends a silence that outlasts it."""
    host, at = lab.writer, monotonic()
    undo = FAULTS[name](lab, seconds)
    return Struck(name, host, at, monotonic()), undo
