"""Idle connections on MySQL move before their next statement; pools find their connections working."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from aurora_actors import FailoverSuccessError, Outcome
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import Face, done, in_every_face, kill_own_session, query, where

KEPT = "CREATE TEMPORARY TABLE kept (id int)"
"""A session that has it never moves without an error."""


async def told(face: Face, lab: MysqlLab, to: str | None = None) -> None:
    """Another host writes, and a connection that was in use has found out."""
    async with face.connection(lab) as used:
        await query(used, "CREATE TABLE IF NOT EXISTS noticed (id int)")
        lab.failover(to, how="planned")
        # Where the news was there before it, it moves without an error.
        with suppress(FailoverSuccessError):
            await query(used, "INSERT INTO noticed VALUES (1)")
        assert await where(used) == lab.writer


@in_every_face
async def test_a_clean_session_moves_without_an_error(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TABLE t (id int)")
        cursor = await done(conn.cursor(prepared=True))
        await done(cursor.execute("SELECT %s", ("a",)))
        await done(cursor.fetchall())
        await told(face, aurora_mysql_lab)
        assert conn.stale
        await done(cursor.execute("SELECT %s", ("a",)))
        assert not conn.stale
        assert await done(cursor.fetchall()) == [("a",)]
        assert await where(conn) == aurora_mysql_lab.writer
        await query(conn, "INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("statement", ["SET @a = 1", "CREATE TEMPORARY TABLE s (id int)", "SELECT GET_LOCK('a', 0)"])
@in_every_face
async def test_a_session_that_holds_something_says_so_first(
    aurora_mysql_lab: MysqlLab, face: Face, statement: str
) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, statement)
        cursor = await done(conn.cursor())
        await told(face, aurora_mysql_lab)
        with pytest.raises(FailoverSuccessError) as caught:
            await done(cursor.execute("SELECT 1"))
        assert caught.value.outcome is Outcome.NOT_SENT
        await done(cursor.execute("SELECT 1"))
        assert await done(cursor.fetchall()) == [(1,)]


@in_every_face
async def test_a_statement_that_looks_back_never_gets_another_session_s_answer(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    async with face.connection(aurora_mysql_lab) as conn:
        await query(conn, "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, a int)")
        cursor = await done(conn.cursor())
        await done(cursor.execute("INSERT INTO t (a) VALUES (1)"))
        await told(face, aurora_mysql_lab)
        with pytest.raises(FailoverSuccessError):
            await done(cursor.execute("SELECT LAST_INSERT_ID()"))


@in_every_face
async def test_nothing_moves_in_a_transaction_or_before_rows_are_read(
    aurora_mysql_lab: MysqlLab, face: Face
) -> None:
    async with face.connection(aurora_mysql_lab, "reader", failover_mode="strict_reader") as conn:
        before = await where(conn)
        await done(conn.start_transaction())
        await query(conn, "SELECT COUNT(*) FROM information_schema.tables")
        cursor = await done(conn.cursor())
        await done(cursor.execute("SELECT 1 UNION ALL SELECT 2"))
        assert await done(cursor.fetchone()) == (1,)
        await told(face, aurora_mysql_lab, before)
        assert conn.stale
        assert await done(cursor.fetchall()) == [(2,)]
        assert await where(conn) == before
        await done(conn.rollback())
        assert await where(conn) != before


async def pooled(face: Face, lab: MysqlLab, name: str) -> Any:
    """A connection out of the driver's own pool of one; the pool has to find its host by itself."""
    address, port = lab.address(lab.hosts[0])
    conninfo = lab.conninfo("writer", host=address, port=port)
    pattern = f"?.xyz.us-east-1.rds.amazonaws.com:{port}"
    return await face.connect_with(
        conninfo, plugins="failover", cluster_instance_host_pattern=pattern, pool_name=name, pool_size=1
    )


@in_every_face
async def test_a_pooled_connection_survives_and_goes_back(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    name = f"orders-{face}"
    conn = await pooled(face, aurora_mysql_lab, name)
    assert type(conn).__name__ == "PooledMySQLConnection"
    assert isinstance(conn._cnx, face.driver_class)
    await query(conn, KEPT)
    await kill_own_session(aurora_mysql_lab, conn)
    with pytest.raises(FailoverSuccessError):
        await done(conn.ping())
    assert await query(conn, "SELECT 1") == [(1,)]
    assert system.clusters[0].leases == 1
    await done(conn.close())
    assert system.clusters[0].leases == 0
    again = await pooled(face, aurora_mysql_lab, name)
    assert again._cnx._aa_link.proxy.host.id == aurora_mysql_lab.hosts[0]
    await query(again, KEPT)
    aurora_mysql_lab.failover(how="crash")
    with pytest.raises(FailoverSuccessError):
        await query(again, "SELECT 1")
    assert await where(again) == aurora_mysql_lab.writer
    await done(again.close())
