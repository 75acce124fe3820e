"""Whether a unit of work that failed may be done again as a whole."""

from __future__ import annotations

from aurora_actors.model.outcome import Outcome

__all__ = ["repeats"]

_ABORTED = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the server has rolled the transaction back, at COMMIT, too."""
_ABORTED_ON_MYSQL = frozenset({1205, 1213})
"""ER_LOCK_WAIT_TIMEOUT, after which whoever repeats has to roll back itself, and ER_LOCK_DEADLOCK."""


def repeats(outcome: Outcome | None, sqlstate: str | None, number: int | None) -> bool:
    """Whether an error with these says that the transaction was not committed, and that doing it again may help.

    *outcome* is that of an error of ours, *number* MySQL's. What an error does not say is not known.
    """
    if outcome is not None:
        return outcome.safe_to_repeat
    return sqlstate in _ABORTED or number in _ABORTED_ON_MYSQL
