"""Errors that look like the loss of a connection and are none: the driver's own object, on the same session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connect

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'from somewhere else' USING ERRCODE = '{}'; END $$"


def timed_out(conn: Any) -> None:
    conn.execute("SET statement_timeout = 1")
    try:
        conn.execute("SELECT pg_sleep(10)")
    finally:
        conn.execute("RESET statement_timeout")


def twice(conn: Any) -> None:
    conn.execute("INSERT INTO t VALUES (1), (1)")


STATEMENTS: dict[str, tuple[Callable[[Any], object], type[Exception]]] = {
    "a unique violation": (twice, errors.UniqueViolation),
    "a syntax error": (lambda conn: conn.execute("SELEC 1"), errors.SyntaxError),
    "a missing table": (lambda conn: conn.execute("SELECT * FROM nowhere"), errors.UndefinedTable),
    "a division by zero": (lambda conn: conn.execute("SELECT 1/0"), errors.DivisionByZero),
    "a statement that took too long": (timed_out, errors.QueryCanceled),
    "a refused permission": (lambda conn: conn.execute("SELECT * FROM pg_authid"), errors.InsufficientPrivilege),
    "an error of the driver": (lambda conn: conn.execute("SELECT %s", ()), psycopg.ProgrammingError),
    "an error of a loader": (lambda conn: conn.execute("SELECT 'infinity'::date").fetchone(), psycopg.DataError),
    "too many connections elsewhere": (lambda conn: conn.execute(RAISE.format("53300")), errors.TooManyConnections),
    "a full disk": (lambda conn: conn.execute(RAISE.format("53100")), errors.DiskFull),
    "an input/output error": (lambda conn: conn.execute(RAISE.format("58030")), errors.IoError),
    "an internal error": (lambda conn: conn.execute(RAISE.format("XX000")), errors.InternalError_),
    # What dblink and postgres_fdw report of another server.
    "a connection of the server's own that failed": (
        lambda conn: conn.execute(RAISE.format("08001")),
        errors.SqlclientUnableToEstablishSqlconnection,
    ),
    "a connection of the server's own that broke": (
        lambda conn: conn.execute(RAISE.format("08006")),
        errors.ConnectionFailure,
    ),
    "a session of the server's own that was ended": (
        lambda conn: conn.execute(RAISE.format("57P01")),
        errors.AdminShutdown,
    ),
    "a server that starts up elsewhere": (lambda conn: conn.execute(RAISE.format("57P03")), errors.CannotConnectNow),
    "a login refused elsewhere": (lambda conn: conn.execute(RAISE.format("28P01")), errors.InvalidPassword),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_driver_s_own_error_on_the_same_session(aurora_lab: PostgresLab, name: str, signals_noted: Noted) -> None:
    statement, kind = STATEMENTS[name]
    with connect(aurora_lab) as conn:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
        session = conn.info.backend_pid
        with pytest.raises(kind) as caught:
            statement(conn)
        assert type(caught.value) is kind
        assert type(caught.value).__module__.startswith("psycopg")
        assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, psycopg.Error)
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert conn.info.backend_pid == session
    assert signals_noted.names("failover_started", "connection_switched") == []


def test_a_transaction_that_the_application_declared_read_only(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    with connect(aurora_lab, autocommit=False) as conn:
        conn.read_only = True
        with pytest.raises(errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE t (id int)")
        conn.rollback()
    assert signals_noted.names("failover_started", "connection_switched") == []
