"""Where psycopg's own behaviour shows in corners, ours is the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.psycopg
from aurora_actors.lab import PostgresLab
from tests.failover.colours import ONE_COLOUR, Colour


class Refused(Exception):
    """Raised by what a test puts in psycopg's place."""


def test_a_lost_connection_stays_broken_when_it_is_closed(aurora_lab: PostgresLab, colour: Colour) -> None:
    for leave, arguments in (("close", ()), ("__exit__", (None, None, None))):
        conn = colour.connect(aurora_lab, plugins="")
        with pytest.raises(psycopg.errors.AdminShutdown):
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert (conn.closed, conn.broken) == (True, True)
        getattr(conn, leave)(*arguments)
        assert (conn.closed, conn.broken) == (True, True)


def test_a_connection_that_is_closed_while_it_is_lost_does_not_come_back(aurora_lab: PostgresLab, colour: Colour) -> None:
    conn = colour.connect(aurora_lab)
    aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
    colour.plain(conn).pgconn.finish()
    conn.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        conn.execute("SELECT 1")


@ONE_COLOUR
def test_a_close_of_the_application_s_own_is_called_once(aurora_lab: PostgresLab, colour: Colour) -> None:
    calls: list[str] = []

    class Own(aurora_actors.psycopg.Connection[Any]):
        def close(self) -> None:
            calls.append("close")
            super().close()

    with Own.connect(aurora_lab.conninfo()) as conn:
        conn.execute("SELECT 1")
    assert calls == ["close"]


def test_what_is_put_in_the_place_of_the_driver_s_own_counts(
    aurora_lab: PostgresLab, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    colour.connect(aurora_lab).close()

    def refused(*_: object, **__: object) -> None:
        raise Refused

    with monkeypatch.context() as patch:
        patch.setattr(colour.connection, "_connect_gen", refused)
        with pytest.raises(Refused):
            colour.connect(aurora_lab)
    with colour.connect(aurora_lab) as conn:
        monkeypatch.setattr(colour.connection, "transaction", refused)
        with pytest.raises(Refused), conn.transaction():
            pass


def test_our_classes_may_stand_under_the_driver_s_names(
    aurora_lab: PostgresLab, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://john:pwd@{aurora_lab.writer_endpoint}/db"
    driver_s = colour.connection
    monkeypatch.setattr(psycopg, driver_s.__name__, colour.ours)
    monkeypatch.setattr(psycopg, "connect", aurora_actors.psycopg.connect)
    for connect in (colour.ours.connect, colour.face):
        with colour.spoken(colour.run(connect, url)) as conn:
            assert isinstance(colour.plain(conn), driver_s)
    with psycopg.connect(url) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_no_prepared_statements_are_no_prepared_statements(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, prepare_threshold=None, autocommit=True) as conn:
        assert conn.prepare_threshold is None
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(aurora_actors.FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.prepare_threshold is None


def test_what_the_driver_itself_cleans_up_costs_no_session(
    aurora_lab: PostgresLab, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_to(*_: object, **__: object) -> Iterator[Any]:
        yield from ()
        raise Refused

    with colour.connect(aurora_lab) as conn:
        conn.execute("CREATE TEMP TABLE t (id int)")
        session = conn.info.backend_pid
        with pytest.raises(ValueError, match="size"):
            list(conn.cursor().stream("SELECT 1", size=0))
        conn.rollback()
        conn.execute("CREATE TEMP TABLE t (id int)")
        module = "psycopg._copy" if colour.name == "threads" else "psycopg._copy_async"
        monkeypatch.setattr(f"{module}.copy_to", copy_to)
        with pytest.raises(Refused), conn.cursor().copy("COPY t FROM STDIN") as copying:
            copying.write("1\n")
        conn.rollback()
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == (session,)


@pytest.mark.parametrize("ours", [{}, {"resolve": lambda host, port: [(host, port)]}])
def test_a_service_that_stands_nowhere_is_libpq_s_to_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: dict[str, Any]
) -> None:
    """It may know files that we do not: where it looks for the system's was settled when it was built."""
    file = tmp_path / "services"
    file.write_text("[others]\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with pytest.raises(psycopg.OperationalError, match='service "orders" not found'):
        aurora_actors.connect(psycopg.Connection.connect, "service=orders", **ours)


def two_phase(conn: Any) -> list[Any]:
    """What each step of two-phase commits gives, and where it leaves the connection."""
    seen: list[Any] = []

    def note(step: str, *args: Any) -> None:
        try:
            given: Any = getattr(conn, step)(*args)
        except psycopg.Error as error:
            given = type(error), str(error)
        if step == "tpc_recover":
            given = [(xid.gtrid, xid.owner, xid.database) for xid in given]
        seen.append((step, given if step != "execute" else None, conn.info.transaction_status.name, conn._tpc))

    xid = conn.xid(42, "gtrid", "it's")
    note("tpc_prepare")
    note("tpc_commit")
    note("tpc_begin", xid)
    note("execute", "INSERT INTO t VALUES (1)")
    for step in ("commit", "rollback", "tpc_prepare", "tpc_prepare", "cancel", "commit", "rollback", "tpc_commit"):
        note(step)
    for end in ("tpc_commit", "tpc_rollback"):
        note("tpc_begin", "one phase")
        note("execute", "INSERT INTO t VALUES (2)")
        note(end)
    note("tpc_begin", "twice")
    note("tpc_prepare")
    note("tpc_begin", "twice")
    note("tpc_prepare")
    note("tpc_rollback")
    note("tpc_commit", "nowhere")
    with conn.pipeline():
        note("tpc_begin", "piped")
        note("execute", "INSERT INTO t VALUES (3)")
        note("tpc_prepare")
    conn._tpc = None  # as a connection that begins has it
    note("tpc_recover")
    note("tpc_commit", "piped")
    note("tpc_recover")
    conn.autocommit = True
    note("tpc_begin", xid)
    seen.append(conn.execute("SELECT id FROM t ORDER BY id").fetchall())
    return seen


def test_two_phase_commits_are_the_driver_s_own(aurora_lab: PostgresLab, colour: Colour) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    raw = partial(colour.raw, aurora_lab.conninfo(hostaddr=address, port=port))
    found = []
    for connect in (raw, partial(colour.connect, aurora_lab)):
        with connect() as conn:
            conn.execute("DROP TABLE IF EXISTS t")
            conn.execute("CREATE TABLE t (id int)")
            conn.commit()
            found.append(two_phase(conn))
    assert found[1] == found[0]
    assert found[0][-1] == [(1,), (2,), (3,)]
