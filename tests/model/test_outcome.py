"""What can have become of what was in flight."""

from __future__ import annotations

import pytest

from aurora_actors.model.outcome import Operation, Outcome, outcome_of

TABLE = [
    (Operation("execute", "INSERT INTO t VALUES (1)", autocommit=True), Outcome.UNKNOWN),
    (Operation("execute", "INSERT INTO t VALUES (1)"), Outcome.ROLLED_BACK),
    (Operation("execute", "SELECT 1", in_transaction=True, autocommit=True), Outcome.ROLLED_BACK),
    (Operation("execute", "COMMIT", in_transaction=True), Outcome.UNKNOWN),
    (Operation("execute", "insert into t values (1); commit", in_transaction=True), Outcome.UNKNOWN),
    (Operation("execute", "/* note */ END", in_transaction=True), Outcome.UNKNOWN),
    (Operation("execute", "-- note\nPREPARE TRANSACTION 'x'", in_transaction=True), Outcome.UNKNOWN),
    (Operation("execute", "SELECT CASE WHEN true THEN 1 END", in_transaction=True), Outcome.ROLLED_BACK),
    (Operation("commit", in_transaction=True, commits=True), Outcome.UNKNOWN),
    (Operation("rollback", in_transaction=True), Outcome.ROLLED_BACK),
    (Operation("execute", "INSERT INTO t VALUES (1)", autocommit=True, sent=False), Outcome.NOT_SENT),
    (Operation("execute", "INSERT INTO t VALUES (1)", autocommit=True, refused=True), Outcome.ROLLED_BACK),
    (Operation("tpc_prepare", in_transaction=True, commits=True, gid="x"), Outcome.UNKNOWN),
    (Operation("tpc_prepare", in_transaction=True, commits=True, gid="x", refused=True), Outcome.ROLLED_BACK),
    (Operation("tpc_commit", commits=True, gid="x"), Outcome.UNKNOWN),
    (Operation("tpc_rollback", commits=True, gid="x", refused=True), Outcome.UNKNOWN),  # still prepared
]


@pytest.mark.parametrize(("operation", "outcome"), TABLE)
def test_outcome(operation: Operation, outcome: Outcome) -> None:
    assert outcome_of(operation) is outcome


def test_what_happened_or_may_have_happened_must_not_be_repeated_unseen() -> None:
    assert [outcome for outcome in Outcome if not outcome.safe_to_repeat] == [
        Outcome.UNKNOWN, Outcome.COMMITTED, Outcome.PREPARED,
    ]  # fmt: skip
