"""What became of a COMMIT that its connection died in: lost on its way there, and on the way back; told by the writer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

import aurora_actors
from aurora_actors import FailoverError, Outcome, cli
from aurora_actors.errors import ConfigurationError
from aurora_actors.lab import PostgresLab
from aurora_actors.model.outcome import told_by
from tests.failover.colours import ONE_COLOUR, Colour
from tests.failover.commit_relay import TOKEN, Relay


@pytest.mark.parametrize(("token", "found", "outcome"), [
    ("2", "2", Outcome.COMMITTED), ("2", "1", Outcome.ROLLED_BACK), ("1", "", Outcome.ROLLED_BACK),
])  # fmt: skip
def test_the_token_decides(token: str, found: str, outcome: Outcome) -> None:
    assert told_by(token, found) is outcome
    assert outcome.safe_to_repeat is (outcome is Outcome.ROLLED_BACK)


@pytest.fixture
def relay(aurora_lab: PostgresLab) -> Iterator[Relay]:
    made = Relay(aurora_lab)
    yield made
    made.close()


def url(lab: PostgresLab) -> str:
    given = conninfo_to_dict(lab.conninfo("writer"))
    address, port = lab.address(lab.writer)
    return f"postgresql://{given['user']}:{given['password']}@{address}:{port}/{given['dbname']}"


def installed(lab: PostgresLab, *arguments: str) -> None:
    result = CliRunner().invoke(cli.build(), ["commit-outcome", "install", url(lab), *arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture
def table(aurora_lab: PostgresLab) -> None:
    installed(aurora_lab)
    with psycopg.connect(url(aurora_lab), autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS t (id int)")
        conn.execute("TRUNCATE t, aurora_actors.commits")


def commit(conn: Any) -> None:
    conn.execute("INSERT INTO t VALUES (1)")
    conn.commit()


def block(conn: Any) -> None:
    with conn.transaction(), conn.transaction():
        conn.execute("INSERT INTO t VALUES (1)")


def rows(conn: Any) -> list[Any]:
    found: list[Any] = conn.execute("SELECT id FROM t").fetchall()
    conn.rollback()
    return found


def replaced(lab: PostgresLab, *, silent: bool) -> None:
    if silent:
        lab.black_hole(lab.writer)
    lab.failover()


@pytest.mark.parametrize("strike", ["", "crash", "black hole"])
@pytest.mark.parametrize(("lost", "outcome"), [("there", Outcome.ROLLED_BACK), ("back", Outcome.COMMITTED)])
def test_a_lost_commit_is_told(
    aurora_lab: PostgresLab,
    colour: Colour,
    relay: Relay,
    table: None,
    lost: str,
    outcome: Outcome,
    strike: str,
) -> None:
    with colour.connect(aurora_lab, commit_outcome=True, resolve=relay.resolve) as conn:
        commit(conn)
        before = [(1,)]
        # A host is replaced once; where it stays, the connection goes on there, on one session after the other.
        for work in (block,) if strike else (commit, block):
            relay.lose = lost
            if strike:
                relay.meanwhile = partial(replaced, aurora_lab, silent=strike == "black hole")
            with pytest.raises(FailoverError) as caught:
                work(conn)
            assert caught.value.outcome is outcome
            assert ("was committed" in str(caught.value)) is (outcome is Outcome.COMMITTED)
            before += [(1,)] * (outcome is Outcome.COMMITTED)
            assert rows(conn) == before


@ONE_COLOUR
def test_what_arrives_after_the_look_is_not_committed(
    aurora_lab: PostgresLab, colour: Colour, relay: Relay, table: None
) -> None:
    with colour.connect(aurora_lab, commit_outcome=True, resolve=relay.resolve) as conn:
        relay.lose = "there"
        with pytest.raises(FailoverError) as caught:
            commit(conn)
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert b"commits nothing more" in relay.deliver()
        assert rows(conn) == []


def test_what_wrote_nothing_leaves_no_token(aurora_lab: PostgresLab, colour: Colour, table: None) -> None:
    with colour.connect(aurora_lab, commit_outcome=True) as conn:
        conn.execute("CREATE TEMP TABLE of_session (id int)")
        conn.commit()
        committed = "SELECT token FROM aurora_actors.commits"
        assert conn.execute(committed).fetchall() == [("1",)]
        conn.commit()
        conn.read_only = True
        conn.execute("INSERT INTO of_session VALUES (1)")
        conn.commit()
        assert conn.execute(committed).fetchall() == [("1",)]
        conn.commit()
        conn.read_only = False
        commit(conn)
        assert conn.execute(committed).fetchall() == [("5",)]


def test_it_costs_no_round_trip(aurora_lab: PostgresLab, colour: Colour, relay: Relay, table: None) -> None:
    with colour.connect(aurora_lab, commit_outcome=True, resolve=relay.resolve) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        before = len([text for text in relay.texts if b"COMMIT" in text])
        conn.commit()
        sent = [text for text in relay.texts if b"COMMIT" in text][before:]
        assert len(sent) == 1
        assert TOKEN in sent[0]


def test_a_commit_that_cannot_be_marked_commits(
    aurora_lab: PostgresLab, colour: Colour, relay: Relay, table: None, caplog: pytest.LogCaptureFixture
) -> None:
    with colour.connect(aurora_lab, commit_outcome=True, resolve=relay.resolve) as conn:
        with psycopg.connect(url(aurora_lab), autocommit=True) as owner:
            owner.execute("DROP SCHEMA aurora_actors CASCADE")
        for work in (commit, block):
            work(conn)
        assert rows(conn) == [(1,), (1,)]
        assert [record.message for record in caplog.records if "goes unmarked" in record.message]


def test_an_error_of_commit_is_the_servers_own(aurora_lab: PostgresLab, colour: Colour, table: None) -> None:
    with colour.connect(aurora_lab, commit_outcome=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        conn.execute("INSERT INTO once VALUES (1), (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.commit()
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        commit(conn)


@ONE_COLOUR
def test_without_the_table_or_a_grant_connect_says_what_to_do(
    aurora_lab: PostgresLab, colour: Colour, table: None
) -> None:
    user = str(conninfo_to_dict(url(aurora_lab))["user"])
    with psycopg.connect(url(aurora_lab), autocommit=True) as owner:
        revoke = f'REVOKE EXECUTE ON FUNCTION aurora_actors.mark(text, text) FROM "{user}"'
        for spoilt in (revoke, "DROP SCHEMA aurora_actors CASCADE"):
            owner.execute(spoilt.encode())
            with pytest.raises(ConfigurationError, match="aurora-actors commit-outcome install"):
                colour.connect(aurora_lab, commit_outcome=True)
        installed(aurora_lab, "--grant-to", user)
        colour.connect(aurora_lab, commit_outcome=True).close()


@pytest.mark.parametrize(("lost", "tries"), [("there", 2), ("back", 1)])
def test_a_unit_of_work_happens_once(
    aurora_lab: PostgresLab, colour: Colour, relay: Relay, table: None, lost: str, tries: int
) -> None:
    from aurora_actors import aio

    done: list[int] = []

    def work(unit: Any) -> int:
        done.append(1)
        return 7

    async def work_async(unit: Any) -> int:
        await unit.execute("INSERT INTO t VALUES (1)")
        return work(unit)

    def work_in_threads(unit: Any) -> int:
        unit.execute("INSERT INTO t VALUES (1)")
        return work(unit)

    with colour.connect(aurora_lab, commit_outcome=True, resolve=relay.resolve) as conn:
        relay.lose = lost
        if colour.name == "threads":
            assert aurora_actors.run_transaction(conn, work_in_threads) == 7
        else:
            assert colour.run(aio.run_transaction, colour.plain(conn), work_async) == 7
        assert len(done) == tries
        assert rows(conn) == [(1,)]


@ONE_COLOUR
def test_rows_of_long_ago_can_be_removed(aurora_lab: PostgresLab, colour: Colour, table: None) -> None:
    with psycopg.connect(url(aurora_lab), autocommit=True) as owner:
        owner.execute("INSERT INTO aurora_actors.commits VALUES ('old', '1', false, now() - interval '8 days')")
        owner.execute("INSERT INTO aurora_actors.commits VALUES ('new', '1')")
        assert CliRunner().invoke(cli.build(), ["commit-outcome", "prune", url(aurora_lab)]).exit_code == 0
        assert owner.execute("SELECT session FROM aurora_actors.commits").fetchall() == [("new",)]
