"""The account at the end: of the rows, and of each failover. Values and arithmetic only."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aurora_actors.cli.demo.application import Mark
from aurora_actors.cli.demo.story import Kind, Loss, Moment, Switch
from aurora_actors.errors import Outcome

__all__ = ["Recovery", "Rows", "Times", "count", "recoveries"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of the rows. ``unread``: acknowledged, and not found when read back at once."""

    acknowledged: int
    found: int
    lost: int
    duplicated: int
    unread: int = 0

    @property
    def balanced(self) -> bool:
        """Whether something was acknowledged, nothing of it is missing, and nothing is there twice."""
        return self.acknowledged > 0 and not (self.lost or self.duplicated or self.unread)

    def __str__(self) -> str:
        return f"acknowledged {self.acknowledged}, found {self.found}, lost {self.lost}, duplicated {self.duplicated}"


def count(acknowledged: Sequence[str], stored: Iterable[str], unread: int = 0) -> Rows:
    """Compare what the application was told is stored with what is."""
    found = Counter(stored)
    lost = len(set(acknowledged) - found.keys())
    duplicated = sum(times > 1 for times in found.values())
    return Rows(len(acknowledged), found.total(), lost, duplicated, unread)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of several connections: the one in the middle, and the last."""

    median: float
    last: float

    def __str__(self) -> str:
        return f"{self.median:.0f}" if round(self.median) == round(self.last) else f"{self.median:.0f} to {self.last:.0f}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one loss meant for the application. Times in ms after the fault, over connections that lost a statement.

    ``verdict``: the first sign that the host is dead, for any connection. ``back``: restored, in ms after the promotion.
    ``errors`` and ``silent``: connections that saw an error, and that switched without one. ``switching``: how long these
    took over it, in ms.
    """

    loss: Loss
    promoted: float
    verdict: float | None
    writer_known: Times | None
    connected: Times | None
    restored: Times | None
    back: Times | None
    errors: int
    in_doubt: int
    silent: int
    switching: Times | None

    def lines(self) -> list[tuple[str, str]]:
        """What to show of it: a name and a value each."""
        return [
            ("promoted", f"{self.promoted:.0f}"),
            ("verdict", _or_none(None if self.verdict is None else f"{self.verdict:.0f}")),
            ("writer known", _or_none(self.writer_known)),
            ("connected", _or_none(self.connected)),
            ("restored", _or_none(self.restored)),
            ("after promotion", _or_none(self.back)),
            ("saw an error", f"{self.errors}"),
            ("outcome unknown", f"{self.in_doubt}"),
            ("silent switches", f"{self.silent}"),
            ("and took", _or_none(self.switching)),
        ]


def recoveries(
    losses: Sequence[Loss], switches: Sequence[Switch], marks: Sequence[Mark], moments: Sequence[Moment]
) -> tuple[Recovery, ...]:
    """One for each loss: whatever happened after it and before the next belongs to it."""
    ends = [*(loss.at for loss in losses[1:]), float("inf")]
    return tuple(
        _recovery(
            loss,
            [switch for switch in switches if loss.at <= switch.at < end],
            [mark for mark in marks if loss.at <= mark.at < end],
            [moment.at for moment in moments if moment.kind is Kind.VERDICT and loss.at <= moment.at < end],
        )
        for loss, end in zip(losses, ends, strict=True)
    )


def _recovery(loss: Loss, switches: list[Switch], marks: list[Mark], verdicts: list[float]) -> Recovery:
    lost = [switch for switch in switches if not switch.idle]
    idle = [switch for switch in switches if switch.idle]
    signs = [*verdicts, *(switch.steps["verdict"] for switch in lost if "verdict" in switch.steps)]
    errors = [mark for mark in marks if mark.outcome is not None]
    # A switch of a connection at rest costs an error where its session could not be carried over.
    noticed = sum(mark.outcome is Outcome.NOT_SENT for mark in errors)
    return Recovery(
        loss,
        1000 * (loss.promoted_at - loss.at),
        1000 * (min(signs) - loss.at) if signs else None,
        _times(lost, "writer_known", loss.at),
        _times(lost, "connected", loss.at),
        _times(lost, "restored", loss.at),
        _times(lost, "restored", loss.promoted_at),
        len({mark.client for mark in errors}),
        len({mark.client for mark in errors if mark.outcome is Outcome.UNKNOWN}),
        max(0, len(idle) - noticed),
        _spread([1000 * (switch.steps["restored"] - switch.began) for switch in idle if "restored" in switch.steps]),
    )


def _times(switches: list[Switch], step: str, since: float) -> Times | None:
    return _spread([1000 * (switch.steps[step] - since) for switch in switches if step in switch.steps])


def _spread(values: list[float]) -> Times | None:
    return Times(statistics.median(values), max(values)) if values else None


def _or_none(value: object) -> str:
    return "-" if value is None else str(value)
