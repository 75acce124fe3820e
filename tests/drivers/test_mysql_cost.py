"""What a guarded MySQL connection adds to a statement: counted, not timed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors.lab import MysqlLab
from tests.drivers.test_psycopg_cost import noting, python_calls
from tests.failover.applications import forget_clusters
from tests.failover.mysql_faces import Face, done, in_every_face

ROWS = " UNION ALL ".join(f"SELECT {n}" for n in range(20))
PURE = [pytest.param(True, id="pure")]
if mysql.connector.HAVE_CEXT:
    PURE.append(pytest.param(False, id="c"))


@pytest.fixture(params=PURE)
def pair(request: pytest.FixtureRequest, aurora_mysql_lab: MysqlLab) -> Iterator[Any]:
    address, port = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    given = {"use_pure": request.param, "autocommit": True}
    raw = mysql.connector.connect(**aurora_mysql_lab.parameters("writer", host=address, port=port), **given)
    ours = aurora_actors.connect(mysql.connector.connect, aurora_mysql_lab.conninfo(), **given)
    gc.collect()  # of what other tests left: its finalizers would be counted
    yield raw, ours
    raw.close()
    ours.close()
    forget_clusters()


def added(pair: Any, call: Any, **kind: Any) -> int:
    """How many calls of Python functions ours makes more."""
    counts: list[int] = []
    for conn in pair:
        cursor = conn.cursor(**kind)
        for statement in (ROWS, ROWS):
            # The first time a text is read.
            cursor.execute(statement)
            cursor.fetchall()
        counts.append(call(cursor))
    return counts[1] - counts[0]


def test_a_statement_costs_two_calls(pair: Any) -> None:
    """The cursor's and, within it, the connection's."""
    assert added(pair, lambda cursor: python_calls(partial(cursor.execute, ROWS))) == 2


def fetched(cursor: Any, count: int) -> int:
    cursor.execute(ROWS)
    calls = python_calls(lambda: [cursor.fetchone() for _ in range(count)])
    cursor.fetchall()
    return calls


def test_rows_in_memory_cost_nothing(pair: Any) -> None:
    assert added(pair, partial(fetched, count=10), buffered=True) == 0


def test_rows_read_one_by_one_from_the_network_cost_a_call_each(pair: Any) -> None:
    few, more = (added(pair, partial(fetched, count=count)) for count in (2, 12))
    assert more - few <= 10


def test_rows_read_at_once_cost_one_call(pair: Any) -> None:
    def all_of(cursor: Any) -> int:
        cursor.execute(ROWS)
        return python_calls(cursor.fetchall)

    assert added(pair, all_of) <= 3


@in_every_face
async def test_two_functions_of_ours_run_per_execute_and_one_per_row_read(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await done(cursor.execute(ROWS))
        await done(cursor.fetchall())
        counts = []
        # The driver reads one row ahead with the first.
        for fn in (partial(cursor.execute, ROWS), cursor.fetchone, cursor.fetchone):
            found: set[FrameType] = set()
            await (noting(fn, found) or done(None))
            counts.append(len(found))
        await done(cursor.fetchall())
    assert counts == [2, 2, 1]
    forget_clusters()
