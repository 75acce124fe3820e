"""From a lost connection to the error that says what happened: each case in both colours, with the same story."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from aurora_actors import errors, signals
from aurora_actors.actors.asking import DeadlineExceeded
from aurora_actors.actors.base import ActorStopped
from aurora_actors.actors.cluster import Cluster
from aurora_actors.flow.recovering import failed_over
from aurora_actors.model.failover import Mode
from aurora_actors.model.faults import Fault
from aurora_actors.model.hosts import Role
from aurora_actors.model.outcome import Operation, Outcome
from aurora_actors.model.topology import Verdict
from aurora_actors.plugin import Recover
from tests.flow.stage import COLOURS, SECONDS, START, Refused, Stage, StageWire, host, stage

W, R = Role.WRITER, Role.READER
MOVED = Verdict(at=START - 5, doubt=START - 8, promotion=2)
B = (host("db-2", W),)
DOWN = psycopg.OperationalError("connection refused")
SUCCESS, UNRESOLVED, FAILED = (
    errors.FailoverSuccessError,
    errors.TransactionResolutionUnknownError,
    errors.FailoverFailedError,
)


@dataclass(frozen=True)
class Case:
    """What is known, scripted and given; the story that follows, and the error that the application gets."""

    story: list[str]
    error: type[Exception]
    outcome: Outcome = Outcome.UNKNOWN
    roles: dict[str, Role] = field(default_factory=lambda: {"db-1": R, "db-2": W, "db-3": R})
    answers: list[Any] = field(default_factory=list[Any])
    known: str = "db-1"
    verdict: Verdict | None = None
    fails: dict[str, list[Exception]] = field(default_factory=dict[str, list[Exception]])
    query_fails: list[Exception] = field(default_factory=list[Exception])
    restore_fails: list[Exception] = field(default_factory=list[Exception])
    given: dict[str, Any] = field(default_factory=dict[str, Any])
    mode: Mode = Mode.STRICT_WRITER
    operation: Operation = field(default_factory=lambda: Operation("execute", "INSERT", autocommit=True))
    attempts: int = 0
    searched: bool = True


FIND = "find strict_writer"
TO_B = ["connect db-2 unguarded", "ask db-2", "restore db-2", "swap db-1 db-2"]
CASES = {
    "the new writer is known: nobody is asked": Case(
        TO_B, SUCCESS, known="db-2", verdict=MOVED, searched=False
    ),
    "the new writer is searched for": Case([FIND, *TO_B], SUCCESS, answers=[B]),
    "the session goes on where it was": Case(
        [FIND, "connect db-1 unguarded", "ask db-1", "restore db-1", "swap db-1 db-1"],
        SUCCESS,
        answers=[(host("db-1", W),)],
        roles={"db-1": W, "db-2": R},
    ),
    "a transaction that was open is rolled back": Case(
        [FIND, *TO_B],
        UNRESOLVED,
        Outcome.ROLLED_BACK,
        answers=[B],
        operation=Operation("execute", "INSERT", in_transaction=True),
    ),
    "a commit in flight is unresolved": Case(
        [FIND, *TO_B],
        UNRESOLVED,
        answers=[B],
        operation=Operation("commit", in_transaction=True, commits=True),
    ),
    "what was not sent can be repeated": Case(
        [FIND, *TO_B],
        SUCCESS,
        Outcome.NOT_SENT,
        answers=[B],
        operation=Operation("execute", "INSERT", autocommit=True, sent=False),
    ),
    "a host that cannot be reached has to be found anew": Case(
        [FIND, "connect db-2 unguarded", "sleep 0.025", FIND, *TO_B],
        SUCCESS,
        answers=[B, B],
        fails={"db-2": [DOWN]},
        attempts=1,
    ),
    "a known writer that is gone is searched for": Case(
        ["connect db-2 unguarded", "sleep 0.025", FIND, *TO_B],
        SUCCESS,
        known="db-2",
        verdict=MOVED,
        answers=[B],
        fails={"db-2": [DOWN]},
        attempts=1,
    ),
    "a known writer that refuses lives and is asked again": Case(
        ["connect db-2 unguarded", "sleep 0.025", "connect db-2 unguarded", "sleep 0.050", *TO_B],
        SUCCESS,
        known="db-2",
        verdict=MOVED,
        fails={"db-2": [Refused("FATAL: no"), Refused("FATAL: no")]},
        attempts=2,
        searched=False,
    ),
    "a host in another role is left": Case(
        [FIND, "connect db-3 unguarded", "ask db-3", "discard db-3", "sleep 0.025", FIND, *TO_B],
        SUCCESS,
        answers=[(host("db-3", W),), B],
        attempts=1,
    ),
    "a host that dies under the question is left": Case(
        [FIND, "connect db-2 unguarded", "ask db-2", "discard db-2", "sleep 0.025", FIND, *TO_B],
        SUCCESS,
        answers=[B, B],
        query_fails=[DOWN],
        attempts=1,
    ),
    "a session that cannot be restored is left": Case(
        [FIND, *TO_B[:3], "discard db-2", "sleep 0.025", FIND, *TO_B],
        SUCCESS,
        answers=[B, B],
        restore_fails=[DOWN],
        attempts=1,
    ),
    "a session is not restored when that was asked for": Case(
        [FIND, *(step for step in TO_B if "restore" not in step)],
        SUCCESS,
        answers=[B],
        given={"transfer_session_state_on_switch": False},
    ),
    "a reader goes on at a reader": Case(
        ["find strict_reader", "connect db-3 unguarded", "ask db-3", "restore db-3", "swap db-1 db-3"],
        SUCCESS,
        answers=[(host("db-3", R),)],
        mode=Mode.STRICT_READER,
    ),
    "a strict reader takes the only host there is": Case(
        ["find strict_reader", "connect db-1 unguarded", "ask db-1", "restore db-1", "swap db-1 db-1"],
        SUCCESS,
        answers=[(host("db-1", W),)],
        roles={"db-1": W},
        mode=Mode.STRICT_READER,
    ),
    "nobody answers within the limit": Case(
        [FIND, "give up db-1"], FAILED, answers=[DeadlineExceeded("late")]
    ),
    "hosts that never work are tried until the limit": Case(
        [FIND, "connect db-2 unguarded", "sleep 0.014", "give up db-1"],
        FAILED,
        answers=[B],
        fails={"db-2": [DOWN]},
        given={"failover_timeout_sec": 0.02},
        attempts=1,
    ),
    "a broken machinery leaves the driver's error": Case(
        [FIND], psycopg.OperationalError, answers=[ActorStopped("it crashed")]
    ),
}


def recovered(made: Stage, case: Case) -> tuple[Any, Recover]:
    control = made.cluster(case.known, verdict=case.verdict)
    proxy = made.proxy("database", mode=case.mode, **case.given)
    lost = host("db-1", W if case.mode is Mode.STRICT_WRITER else R)
    wire = StageWire("db-1", "db-1")  # which the application holds
    proxy.placed(wire, lost, START - 9, control.naming.dialect, control)
    call = Recover(DOWN, Fault.CONNECTION_LOST, case.operation, made.now())
    return made.run(failed_over(proxy, control, call)), call


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", CASES)
def test_recovery(name: str, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    script = {"roles": dict(case.roles), "answers": list(case.answers)}
    script |= {"query_fails": list(case.query_fails), "restore_fails": list(case.restore_fails)}
    fails = {host: list(errors) for host, errors in case.fails.items()}
    with stage(colour, monkeypatch, **script, fails=fails) as (made, told):
        error, call = recovered(made, case)
        assert made.story == case.story
        if not issubclass(case.error, errors.FailoverError):
            assert error is call.error
            return
        assert isinstance(error, case.error)
        assert isinstance(error, psycopg.OperationalError)
        assert error.outcome is case.outcome
        assert len(error.attempts) == case.attempts
        assert error.ledger is not None
        moved = next((step.split()[-1] for step in made.story if step.startswith("swap")), None)
        assert (error.host.id if error.host else None) == moved
        if moved is not None:
            assert error.ledger.searched is case.searched
        assert signals.settle(SECONDS)
        switched = [event for signal, event in told if signal == "connection_switched"]
        assert [(e.old_host.id, e.new_host.id, e.outcome) for e in switched] == (
            [("db-1", moved, case.outcome.value)] if moved else []
        )


@pytest.mark.parametrize("colour", COLOURS)
def test_a_process_without_threads_to_spare_leaves_the_drivers_error(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Cluster, topology: Any) -> Any:
        raise RuntimeError("can't start new thread")

    with stage(colour, monkeypatch) as (made, _):
        monkeypatch.setattr(Cluster, "_start_failover", start)
        error, call = recovered(made, CASES["a broken machinery leaves the driver's error"])
    assert error is call.error


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("step", ["ask db-2", "restore db-2"])
def test_an_interrupted_recovery_leaves_no_connection(
    step: str, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a thread, a cancelled task in asyncio."""

    def interrupt(entry: str) -> None:
        if entry == step:
            if colour == "thread":
                raise KeyboardInterrupt
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    kind: type[BaseException] = KeyboardInterrupt if colour == "thread" else asyncio.CancelledError
    with stage(colour, monkeypatch, roles={"db-1": R, "db-2": W}, answers=[B], before=interrupt) as (made, _):
        with pytest.raises(kind):
            recovered(made, CASES["the new writer is searched for"])
        assert made.story[-2:] == [step, "discard db-2"]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_error_tells_the_whole_story(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["a known writer that refuses lives and is asked again"]
    fails: dict[str, list[BaseException]] = {"db-2": [Refused("FATAL: the database system is full")]}
    with stage(colour, monkeypatch, roles=dict(case.roles), fails=fails) as (made, _):
        error, _ = recovered(made, case)
    words: Callable[[str], bool] = str(error).__contains__
    assert words("connection refused")
    assert words("db-2")
    assert words("look before you run it again")
    assert [attempt.error for attempt in error.attempts] == ["FATAL: the database system is full"]
    steps = (error.ledger.verdict, error.ledger.writer_known, error.ledger.connected, error.ledger.restored)
    assert list(steps) == sorted(steps)
