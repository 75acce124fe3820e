"""What an application is told about what was in flight, wherever in psycopg the connection was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aurora_actors import FailoverError, Outcome
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.colours import Colour

Lose = Callable[[], None]
INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    system.stop(5.0)


def execute(conn: Any, lose: Lose) -> None:
    lose()
    conn.execute(INSERT)


def execute_in_block(conn: Any, lose: Lose) -> None:
    with conn.transaction():
        conn.execute(INSERT)
        lose()
        conn.execute(INSERT)


def begin_block(conn: Any, lose: Lose) -> None:
    lose()
    with conn.transaction():
        pytest.fail("the block began on a lost connection")


def end_block(conn: Any, lose: Lose) -> None:
    with conn.transaction():
        conn.execute(INSERT)
        lose()


def commit(conn: Any, lose: Lose) -> None:
    conn.execute(INSERT)
    lose()
    conn.commit()


def rollback(conn: Any, lose: Lose) -> None:
    conn.execute(INSERT)
    lose()
    conn.rollback()


def commit_as_text(conn: Any, lose: Lose) -> None:
    conn.execute("BEGIN")
    conn.execute(INSERT)
    lose()
    conn.execute("COMMIT")


def pipeline(conn: Any, lose: Lose) -> None:
    with conn.pipeline():
        conn.execute(INSERT)
        lose()
        conn.execute(INSERT).fetchone()


def copy_in(conn: Any, lose: Lose) -> None:
    with conn.cursor().copy("COPY t FROM STDIN") as copying:
        copying.write_row((1,))
        lose()


CASES = [
    (execute, True, Outcome.UNKNOWN),
    (execute, False, Outcome.ROLLED_BACK),
    (execute_in_block, True, Outcome.ROLLED_BACK),
    (begin_block, True, Outcome.ROLLED_BACK),
    (end_block, True, Outcome.UNKNOWN),
    (commit, False, Outcome.UNKNOWN),
    (rollback, False, Outcome.ROLLED_BACK),
    (commit_as_text, True, Outcome.UNKNOWN),
    (pipeline, True, Outcome.UNKNOWN),
    (copy_in, True, Outcome.UNKNOWN),
    (copy_in, False, Outcome.ROLLED_BACK),
]


@pytest.mark.parametrize(("work", "autocommit", "outcome"), CASES)
def test_outcome(
    aurora_lab: PostgresLab, colour: Colour, work: Callable[[Any, Lose], None], autocommit: bool, outcome: Outcome
) -> None:
    with colour.connect(aurora_lab, autocommit=autocommit) as conn:
        conn.execute("CREATE TABLE t (id int)")
        conn.commit()
        pid = conn.info.backend_pid
        with pytest.raises(FailoverError) as caught:
            work(conn, lambda: _killed(aurora_lab, pid))
        assert caught.value.outcome is outcome
        assert conn.execute("SELECT * FROM t").fetchall() == []


def _killed(lab: PostgresLab, pid: int) -> None:
    assert lab.kill_session(lab.writer, pid)
