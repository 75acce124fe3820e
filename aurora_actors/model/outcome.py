"""What became of a statement whose connection was lost, and the record of one failover."""

from __future__ import annotations

import re
from dataclasses import field
from enum import Enum

from aurora_actors.model.values import dataclass

__all__ = ["Attempt", "Ledger", "Operation", "Outcome", "outcome_of", "told_by"]


class Outcome(Enum):
    """Whether what was in flight happened. Only the first two are safe to run again.

    ``PREPARED``: a two-phase transaction that waits to be committed or rolled back. ``COMMITTED`` is told of one that was
    prepared before, and of any other COMMIT with ``commit_outcome``.
    """

    NOT_SENT = "not sent"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    COMMITTED = "committed"
    PREPARED = "prepared"

    @property
    def safe_to_repeat(self) -> bool:
        return self in (Outcome.NOT_SENT, Outcome.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to reach a host: where, when (seconds after the first symptom) and why it failed."""

    host: str
    seconds: float
    error: str

    def __str__(self) -> str:
        return f"{self.host} at {self.seconds:.3f} s: {self.error}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """When each step of one failover was reached, in seconds after the first symptom; None: not reached.

    ``symptom_at`` is on the clock of ``time.monotonic()``. ``searched`` is False when the new writer was
    already known, so that nobody had to look for it. ``lacking``: what of the session the new host refused.
    """

    symptom_at: float
    verdict: float | None = None
    writer_known: float | None = None
    connected: float | None = None
    verified: float | None = None
    restored: float | None = None
    searched: bool = False
    lacking: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """From the first symptom to the last step that was reached."""
        steps = (self.verdict, self.writer_known, self.connected, self.verified, self.restored)
        return max((step for step in steps if step is not None), default=0.0)

    def __str__(self) -> str:
        names = ("verdict", "writer_known", "connected", "verified", "restored")
        steps = ((name, getattr(self, name)) for name in names)
        return ", ".join(f"{name.replace('_', ' ')} {1000 * at:.1f} ms" for name, at in steps if at is not None)


@dataclass(frozen=True, slots=True)
class Operation:
    """What was in flight when the connection was lost.

    ``commits`` says that it carried a COMMIT (or what counts as one); ``in_transaction`` that a transaction was
    open before it began; ``autocommit`` that the driver opened none; ``sent`` that a byte of it may have left;
    ``refused`` that the server itself answered that it did not do it. ``token``: what the COMMIT left in the marker table.
    ``gid``: the two-phase transaction that was to be prepared or, prepared before, to be finished, as the server calls it;
    ``gone``: what became of it if the server has none prepared of that name.
    """

    name: str
    statement: str = ""
    in_transaction: bool = False
    autocommit: bool = False
    commits: bool = False
    sent: bool = True
    refused: bool = False
    token: str = ""
    gid: str = field(default="", repr=False)
    gone: Outcome = Outcome.UNKNOWN


# At the start of a statement, wherever it stands in the text: a wrong "unknown" costs the application one look-up, a
# wrong "rolled back" could cost it a duplicate.
_COMMITTING = r"(?i)(?:^|;|\*/|--[^\n]*\n)\s*(?:commit|end|prepare\s+transaction)\b"


def outcome_of(operation: Operation) -> Outcome:
    """Whether *operation*, cut off by the loss of its connection, can have taken effect."""
    if not operation.sent:
        return Outcome.NOT_SENT
    if operation.refused and (operation.in_transaction or not operation.gid):
        return Outcome.ROLLED_BACK
    if operation.commits or re.search(_COMMITTING, operation.statement):
        return Outcome.UNKNOWN
    if operation.in_transaction or not operation.autocommit:
        return Outcome.ROLLED_BACK
    return Outcome.UNKNOWN


def told_by(token: str, found: str) -> Outcome:
    """What became of the COMMIT with *token*, where its session, which commits nothing any more, left the token *found*."""
    return Outcome.COMMITTED if token == found else Outcome.ROLLED_BACK
