"""What a session held before a switch it holds after it, on MySQL and MariaDB."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_actors import FailoverSuccessError
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import Face, done, in_every_face, kill_own_session, query

STATE = (
    "SELECT @@session.time_zone, @@session.sql_mode, @@session.wait_timeout, @@session.collation_connection,"
    " @@session.autocommit, DATABASE(), @@session.group_concat_max_len"
)


@in_every_face
async def test_a_session_goes_on_as_it_was(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "SET time_zone = '+03:00'")
        await face.set(conn, "time_zone", "+05:00")
        await query(conn, "SET @@session.sql_mode = 'ANSI_QUOTES', SESSION wait_timeout = 777")
        await query(conn, "SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        await query(conn, "SET autocommit = 0")
        await query(conn, "SET group_concat_max_len = 555")
        await done(conn.rollback())  # undoes no SET
        await query(conn, "SET group_concat_max_len = DEFAULT")
        await query(conn, "USE information_schema")
        before = await query(conn, STATE)
        assert before[0][:6] == ("+05:00", "ANSI_QUOTES", 777, "utf8mb4_bin", 0, "information_schema")
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 1")
        assert await query(conn, STATE) == before
        assert conn._aa_link.clean
        await query(conn, "SET @a = 1")
        assert not conn._aa_link.clean
        await done(conn.cmd_reset_connection())
        assert conn._aa_link.clean
        assert not conn._aa_link.session.kept


@in_every_face
async def test_the_application_sets_up_every_session(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    seen: list[int] = []

    def plain(conn: Any) -> None:
        seen.append(conn.connection_id)
        query_sync(conn)

    async def awaited(conn: Any) -> None:
        seen.append(conn.connection_id)
        await query(conn, "SET @tenant = 7")

    async with face.connection(aurora_mysql_lab, on_connect=awaited if face.is_async else plain) as conn:
        assert await query(conn, "SELECT @tenant") == [(7,)]
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 1")
        assert await query(conn, "SELECT @tenant") == [(7,)]
        assert seen[-1] == conn.connection_id
        assert len(seen) == 2


def query_sync(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("SET @tenant = 7")
    cursor.close()
