"""What became of a COMMIT on MySQL: lost on its way there, and on the way back; told by the writer, in every face."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import mysql.connector
import pytest
from typer.testing import CliRunner

import aurora_actors
from aurora_actors import FailoverError, Outcome, cli
from aurora_actors.errors import ConfigurationError
from aurora_actors.lab import MysqlLab
from tests.failover.commit_relay import PATIENCE_SECONDS, MysqlRelay
from tests.failover.mysql_faces import Face, done, in_every_face, kill_own_session, query

DEADLINE_SECONDS = 1.0
"""Longer than a busy machine needs to have the COMMIT on its way."""
TOKENS = "SELECT token FROM aurora_actors.commits WHERE session <> ''"


def owner(lab: MysqlLab) -> Any:
    """A connection of the driver's alone."""
    return aurora_actors.connect(mysql.connector.connect, lab.conninfo(), plugins="", use_pure=True, autocommit=True)


def told(lab: MysqlLab, *statements: str) -> list[Any]:
    """The rows of the last of *statements*."""
    conn = owner(lab)
    rows: list[Any] = []
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    conn.close()
    return rows


def url(lab: MysqlLab) -> str:
    address, port = lab.address(lab.writer)
    user, password = (lab.parameters()[name] for name in ("user", "password"))
    return f"mysql://{user}:{password}@{address}:{port}/db?use_pure=true"


