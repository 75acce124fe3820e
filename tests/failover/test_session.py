"""What a session held before a switch it holds after it, on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_actors import FailoverError, FailoverSuccessError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import kill_own_session
from tests.failover.colours import Colour
from tests.lab.sessions import eventually

STATE = (
    *("work_mem", "search_path", "TimeZone", "application_name", "default_transaction_isolation", "client_encoding"),
    *("app.tenant", "app.other", "role", "DateStyle"),
)


def state(conn: Any) -> dict[str, str]:
    shown = ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in STATE)
    values = conn.execute(f"SELECT {shown}").fetchone()
    return dict(zip(STATE, values, strict=True))


def administer(lab: PostgresLab, *statements: str) -> None:
    for statement in statements:
        lab.cluster.host(lab.writer).server.query(statement)


def switched(lab: PostgresLab, conn: Any) -> None:
    """The session is lost, and the connection has another."""
    kill_own_session(lab, conn)
    with pytest.raises(FailoverError):
        conn.execute("SELECT 1")


def test_a_session_goes_on_as_it_was(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        role = f"role_of_{colour.name}"
        administer(aurora_lab, f"CREATE ROLE {role}", f"GRANT {role} TO {conn.info.user}")
        conn.execute("SET work_mem = '7MB'")
        conn.execute(b"SET search_path TO pg_catalog, public")
        conn.execute("SET TIME ZONE 'Asia/Tokyo'; SET DateStyle = german")
        conn.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        conn.execute("SELECT set_config('app.tenant', %s, false), set_config('app.other', 'x', true)", ["it's \\ 5%"])
        conn.execute("SET NAMES 'LATIN1'")
        conn.execute("LISTEN news")
        conn.execute(f"SET ROLE {role}")
        before = state(conn)
        assert (before["app.tenant"], before["role"], before["work_mem"]) == ("it's \\ 5%", role, "7MB")
        switched(aurora_lab, conn)
        assert state(conn) == before
        conn.execute("SELECT pg_notify('news', 'hello')")
        assert [note.payload for note in conn.notifies(stop_after=1, timeout=30)] == ["hello"]
        conn.execute("RESET ALL")
        conn.execute("RESET ROLE")
        conn.execute("UNLISTEN *")
        bare = state(conn)
        switched(aurora_lab, conn)
        assert state(conn) == bare
        assert conn.execute("SELECT pg_listening_channels()").fetchall() == []


def test_what_was_rolled_back_or_local_is_not_replayed(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab) as conn:
        conn.execute("SET work_mem = '6MB'")
        conn.commit()
        conn.execute("SET work_mem = '7MB'")
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        conn.rollback()
        with conn.transaction():
            conn.execute("SET LOCAL application_name = 'local'")
            conn.execute("SET app.tenant = 'outer'")
            with conn.transaction(force_rollback=True):
                conn.execute("SET app.other = 'inner'")
        before = state(conn)
        conn.commit()
        assert (before["work_mem"], before["app.tenant"], before["app.other"]) == ("6MB", "outer", "")
        conn.execute("SET work_mem = '8MB'")
        conn.execute("SET LOCAL TIME ZONE 'Asia/Tokyo'")
        switched(aurora_lab, conn)
        assert state(conn) == before


@pytest.mark.parametrize("end", ["prepare", "commit", "rollback"])
def test_what_a_two_phase_transaction_set(aurora_lab: PostgresLab, colour: Colour, end: str) -> None:
    """PREPARE TRANSACTION leaves it to the session, whatever becomes of the transaction."""
    with colour.connect(aurora_lab) as conn:
        conn.tpc_begin("settings")
        conn.execute("SET app.tenant = 'two-phase'")
        if end == "prepare":
            conn.tpc_prepare()
        (conn.tpc_commit if end == "commit" else conn.tpc_rollback)()
        before = state(conn)
        conn.rollback()
        assert before["app.tenant"] == ("" if end == "rollback" else "two-phase")
        assert colour.plain(conn)._aa_link.clean
        switched(aurora_lab, conn)
        assert state(conn) == before


@pytest.mark.parametrize("statement", ["SET work_mem = '7MB'", "LISTEN news", "CREATE TEMP TABLE s (id int); DISCARD ALL"])
def test_an_idle_switch_with_what_can_be_replayed_is_silent(
    aurora_lab: PostgresLab, colour: Colour, statement: str
) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        for part in statement.split("; "):
            conn.execute(part)
        aurora_lab.failover(how="planned")
        with colour.connect(aurora_lab, autocommit=True) as used:
            assert used.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)
        eventually(lambda: conn.stale)
        assert conn.execute("SELECT aurora_db_instance_identifier()").fetchone() == (aurora_lab.writer,)


def test_what_the_new_host_refuses_is_said(aurora_lab: PostgresLab, colour: Colour) -> None:
    with colour.connect(aurora_lab, autocommit=True) as conn:
        administer(aurora_lab, "CREATE ROLE short_lived", f"GRANT short_lived TO {conn.info.user}")
        conn.execute("SET ROLE short_lived")
        conn.execute("SET work_mem = '7MB'")
        kill_own_session(aurora_lab, conn)
        administer(aurora_lab, "DROP ROLE short_lived")
        with pytest.raises(FailoverSuccessError, match="restored but for role"):
            conn.execute("SELECT 1")
        assert conn.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_the_application_sets_up_every_session(aurora_lab: PostgresLab, colour: Colour) -> None:
    pids: list[int] = []

    def plain(conn: Any) -> None:
        pids.append(conn.info.backend_pid)
        conn.execute("SET app.tenant = 'of on_connect'")

    async def awaited(conn: Any) -> None:
        pids.append(conn.info.backend_pid)
        await conn.execute("SET app.tenant = 'of on_connect'")

    with colour.connect(aurora_lab, on_connect=plain if colour.name == "threads" else awaited) as conn:
        for _ in range(2):
            assert pids[-1] == conn.info.backend_pid
            assert state(conn)["app.tenant"] == "of on_connect"
            switched(aurora_lab, conn)
        assert len(set(pids)) == 3


def test_a_set_up_that_fails_is_a_failed_attempt(aurora_lab: PostgresLab, colour: Colour) -> None:
    calls: list[Any] = []

    def on_connect(conn: Any) -> None:
        calls.append(conn)
        if len(calls) == 2:
            raise KeyError("no tenant")

    with colour.connect(aurora_lab, on_connect=on_connect, autocommit=True) as conn:
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert [each.error for each in caught.value.attempts] == ["on_connect failed: KeyError: 'no tenant'"]
        assert len(calls) == 3

    def refused(conn: Any) -> None:
        raise KeyError("no tenant")

    with pytest.raises(KeyError, match="no tenant") as first:
        colour.connect(aurora_lab, on_connect=refused)
    assert "on_connect" in first.value.__notes__[0]


def test_a_set_up_that_hangs_is_ended(aurora_lab: PostgresLab, colour: Colour) -> None:
    def on_connect(conn: Any) -> Any:
        return conn.execute("SELECT pg_sleep(3600)")

    async def awaited(conn: Any) -> None:
        await on_connect(conn)

    hook = on_connect if colour.name == "threads" else awaited
    with pytest.raises(TimeoutError):
        colour.connect(aurora_lab, on_connect=hook, open_connection_retry_timeout_ms=1000)
