"""What is said when a deadline comes, and what follows from it for what was under way."""

from __future__ import annotations

from aurora_actors.model.outcome import Outcome

__all__ = ["advice", "overdue", "past"]


def overdue(name: str, seconds: float, outcome: Outcome, *, closed: bool, two_phase: bool = False) -> str:
    """The message for *name* that was under way for *seconds* when its deadline came."""
    how = "its session was closed" if closed else "it was cancelled" if outcome is Outcome.ROLLED_BACK else "it was ended"
    return f"the deadline came {seconds:.3f} s after the {name} began: {how}. {advice(name, outcome, two_phase=two_phase)}"


def past(name: str, seconds: float) -> str:
    """The message for *name*, whose deadline passed *seconds* ago."""
    ago = f"its deadline passed {seconds:.3f} s ago"
    return f"no time is left for the {name}, {ago}: nothing was sent. Give it a later deadline"


def advice(unit: str, outcome: Outcome, *, two_phase: bool = False) -> str:
    """What to do about *unit* after that outcome."""
    said = _ADVICE[outcome].format(unit=unit)
    return f"{said} ({_LOOK})" if two_phase and outcome is Outcome.UNKNOWN else said


_ADVICE = {
    Outcome.NOT_SENT: "Nothing of the {unit} was sent: run it again",
    Outcome.ROLLED_BACK: "The {unit} was rolled back: run it again from its beginning",
    Outcome.COMMITTED: "The {unit} was committed: do not run it again",
    Outcome.PREPARED: "The {unit} is prepared: finish it with tpc_commit(xid) or tpc_rollback(xid)",
    Outcome.UNKNOWN: "Whether the {unit} took effect is not known: look before you run it again",
}
_LOOK = "tpc_recover() lists it for as long as it is prepared, and tpc_commit(xid) or tpc_rollback(xid) finishes it"