def installed(lab: MysqlLab, *arguments: str) -> None:
    result = CliRunner().invoke(cli.build(), ["commit-outcome", "install", url(lab), *arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture
def table(aurora_mysql_lab: MysqlLab) -> None:
    installed(aurora_mysql_lab)
    told(aurora_mysql_lab, "CREATE TABLE IF NOT EXISTS t (id int)", "TRUNCATE t")
    told(aurora_mysql_lab, "DELETE FROM aurora_actors.commits WHERE session <> ''")


@pytest.fixture
def relay(aurora_mysql_lab: MysqlLab) -> Iterator[MysqlRelay]:
    made = MysqlRelay(aurora_mysql_lab)
    yield made
    made.close()


async def commit(conn: Any) -> None:
    await query(conn, "INSERT INTO t VALUES (1)")
    await done(conn.commit())


async def rows(conn: Any) -> int:
    found = len(await query(conn, "SELECT id FROM t"))
    await done(conn.rollback())
    return found


@pytest.mark.parametrize("strike", [False, True], ids=["", "crash"])
@pytest.mark.parametrize(("lost", "outcome"), [("there", Outcome.ROLLED_BACK), ("back", Outcome.COMMITTED)])
@in_every_face
async def test_a_lost_commit_is_told(
    aurora_mysql_lab: MysqlLab, face: Face, relay: MysqlRelay, table: None, lost: str, outcome: Outcome, strike: bool
) -> None:
    """Where the host stays, the server still has the session, with the transaction that the COMMIT did not reach."""
    given: dict[str, Any] = {"commit_outcome": True, "resolve": relay.resolve, "autocommit": False}
    async with face.connection(aurora_mysql_lab, **given) as conn:
        await commit(conn)
        relay.lose = lost
        if strike:
            relay.meanwhile = partial(aurora_mysql_lab.failover, how="crash")
        with pytest.raises(FailoverError) as caught:
            await commit(conn)
        assert caught.value.outcome is outcome
        expected = 1 + (outcome is Outcome.COMMITTED)
        assert await rows(conn) == expected
        await commit(conn)
        assert await rows(conn) == expected + 1
        limits = "SELECT @@session.innodb_lock_wait_timeout = @@global.innodb_lock_wait_timeout"
        assert await query(conn, limits) == [(1,)]


@in_every_face
async def test_a_session_that_was_given_up_commits_nothing_more(
    aurora_mysql_lab: MysqlLab, face: Face, table: None
) -> None:
    async with face.connection(aurora_mysql_lab, commit_outcome=True, autocommit=False) as conn:
        await commit(conn)
        told(aurora_mysql_lab, "UPDATE aurora_actors.commits SET closed = TRUE WHERE session <> ''")
        await query(conn, "INSERT INTO t VALUES (1)")
        with pytest.raises(mysql.connector.IntegrityError):
            await done(conn.commit())
        await done(conn.rollback())
        assert await rows(conn) == 1


@in_every_face
async def test_where_nothing_is_open_or_may_be_written_there_is_no_token(
    aurora_mysql_lab: MysqlLab, face: Face, table: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with face.connection(aurora_mysql_lab, commit_outcome=True, autocommit=False) as conn:
        await done(conn.commit())
        await query(conn, "START TRANSACTION READ ONLY")
        await query(conn, "SELECT id FROM t")
        await done(conn.commit())
        assert told(aurora_mysql_lab, TOKENS) == []
        await commit(conn)
        assert len(told(aurora_mysql_lab, TOKENS)) == 1
    assert "goes unmarked" not in caplog.text


@in_every_face
async def test_a_commit_that_cannot_be_marked_commits(
    aurora_mysql_lab: MysqlLab, face: Face, table: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with face.connection(aurora_mysql_lab, commit_outcome=True, autocommit=False) as conn:
        told(aurora_mysql_lab, "DROP DATABASE aurora_actors")
        await commit(conn)
        assert await rows(conn) == 1
        assert "goes unmarked" in caplog.text


@in_every_face
async def test_a_transaction_that_the_server_rolled_back_is_not_committed(
    aurora_mysql_lab: MysqlLab, face: Face, table: None
) -> None:
    async with face.connection(aurora_mysql_lab, commit_outcome=True, autocommit=False) as conn:
        await query(conn, "INSERT INTO t VALUES (1)")
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverError) as caught:
            await done(conn.commit())
        assert caught.value.outcome is Outcome.ROLLED_BACK
        assert await rows(conn) == 0


def test_without_the_table_connect_says_what_to_do(aurora_mysql_lab: MysqlLab, table: None) -> None:
    told(aurora_mysql_lab, "DROP DATABASE aurora_actors")

    def connected() -> Any:
        return aurora_actors.connect(
            mysql.connector.connect, aurora_mysql_lab.conninfo(), use_pure=True, commit_outcome=True
        )

    with pytest.raises(ConfigurationError, match="aurora-actors commit-outcome install"):
        connected()
    installed(aurora_mysql_lab, "--grant-to", "john")
    connected().close()


def test_users_are_granted_what_a_commit_needs() -> None:
    asked = ["commit-outcome", "install", "mysql://x@h/", "--grant-to", "app@10.%", "--show"]
    shown = CliRunner().invoke(cli.build(), asked)
    assert "GRANT SELECT, INSERT, UPDATE ON aurora_actors.commits TO `app`@`10.%`;" in shown.output


def test_rows_of_long_ago_can_be_removed(aurora_mysql_lab: MysqlLab, table: None) -> None:
    told(aurora_mysql_lab, "INSERT INTO aurora_actors.commits VALUES ('old', '1', 0, UTC_TIMESTAMP() - INTERVAL 8 DAY)")
    told(aurora_mysql_lab, "INSERT INTO aurora_actors.commits (session, token) VALUES ('new', '1')")
    assert CliRunner().invoke(cli.build(), ["commit-outcome", "prune", url(aurora_mysql_lab)]).exit_code == 0
    assert told(aurora_mysql_lab, "SELECT session FROM aurora_actors.commits ORDER BY session") == [("",), ("new",)]


@pytest.mark.parametrize("then", ["commit", "rollback", "statement"])
@in_every_face
async def test_a_commit_that_a_deadline_ended_is_not_told_as_rolled_back_later(
    aurora_mysql_lab: MysqlLab, face: Face, relay: MysqlRelay, table: None, then: str
) -> None:
    """It did happen. What the application calls next finds the session gone, and must not claim the opposite."""
    over = threading.Event()
    relay.meanwhile = partial(over.wait, PATIENCE_SECONDS)
    given: dict[str, Any] = {"commit_outcome": True, "resolve": relay.resolve, "autocommit": False}
    async with face.connection(aurora_mysql_lab, **given) as conn:
        await query(conn, "INSERT INTO t VALUES (1)")
        relay.lose = "back"
        with pytest.raises(aurora_actors.DeadlineExceededError) as late, aurora_actors.deadline(DEADLINE_SECONDS):
            await done(conn.commit())
        over.set()
        assert late.value.outcome is Outcome.UNKNOWN
        assert told(aurora_mysql_lab, "SELECT id FROM t") == [(1,)]
        call = partial(query, conn, "SELECT 1") if then == "statement" else getattr(conn, then)
        with pytest.raises(FailoverError) as caught:
            await done(call())
        assert caught.value.outcome is (Outcome.UNKNOWN if then == "statement" else Outcome.COMMITTED)
        await commit(conn)
        assert await rows(conn) == 2
