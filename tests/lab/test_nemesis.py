"""The harness finds what wrong drivers do, and finds nothing wrong with ours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from aurora_actors.errors import FailoverError, Outcome
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.lab.nemesis import Effect, History, Plan, Reading, Result, Seen, Struck, check, run
from aurora_actors.lab.nemesis.__main__ import show
from aurora_actors.lab.nemesis.faults import FAULTS, schedule
from aurora_actors.lab.nemesis.history import End, Kind
from tests.failover.applications import forget_clusters

SEED = 5
DOUBT = Seen(0.5, "statement", Outcome.UNKNOWN, "lost", "verdict 1.0 ms")
SAFE = Seen(0.5, "statement", Outcome.ROLLED_BACK, "lost", "verdict 1.0 ms")


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    """The labs of both engines go by the same names: what is known of one must not be taken for the other."""
    yield
    forget_clusters()


def effect(
    result: Result = Result.DONE, *seen: Seen, kind: Kind = "insert", key: str = "rows", ended: float = 1.0
) -> Effect:
    return Effect("w", kind, key, "x", ended - 1, ended, result, seen)


def reading(value: int | str, began: float, key: str = "k") -> Reading:
    return Reading("w", key, began, began + 0.5, value)


def history(*records: Effect | Reading, end: End = End(), **other: Any) -> History:  # noqa: B008 - it is frozen
    effects = tuple(record for record in records if isinstance(record, Effect))
    readings = tuple(record for record in records if isinstance(record, Reading))
    made: dict[str, Any] = {"struck": (), "ended_at": 100.0, "back_seconds": 10.0, **other}
    return History(seed=1, workers=("w",), effects=effects, readings=readings, end=end, **made)


def times(count: int) -> End:
    return End(times={"x": count})


STRUCK = Struck("crash", "database-1", 2.0, 3.0)
COMMIT = Seen(0.5, "commit", Outcome.UNKNOWN, "lost", "verdict 1.0 ms")


@pytest.mark.parametrize(
    ("recorded", "rules"),
    [
        (history(effect(), end=times(1)), []),
        (history(effect(), end=times(0)), ["lost"]),
        (history(effect(), end=times(2)), ["twice"]),
        (history(effect(Result.DONE, SAFE), end=times(2)), ["twice"]),
        (history(effect(Result.DONE, DOUBT), end=times(2)), []),
        (history(effect(Result.DONE, DOUBT), end=times(3)), ["twice"]),
        (history(effect(Result.FOUND, DOUBT), end=times(0)), ["lost"]),
        (history(effect(Result.ABSENT, SAFE), end=times(1)), ["undone"]),
        (history(effect(kind="count", key="c"), end=End(counters={"c": 1})), []),
        (history(effect(kind="count", key="c"), end=End(counters={"c": 0})), ["lost"]),
        (history(effect(Result.UNKNOWN, DOUBT, kind="count", key="c"), end=End(counters={"c": 1})), []),
        (history(effect(Result.UNKNOWN, DOUBT, kind="count", key="c"), end=End(counters={"c": 2})), ["twice"]),
        (history(end=End(balances={"a": 5}, moved={"a": 5})), []),
        (history(end=End(balances={"a": 5}, moved={"a": 4})), ["torn"]),
        (history(reading("x y", 1.0), reading("x", 2.0), end=End(lists={"k": "x y"})), ["backwards"]),
        (history(reading("x y", 1.0), reading("x", 1.2), end=End(lists={"k": "x y"})), []),
        (history(reading("x z", 1.0), end=End(lists={"k": "x y"})), ["backwards"]),
        (history(reading(3, 1.0), reading(2, 2.0)), ["backwards"]),
        (history(effect(kind="append", key="k"), reading("", 2.0), end=End({"x": 1}, lists={"k": "x"})), ["backwards"]),
        (history(effect(kind="append", key="k"), reading("x", 2.0), end=End({"x": 1}, lists={"k": "x"})), []),
        (history(effect(ended=8.0), end=times(1), struck=(STRUCK,)), []),
        (history(effect(ended=20.0), end=times(1), struck=(STRUCK,)), ["late"]),
        (history(gave_up={"w": "SyntaxError"}), ["gave up"]),
        (history(effect(Result.DONE, COMMIT), end=times(1)), []),
        (history(effect(Result.DONE, COMMIT), end=times(1), commit_outcome=True), ["undecided"]),
    ],
)
def test_the_rules(recorded: History, rules: list[str]) -> None:
    assert [violation.rule for violation in check(recorded)] == rules


def test_the_evidence_of_a_violation() -> None:
    text = io.StringIO()
    struck = Struck("crash", "database-1", 0.4, 0.6)
    assert show(Console(file=text, width=200), history(effect(Result.DONE, SAFE), end=times(2), struck=(struck,))) == 1
    told = text.getvalue()
    assert "twice: insert x is there 2 times, and may be 1 times" in told
    assert "0.500 s in the statement: lost; verdict 1.0 ms" in told
    assert "0.400 to 0.600 s crash at database-1" in told


def test_a_seed_gives_the_same_faults() -> None:
    assert list(schedule(3, count=40)) == list(schedule(3, count=40)) != list(schedule(4, count=40))
    assert {name for name, _ in schedule(3, count=100)} == set(FAULTS)


def served(lab: PostgresLab | MysqlLab, engine: str, colour: str, *faults: str, **parameters: Any) -> None:
    recorded = run(Plan(engine=engine, colour=colour, seed=SEED, faults=faults, parameters=parameters), lab)
    text = io.StringIO()
    assert show(Console(file=text), recorded) == 0, text.getvalue()
    assert {record.kind for record in recorded.effects if record.result.is_there} == {
        "insert", "count", "transfer", "append",
    }  # fmt: skip
    assert [struck.name for struck in recorded.struck] == list(faults)


@pytest.mark.parametrize(
    ("colour", "faults"),
    [("sync", ("crash", "freeze", "cut-flow", "slow")), ("async", ("black-hole", "drop-sessions", "planned", "restart"))],
)
def test_nothing_is_wrong_on_postgres(aurora_lab: PostgresLab, colour: str, faults: tuple[str, ...]) -> None:
    served(aurora_lab, "postgres", colour, *faults, commit_outcome=True)


@pytest.mark.parametrize(
    ("colour", "faults"),
    [("sync", ("black-hole", "drop-sessions", "planned")), ("async", ("crash", "cut-flow", "restart"))],
)
def test_nothing_is_wrong_on_mysql(aurora_mysql_lab: MysqlLab, colour: str, faults: tuple[str, ...]) -> None:
    served(aurora_mysql_lab, "mysql", colour, *faults)


class Wrong:
    """A connection that passes everything on."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    def __getattr__(self, name: str) -> Any:
        return getattr(self.conn, name)


