"""A plain PostgreSQL with default settings: the server sees of us what it sees of psycopg, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import aurora_actors
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.benchmarks.harness import Plan, Table
from tests.benchmarks.relay import PATIENCE_SECONDS, Relay, Talk

__all__ = ["tables"]

Connect = Callable[..., Any]


def _statements(conn: Any) -> None:
    for _ in range(7):  # the sixth prepares
        conn.execute("SELECT %s::int", (1,)).fetchone()
    conn.commit()


def _transaction(conn: Any) -> None:
    with conn.transaction():
        conn.execute("CREATE TEMP TABLE t (id int)")
        conn.cursor().executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
    conn.rollback()


def _copy(conn: Any) -> None:
    with conn.cursor().copy("COPY (SELECT generate_series(1, 10)) TO STDOUT") as copy:
        list(copy)


def _server_cursor(conn: Any) -> None:
    with conn.cursor(name="c") as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        cursor.fetchall()


def _pipeline(conn: Any) -> None:
    with conn.pipeline():
        conn.execute("SELECT 1")
        conn.execute("SELECT 2")


def _error(conn: Any) -> None:
    try:
        conn.execute("SELECT 1/0")
    except psycopg.errors.DivisionByZero:
        conn.rollback()


CASES: dict[str, Callable[[Any], None]] = {
    "connect and close": lambda conn: None,
    "statements, parameters, prepared, commit": _statements,
    "transaction(), executemany, rollback": _transaction,
    "COPY": _copy,
    "server-side cursor": _server_cursor,
    "pipeline": _pipeline,
    "error, rollback": _error,
}


def tables(plan: Plan) -> list[Table]:
    """Each case once with psycopg and once with us."""
    table = Table(
        "Plain PostgreSQL, default settings: what the server sees",
        [
            "psycopg: statements", "ours: statements", "psycopg: round trips", "ours: round trips", "psycopg: bytes",
            "ours: bytes", "same",
        ],
    )
    with PostgresLab(hosts=1, flavour="plain") as lab, Relay(lab.address(lab.writer)) as relay:
        conninfo = lab.conninfo("writer", host=relay.address[0], port=relay.address[1])
        for name, case in CASES.items():
            theirs = _seen(relay, lambda: psycopg.connect(conninfo), case)
            ours = _seen(relay, lambda: aurora_actors.connect(psycopg.connect, conninfo), case)
            same = len(theirs) == len(ours) and all(
                one.comparable == other.comparable for one, other in zip(theirs, ours, strict=True)
            )
            pairs = [
                sum(measure(talk) for talk in talks)
                for measure in (lambda t: len(t.statements), lambda t: t.trips, lambda t: t.sent)
                for talks in (theirs, ours)
            ]
            table.add(name, *pairs, "yes" if same else "NO")
        system.stop(5.0)
    table.notes = [
        "same: equal messages with equal bodies (the login's nonces apart), in equal order, on as many connections.",
        "psycopg's pipelines send a Flush (5 bytes) or not as time has it, with and without us: counted, not compared.",
    ]
    table.target("nothing is sent that psycopg would not send", all(cells[-1] == "yes" for _, cells in table.rows))
    return [table]


@contextmanager
def _opened(connect: Connect) -> Iterator[Any]:
    conn = connect()
    try:
        yield conn
    finally:
        conn.close()


def _seen(relay: Relay, connect: Connect, case: Callable[[Any], None]) -> list[Talk]:
    known = len(relay.talks)
    with _opened(connect) as conn:
        case(conn)
    talks = relay.talks[known:]
    if not all(talk.ended.wait(PATIENCE_SECONDS) for talk in talks):
        raise RuntimeError("a connection was closed, and the relay still holds it open")
    return talks
