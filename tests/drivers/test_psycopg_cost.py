"""What a guarded connection adds to a statement: counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import isawaitable
from types import FrameType
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.colours import Colour


def python_calls(fn: Callable[[], object]) -> int:
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def pair(aurora_lab: PostgresLab) -> Any:
    address, port = aurora_lab.address(aurora_lab.writer)
    raw = psycopg.connect(aurora_lab.conninfo("writer", hostaddr=address, port=port), autocommit=True)
    ours = aurora_actors.connect(psycopg.connect, aurora_lab.conninfo("writer"), autocommit=True)
    yield raw, ours
    raw.close()
    ours.close()
    system.stop(5.0)


def test_one_call_is_added_per_execute_and_none_per_fetch(pair: Any) -> None:
    raw, ours = (conn.cursor() for conn in pair)
    statement = "SELECT n FROM generate_series(1, 10) AS n"
    for cursor in (raw, ours):
        cursor.execute(statement)
    executes = [python_calls(partial(cursor.execute, statement)) for cursor in (raw, ours)]
    fetches = [python_calls(cursor.fetchone) for cursor in (raw, ours)]
    assert executes[1] - executes[0] <= 1
    assert fetches[1] == fetches[0]


def test_a_connection_that_has_switched_costs_no_more(pair: Any, aurora_lab: PostgresLab) -> None:
    ours = pair[1]
    statement = "SELECT n FROM generate_series(1, 10) AS n"
    aurora_lab.kill_session(aurora_lab.writer, ours.info.backend_pid)
    with pytest.raises(aurora_actors.FailoverSuccessError):
        ours.execute(statement)
    cursors = [conn.cursor() for conn in pair]
    for cursor in cursors:
        cursor.execute(statement)
    executes = [python_calls(partial(cursor.execute, statement)) for cursor in cursors]
    assert executes[1] - executes[0] <= 1


def noting(fn: Callable[[], Any], found: set[FrameType]) -> Coroutine[Any, Any, None] | None:
    """Call *fn*, and await what it gives if need be; *found*: the calls of functions of ours, resumed ones counted once."""

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and str(frame.f_globals.get("__name__")).startswith("aurora_actors."):
            found.add(frame)

    async def rest(made: Any) -> None:
        try:
            await made
        finally:
            sys.setprofile(None)

    sys.setprofile(note)
    made = fn()
    if isawaitable(made):
        return rest(made)
    sys.setprofile(None)
    return None


@pytest.mark.parametrize("switched", [False, True])
def test_one_function_of_ours_runs_per_execute_and_none_per_fetch(
    aurora_lab: PostgresLab, colour: Colour, switched: bool
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        if switched:
            aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            with pytest.raises(aurora_actors.FailoverSuccessError):
                conn.execute("SELECT 1")
        cursor = colour.plain(conn.cursor())
        work = {
            "first": partial(cursor.execute, "SELECT n FROM generate_series(1, 10) AS n"),
            "execute": partial(cursor.execute, "SELECT n FROM generate_series(1, 10) AS n"),
            "fetch": cursor.fetchone,
            "fetch many": partial(cursor.fetchmany, 3),
        }
        found: dict[str, set[FrameType]] = {name: set() for name in work}
        for name, fn in work.items():
            colour.run(noting, fn, found[name])
        functions = {name: [frame.f_code.co_name for frame in frames] for name, frames in found.items()}
        del functions["first"]  # reads the statement's text
    assert functions == {"execute": ["wait"], "fetch": [], "fetch many": []}
    system.stop(5.0)


@pytest.mark.parametrize("plugins", ["failover", ""])
def test_a_setting_costs_later_statements_nothing(aurora_lab: PostgresLab, plugins: str) -> None:
    statement = "SELECT n FROM generate_series(1, 10) AS n"
    with aurora_actors.connect(psycopg.connect, aurora_lab.conninfo("writer"), plugins=plugins) as conn:
        cursor = conn.cursor()
        for ends in (conn.commit, conn.rollback):
            cursor.execute(statement)
            ends()
            cursor.execute("SET work_mem = '7MB'")
            ends()
            cursor.execute(statement)
            found: set[FrameType] = set()
            noting(partial(cursor.execute, statement), found)
            assert [frame.f_code.co_name for frame in found] == ["wait"]
    system.stop(5.0)
