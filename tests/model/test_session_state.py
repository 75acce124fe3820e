"""What statements and ends of transactions make of what a session holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_actors.model.session import effects_of
from aurora_actors.model.session_state import Effect, Session

_OPENS, _CLOSES = ("begin",), ("commit", "rollback")


def after(*texts: str) -> Session:
    """A session after *texts*, each of which succeeded."""
    session, in_transaction = Session(), False
    for text in texts:
        effects = effects_of(text)
        assert effects is not None
        kinds = [effect.kind for effect in effects]
        in_transaction = not set(kinds) & set(_CLOSES) and (in_transaction or "begin" in kinds)
        session = session.after(effects, in_transaction=in_transaction)
    return session


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["SET a.b = 'c'"], ["SET a.b TO 'c'"]),
        (["SET a.b = 'c'", "SET a.b = 'd'"], ["SET a.b TO 'd'"]),
        (["SET a.b = 'c'", "RESET a.b"], []),
        (["SET a.b = 'c'", "SET A.B TO DEFAULT"], []),
        (["SET LOCAL a.b = 'c'"], []),
        (["BEGIN", "SET LOCAL timezone = 'UTC'"], []),
        (["BEGIN", "SET a.b = 'c'"], []),
        (["BEGIN", "SET a.b = 'c'", "COMMIT"], ["SET a.b TO 'c'"]),
        (["BEGIN", "SET a.b = 'c'", "ROLLBACK"], []),
        (["BEGIN; SET a.b = 'c'; COMMIT"], ["SET a.b TO 'c'"]),
        (["SET a.b = 'c'", "BEGIN", "SET a.b = 'd'", "ABORT"], ["SET a.b TO 'c'"]),
        (["BEGIN", "SAVEPOINT s", "SET a.b = 'c'", "ROLLBACK TO s", "COMMIT"], []),
        (["BEGIN", "SET a = 1", "SAVEPOINT s", "SET b = 2", "ROLLBACK TO SAVEPOINT S", "COMMIT"], ["SET a TO 1"]),
        (["BEGIN", "SET a = 1", "SAVEPOINT s", "SET b = 2", "RELEASE s", "COMMIT"], ["SET a TO 1", "SET b TO 2"]),
        (["BEGIN", "SAVEPOINT s", "SET a = 1", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s", "COMMIT"], []),
        (["SET SESSION AUTHORIZATION bob", "SET ROLE r"], ["SET SESSION AUTHORIZATION bob", "SET ROLE r"]),
        (["SET ROLE r", "SET SESSION AUTHORIZATION bob"], ["SET SESSION AUTHORIZATION bob"]),
        (["SET ROLE r", "SET ROLE NONE"], []),
        (["SET a = 1", "SET ROLE r", "LISTEN c", "RESET ALL"], ["SET ROLE r", "LISTEN c"]),
        (["SET a = 1", "SET ROLE r", "LISTEN c", "DISCARD ALL"], []),
        (["LISTEN c", 'LISTEN "C"', "UNLISTEN C"], ['LISTEN "C"']),
        (["LISTEN c", "SET a = 1", "UNLISTEN *"], ["SET a TO 1"]),
        (["SET TIME ZONE 'UTC'", "SET timezone = 'Asia/Tokyo'"], ["SET TIME ZONE 'Asia/Tokyo'"]),
        (["SET SCHEMA 'x'", 'SET search_path TO a, "B"'], ['SET search_path TO a, "B"']),
        (
            ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL repeatable  read, READ ONLY"],
            ["SET default_transaction_isolation TO 'repeatable read'", "SET default_transaction_read_only TO 'on'"],
        ),
    ],
)
def test_what_is_kept_at_a_loss(texts: list[str], kept: list[str]) -> None:
    assert list(after(*texts).kept.values()) == kept


def test_a_secret_is_not_shown() -> None:
    session = after("SET app.password = 'hunter2'")
    assert "hunter2" not in repr(session) + repr(effects_of("SET app.password = 'hunter2'"))


CHANGES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("012")), max_size=5)


@given(CHANGES, CHANGES)
def test_a_rollback_undoes_what_came_after_begin(before: list[tuple[str, str]], within: list[tuple[str, str]]) -> None:
    first = after(*(f"SET {name} = {value}" for name, value in before))
    session = first
    for name, value in within:
        session = session.after((Effect("set", name, value),), in_transaction=True)
    assert session.kept == first.held
    assert session.after((Effect("rollback"),), in_transaction=False).held == first.held
    assert session.after((Effect("commit"),), in_transaction=False).held == {**first.held, **dict(within)}