class Swallowing(Wrong):
    """Says of every tenth COMMIT that it happened, and rolls back."""

    def __init__(self, conn: Any) -> None:
        super().__init__(conn)
        self.commits = 0

    def commit(self) -> None:
        self.commits += 1
        if self.commits % 10:
            self.conn.commit()
        else:
            self.conn.rollback()


class Replaying(Wrong):
    """Sends a statement again that was lost with its session, and says nothing of it."""

    def cursor(self) -> Any:
        return ReplayingCursor(self.conn.cursor())


class ReplayingCursor(Wrong):
    def execute(self, sql: str, values: Any) -> None:
        try:
            self.conn.execute("SELECT pg_sleep(0.02)")  # so that most are in the midst of a transaction when one is dropped
            self.conn.execute(sql, values)
        except FailoverError:
            self.conn.execute(sql, values)


@pytest.mark.parametrize(
    ("wrong", "faults", "rule"), [(Swallowing, ("drop-sessions",), "lost"), (Replaying, ("drop-sessions",) * 4, "torn")]
)
def test_a_wrong_driver_is_found(aurora_lab: PostgresLab, wrong: Any, faults: tuple[str, ...], rule: str) -> None:
    workers = {"transfers": 6}
    recorded = run(Plan(seed=SEED, faults=faults, workers=workers, wrap=wrong, calm_seconds=0.2), aurora_lab)
    found = [violation for violation in check(recorded) if violation.rule == rule]
    assert found
    text = io.StringIO()
    assert show(Console(file=text, width=200), recorded) == 1
    assert "transfer-" in text.getvalue()
    if rule == "torn":  # what is lost without a fault may lie far from any
        assert "drop-sessions at " in text.getvalue()
