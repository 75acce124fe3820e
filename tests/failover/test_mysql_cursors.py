"""Cursors of MySQL Connector, and the rows and statements that belong to them, when the session under them changes."""

from __future__ import annotations

from typing import Any

import pytest
from mysql.connector.errors import InterfaceError

from aurora_actors import FailoverSuccessError
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import Face, done, in_every_face, kill_own_session, query, where

NUMBERS = "SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3"


@in_every_face
async def test_rows_still_to_come_are_lost_and_not_taken_for_the_end(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    rows = " UNION ALL ".join(f"SELECT REPEAT('{n}', 1000000)" for n in range(64))
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await done(cursor.execute(rows))
        assert await done(cursor.fetchone())
        host = await where_from_another(face, aurora_mysql_lab)
        assert aurora_mysql_lab.kill_session(host, conn.connection_id)
        with pytest.raises((FailoverSuccessError, InterfaceError)) as caught:
            await done(cursor.fetchall())
        assert isinstance(caught.value, FailoverSuccessError)
        with pytest.raises(InterfaceError, match="No result set"):
            await done(cursor.fetchone())
        assert await query(conn, "SELECT 1") == [(1,)]


@in_every_face
async def test_a_prepared_cursor_whose_session_is_gone_is_closed_without_an_error(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    """What it did is done; the loss is for the next statement to tell."""
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor(prepared=True))
        await done(cursor.execute("SELECT %s", (1,)))
        assert await done(cursor.fetchall()) == [(1,)]
        await kill_own_session(aurora_mysql_lab, conn)
        await done(cursor.close())
        with pytest.raises(FailoverSuccessError):
            await query(conn, "SELECT 1")


async def where_from_another(face: Face, lab: MysqlLab) -> str:
    async with face.connection(lab, plugins="") as other:
        return await where(other)


@in_every_face
async def test_open_cursors_of_every_kind_follow(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    kinds: list[dict[str, Any]] = [
        {}, {"buffered": True}, {"raw": True}, {"buffered": True, "raw": True}, {"dictionary": True},
        {"buffered": True, "dictionary": True}, {"prepared": True}, {"prepared": True, "dictionary": True},
    ]  # fmt: skip
    async with face.connection(aurora_mysql_lab) as conn:
        cursors = [await done(conn.cursor(**kind)) for kind in kinds]
        for cursor in cursors:
            await done(cursor.execute(NUMBERS))
            await done(cursor.fetchall())
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await done(cursors[0].execute(NUMBERS))
        for cursor in cursors:
            await done(cursor.execute(NUMBERS))
            assert len(await done(cursor.fetchall())) == 3


@in_every_face
async def test_rows_in_memory_outlive_the_switch(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor(buffered=True))
        await done(cursor.execute(NUMBERS))
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await done(conn.ping())
        assert await done(cursor.fetchall()) == [(1,), (2,), (3,)]


@in_every_face
async def test_a_prepared_statement_is_not_taken_for_another_session_s(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    """Statements are numbered from 1 in each session: an old number names another statement on the new one."""
    async with face.connection(aurora_mysql_lab) as conn:
        old, text = await done(conn.cursor(prepared=True)), "SELECT CONCAT('old ', %s)"
        await done(old.execute(text, ("a",)))
        assert await done(old.fetchall()) == [("old a",)]
        await kill_own_session(aurora_mysql_lab, conn)
        with pytest.raises(FailoverSuccessError):
            await done(conn.ping())
        new = await done(conn.cursor(prepared=True))
        await done(new.execute("SELECT CONCAT('new ', %s)", ("b",)))
        assert await done(new.fetchall()) == [("new b",)]
        await done(old.execute(text, ("c",)))
        assert await done(old.fetchall()) == [("old c",)]


@in_every_face
async def test_multiple_statements_and_results(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        cursor = await done(conn.cursor())
        await done(cursor.execute("SELECT 1; SELECT 2"))
        assert await done(cursor.fetchall()) == [(1,)]
        assert await done(cursor.nextset())
        assert await done(cursor.fetchall()) == [(2,)]
        assert not await done(cursor.nextset())
        await query(conn, "CREATE PROCEDURE p(IN a int, OUT b int) SET b = a + 1")
        assert (await done(cursor.callproc("p", (1, 0))))[1] == 2
        await done(cursor.execute("SELECT 1; SELECT 2"))
        await done(cursor.fetchall())
        assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, conn.connection_id)
        while True:
            # What had arrived already is still read.
            try:
                if not await done(cursor.nextset()):
                    await done(cursor.execute("SELECT 1"))
                await done(cursor.fetchall())
            except FailoverSuccessError:
                break
        assert await query(conn, "SELECT 1") == [(1,)]
