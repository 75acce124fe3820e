"""What was recorded of a run: frozen values, all times on the clock of ``time.monotonic()``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from aurora_actors.errors import Outcome

__all__ = ["Effect", "End", "History", "Kind", "Phase", "Reading", "Result", "Seen", "Struck"]

Kind = Literal["insert", "count", "transfer", "append"]
Phase = Literal["connect", "statement", "commit", "look-up", "read"]


class Result(Enum):
    """What the application knows of a write in the end."""

    DONE = "acknowledged"
    FOUND = "found when looked up"
    ABSENT = "known not to have happened"
    UNKNOWN = "unknown"

    @property
    def is_there(self) -> bool:
        """Whether the application was told, by the server or by a look-up, that it is there."""
        return self in {Result.DONE, Result.FOUND}


@dataclass(frozen=True, slots=True)
class Seen:
    """An error that a connection gave: when, of what outcome, and the ledger of its failover as text."""

    at: float
    phase: Phase
    outcome: Outcome | None
    text: str
    ledger: str = ""

    @property
    def in_doubt(self) -> bool:
        """Whether a write may have happened all the same."""
        return self.phase in {"statement", "commit"} and self.outcome is Outcome.UNKNOWN


@dataclass(frozen=True, slots=True)
class Effect:
    """One write that shall happen once. ``key``: the counter, list or table; ``id``: what tells it from all others."""

    worker: str
    kind: Kind
    key: str
    id: str
    began: float
    ended: float
    result: Result
    seen: tuple[Seen, ...] = ()

    @property
    def least(self) -> int:
        """How many times it must be there."""
        return int(self.result.is_there)

    @property
    def most(self) -> int:
        """How many times it may be there: each attempt of unknown outcome may have happened beside the acknowledged one."""
        return int(self.result is Result.DONE) + sum(error.in_doubt for error in self.seen)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a connection to the writer read of a counter (a number) or a list (its text); ``worker``'s last attempt."""

    worker: str
    key: str
    began: float
    ended: float
    value: int | str
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault: the host it befell, when, and when the cluster could serve again."""

    name: str
    host: str
    at: float
    over_at: float


@dataclass(frozen=True, slots=True)
class End:
    """What was in the database in the end.

    ``times``: how often each id is there; ``counters`` and ``lists`` by key; ``balances`` and ``moved``: what each account
    holds, and what it must hold, by the transfers that are there.
    """

    times: Mapping[str, int] = field(default_factory=dict[str, int])
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    lists: Mapping[str, str] = field(default_factory=dict[str, str])
    balances: Mapping[str, int] = field(default_factory=dict[str, int])
    moved: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class History:
    """One run. ``back_seconds``: the deadline for a connection to be back; ``gave_up``: a reason for each worker that did.

    ``commit_outcome``: the connections can tell what became of a COMMIT, so that none may stay unknown.
    """

    seed: int
    workers: tuple[str, ...]
    effects: tuple[Effect, ...]
    readings: tuple[Reading, ...]
    struck: tuple[Struck, ...]
    end: End
    ended_at: float
    back_seconds: float
    gave_up: Mapping[str, str] = field(default_factory=dict[str, str])
    commit_outcome: bool = False
