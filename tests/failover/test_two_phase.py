"""Two-phase commit under faults: one error, whose outcome is what the new writer holds, and nothing is done twice.

Each step loses its connection on the way to the server or on the way back, on a connection and a table of its own, so that
one fault serves them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import psycopg_pool
import pytest

from aurora_actors import (
    DeadlineExceededError,
    FailoverError,
    FailoverSuccessError,
    Outcome,
    TransactionResolutionUnknownError,
)
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, failover_error_of
from tests.failover.colours import ONE_COLOUR, Colour
from tests.failover.commit_relay import PATIENCE_SECONDS, Relay
from tests.failover.test_deadlines import SHORT, within

COMMITTED, PREPARED, ROLLED_BACK, UNKNOWN = Outcome.COMMITTED, Outcome.PREPARED, Outcome.ROLLED_BACK, Outcome.UNKNOWN


class OfOneText(Relay):
    """Loses the next message that contains a text."""

    text = b""

    def commits(self, data: bytes) -> bool:
        return self.text in data


def prepare(conn: Any) -> None:
    conn.tpc_prepare()


def commit(conn: Any) -> None:
    conn.tpc_commit()


def rollback(conn: Any) -> None:
    conn.tpc_rollback()


def insert(conn: Any) -> None:
    conn.execute("INSERT INTO t VALUES ('inside')")


def recovered(conn: Any) -> None:
    (xid,) = conn.tpc_recover()
    conn.tpc_commit(xid)


@dataclass(frozen=True)
class Step:
    """``there`` and ``back``: what is told where the message with ``text`` is lost, ``is_prepared`` or not before."""

    act: Callable[[Any], None]
    text: bytes
    is_prepared: bool
    there: Outcome
    back: Outcome


STEPS = {
    "before prepare": Step(insert, b"inside", False, ROLLED_BACK, ROLLED_BACK),
    "prepare": Step(prepare, b"PREPARE TRANSACTION", False, ROLLED_BACK, PREPARED),
    "commit": Step(commit, b"COMMIT PREPARED", True, PREPARED, COMMITTED),
    "rollback": Step(rollback, b"ROLLBACK PREPARED", True, PREPARED, ROLLED_BACK),
    "commit in one phase": Step(commit, b"COMMIT\0", False, UNKNOWN, UNKNOWN),
    "rollback in one phase": Step(rollback, b"ROLLBACK\0", False, ROLLED_BACK, ROLLED_BACK),
}


@dataclass
class Trial:
    """One step on a connection and a table of its own, lost on one way."""

    name: str
    way: str
    conn: Any
    relay: OfOneText

    @property
    def table(self) -> str:
        return f"{self.name} {self.way}"

    @property
    def gid(self) -> str:
        return f"{self.table} 'x\\"

    @property
    def step(self) -> Step:
        return STEPS[self.name]

    def begin(self, strike: Callable[[], object]) -> None:
        conn, step, relay = self.conn, self.step, self.relay
        conn.execute(f'CREATE TABLE "{self.table}" (id text)')
        conn.commit()
        conn.tpc_begin(self.gid)
        conn.execute(f'INSERT INTO "{self.table}" VALUES (1)')
        if step.is_prepared:
            conn.tpc_prepare()
        relay.text, relay.lose, relay.meanwhile = step.text, self.way, strike

    def end(self, fresh: Callable[[], Any]) -> str:
        """What is wrong with how it was told; empty: nothing."""
        conn, expected = self.conn, self.step.there if self.way == "there" else self.step.back
        raised = failover_error_of(lambda: self.step.act(conn))
        if isinstance(raised, str):
            return raised
        if not {TransactionResolutionUnknownError, psycopg.OperationalError} <= set(type(raised).__mro__):
            return f"{raised!r} is of the wrong class"
        if not isinstance(raised.__cause__, psycopg.OperationalError) or isinstance(raised.__cause__, FailoverError):
            return f"the cause of {raised!r} is {raised.__cause__!r}"
        if raised.outcome is not expected:
            return f"outcome {raised.outcome} of {raised}"
        if (expected is PREPARED) is not ("finish it with tpc_commit(xid)" in str(raised)) or "_gen" in str(raised):
            return str(raised)
        with fresh() as other:
            gids = {xid.gtrid for xid in other.tpc_recover()}
            rows = other.execute(f'SELECT count(*) FROM "{self.table}"').fetchone()[0]
        if (self.gid in gids) is not (expected is PREPARED):
            return f"{raised.outcome}, but prepared are {gids}"
        if expected is not UNKNOWN and (rows == 1) is not (expected is COMMITTED):
            return f"{raised.outcome}, but there are {rows} rows"
        return self._goes_on(prepared=expected is PREPARED, rows=rows)

    def _goes_on(self, *, prepared: bool, rows: int) -> str:
        conn = self.conn
        conn.execute(f'INSERT INTO "{self.table}" VALUES (2)')
        conn.commit()
        if prepared:
            conn.tpc_commit(self.gid)
        found = conn.execute(f'SELECT count(*) FROM "{self.table}"').fetchone()[0]
        conn.rollback()
        return "" if found == rows + prepared + 1 else f"{found} rows at the end, {rows} before"


STRIKES = [
    pytest.param("kill"),
    pytest.param("crash"),
    pytest.param("crash", marks=pytest.mark.aurora_lab(habit="drop"), id="crash, drop"),
    pytest.param("crash", marks=pytest.mark.aurora_lab(habit="restart"), id="crash, restart"),
]


@pytest.mark.parametrize("strike", STRIKES)
def test_the_outcome_is_what_the_new_writer_holds(
    aurora_lab: PostgresLab, colour: Colour, strike: str, signals_noted: Noted
) -> None:
    with ExitStack() as stack:
        trials = []
        for name in STEPS:
            for way in ("there", "back"):
                relay = OfOneText(aurora_lab)
                stack.callback(relay.close)
                conn = stack.enter_context(colour.connect(aurora_lab, resolve=relay.resolve, autocommit=False))
                trials.append(Trial(name, way, conn, relay))
        there = threading.Barrier(len(trials) + 1)
        old, sessions = aurora_lab.writer, [trial.conn.info.backend_pid for trial in trials]

        def meet() -> None:
            there.wait(PATIENCE_SECONDS)
            there.wait(PATIENCE_SECONDS)

        def fresh() -> Any:
            address, port = aurora_lab.address(aurora_lab.writer)
            return psycopg.connect(aurora_lab.conninfo(hostaddr=address, port=port))

        for trial in trials:
            trial.begin(meet)
        pool = stack.enter_context(ThreadPoolExecutor(len(trials)))
        ends = {trial.table: pool.submit(trial.end, fresh) for trial in trials}
        try:
            there.wait(PATIENCE_SECONDS)
            if strike == "kill":
                for session in sessions:
                    assert aurora_lab.kill_session(old, session)
            else:
                aurora_lab.failover(how="crash")
            there.wait(PATIENCE_SECONDS)
        except BaseException:
            there.abort()
            raise
        wrong = {table: problem for table, end in ends.items() if (problem := end.result(2 * PATIENCE_SECONDS))}
        assert wrong == {}
        assert len(signals_noted.of("connection_switched")) == len(trials)


@pytest.fixture
def relay(aurora_lab: PostgresLab) -> Iterator[OfOneText]:
    made = OfOneText(aurora_lab)
    yield made
    made.close()


def prepared(lab: PostgresLab, colour: Colour, conn: Any, gid: str) -> None:
    """A row in ``t``, whose transaction is prepared."""
    with colour.connect(lab, autocommit=True) as other:
        other.execute("CREATE TABLE IF NOT EXISTS t (id text)")
    conn.tpc_begin(conn.xid(1, gid, ""))
    conn.execute("INSERT INTO t VALUES (%s)", (gid,))
    conn.tpc_prepare()


def rows(conn: Any) -> list[str]:
    found = [row[0] for row in conn.execute("SELECT id FROM t ORDER BY id").fetchall()]
    conn.rollback()
    return found


def test_what_is_prepared_is_finished_on_the_next_writer(
    aurora_lab: PostgresLab, colour: Colour, signals_noted: Noted
) -> None:
    """Connections that are idle between the two phases go elsewhere without an error."""
    with ExitStack() as stack:
        used, one, other, third, last = (stack.enter_context(colour.connect(aurora_lab)) for _ in range(5))
        last.execute("CREATE TEMP TABLE mine (id int)")
        last.commit()
        for conn, gid in ((one, "one"), (other, "other"), (third, "third"), (last, "last")):
            prepared(aurora_lab, colour, conn, gid)
        aurora_lab.failover(how="crash")
        with suppress(FailoverError):
            used.execute("SELECT 1")
        used.rollback()
        one.tpc_commit()
        other.tpc_rollback()
        assert {xid.gtrid for xid in used.tpc_recover()} == {"third", "last"}
        third.tpc_commit()
        with pytest.raises(FailoverSuccessError) as caught:
            last.tpc_commit()
        assert caught.value.outcome is Outcome.NOT_SENT
        assert "Nothing of the tpc_commit was sent" in str(caught.value)
        last.tpc_commit()
        assert rows(used) == ["last", "one", "third"]
        assert used.tpc_recover() == []
        assert [event.idle for event in signals_noted.of("connection_switched")].count(True) == 4
        with pytest.raises(psycopg.errors.UndefinedObject):
            one.tpc_commit(one.xid(1, "one", ""))


@pytest.mark.parametrize(("way", "outcome"), [("there", PREPARED), ("back", UNKNOWN)])
def test_recovery_by_name_is_told_only_what_is_shown(
    aurora_lab: PostgresLab, colour: Colour, relay: OfOneText, way: str, outcome: Outcome
) -> None:
    """A transaction that only was named may have been finished by somebody else: that it is gone says not how."""
    first = colour.connect(aurora_lab)
    prepared(aurora_lab, colour, first, "left")
    first.close()
    with colour.connect(aurora_lab, resolve=relay.resolve, autocommit=False) as conn:
        session = conn.info.backend_pid
        relay.text, relay.lose = b"COMMIT PREPARED", way
        relay.meanwhile = partial(aurora_lab.kill_session, aurora_lab.writer, session)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            recovered(conn)
        assert caught.value.outcome is outcome
        assert ("tpc_recover() lists it" in str(caught.value)) is (outcome is UNKNOWN)
        if outcome is PREPARED:
            recovered(conn)
        assert rows(conn) == ["left"]
        assert conn.tpc_recover() == []


@ONE_COLOUR
def test_while_its_server_keeps_the_old_session_nothing_is_claimed(
    aurora_lab: PostgresLab, colour: Colour, relay: OfOneText
) -> None:
    """The message that was lost on its way may still arrive."""
    with colour.connect(aurora_lab, resolve=relay.resolve, autocommit=False) as conn:
        prepared(aurora_lab, colour, conn, "late")
        relay.text, relay.lose = b"ROLLBACK PREPARED", "there"
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            conn.tpc_rollback()
        assert caught.value.outcome is UNKNOWN
        assert "tpc_recover() lists it" in str(caught.value)
        with pytest.raises(psycopg.ProgrammingError, match="without xid"):
            conn.tpc_commit()
        assert b"ROLLBACK PREPARED" in relay.deliver()
        assert conn.tpc_recover() == []
        assert rows(conn) == []


def test_a_prepare_that_its_deadline_ended_is_in_doubt(aurora_lab: PostgresLab, colour: Colour, relay: OfOneText) -> None:
    """The next session asks for the transaction by its name."""
    with colour.connect(aurora_lab, resolve=relay.resolve, autocommit=False) as conn:
        conn.execute("CREATE TABLE t (id text)")
        conn.commit()
        conn.tpc_begin("doubted")
        conn.execute("INSERT INTO t VALUES ('doubted')")
        server = aurora_lab.cluster.writer.server
        held = threading.Event()
        relay.text, relay.lose = b"PREPARE TRANSACTION", "there"
        relay.meanwhile = partial(held.wait, PATIENCE_SECONDS)
        with pytest.raises(DeadlineExceededError) as caught:
            within(colour, SHORT, colour.plain(conn).tpc_prepare)
        held.set()
        assert caught.value.outcome is UNKNOWN
        assert "tpc_recover() lists it" in str(caught.value)
        with pytest.raises(FailoverError):
            conn.execute("SELECT 1")
        assert conn._tpc is None
        relay.deliver()
        assert server.query("SELECT gid FROM pg_prepared_xacts") == [("doubted",)]
        conn.tpc_rollback("doubted")
        assert rows(conn) == []


@ONE_COLOUR
def test_what_somebody_else_finished_is_not_claimed(aurora_lab: PostgresLab, colour: Colour, relay: OfOneText) -> None:
    """Once the server has refused a step, that the transaction is gone says nothing any more."""
    with colour.connect(aurora_lab, resolve=relay.resolve, autocommit=False) as conn:
        prepared(aurora_lab, colour, conn, "taken")
        with colour.connect(aurora_lab, autocommit=True) as other:
            (xid,) = other.tpc_recover()
            other.tpc_commit(xid)
        with pytest.raises(psycopg.errors.UndefinedObject):
            conn.tpc_rollback()
        relay.text, relay.lose = b"ROLLBACK PREPARED", "back"
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            conn.tpc_rollback()
        assert caught.value.outcome is UNKNOWN
        assert rows(conn) == ["taken"]


@ONE_COLOUR
def test_a_pool_s_next_user_has_nothing_to_finish(aurora_lab: PostgresLab, colour: Colour, relay: OfOneText) -> None:
    kwargs = {"resolve": relay.resolve}
    with psycopg_pool.ConnectionPool(
        aurora_lab.conninfo(), connection_class=colour.ours, kwargs=kwargs, min_size=1, max_size=1
    ) as pool:
        relay.text, relay.lose = b"PREPARE TRANSACTION", "back"
        with pytest.raises(TransactionResolutionUnknownError) as caught, pool.connection() as conn:
            prepared(aurora_lab, colour, conn, "pooled")
        assert caught.value.outcome is PREPARED
        with pool.connection() as same:
            same.execute("INSERT INTO t VALUES ('next')")
        assert same is conn
        with pool.connection() as same:
            assert rows(same) == ["next"]
            recovered(same)
            assert rows(same) == ["next", "pooled"]
