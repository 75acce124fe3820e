"""MySQL Connector's own list of servers, and its own pools, behind a resolver: names that only that one knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors import ConfigurationError, FailoverError
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab
from tests.failover.applications import forget_clusters
from tests.failover.mysql_faces import Face, done, in_every_face, query, where


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    forget_clusters()


async def listed(face: Face, lab: MysqlLab, *servers: dict[str, Any]) -> Any:
    return await face.connect_with(lab.conninfo(), failover=servers, autocommit=True)


def at(lab: MysqlLab, host: str, **more: Any) -> dict[str, Any]:
    return {"host": lab.endpoint(host), "port": lab.address(host)[1], **more}


@in_every_face
async def test_servers_are_tried_by_their_priority(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    first, second, third = aurora_mysql_lab.hosts
    given = [at(aurora_mysql_lab, first, priority=10), at(aurora_mysql_lab, second, priority=50)]
    conn = await listed(face, aurora_mysql_lab, *given, at(aurora_mysql_lab, third))
    assert await where(conn) == third
    await done(conn.close())
    forget_clusters()
    aurora_mysql_lab.crash(third)
    conn = await listed(face, aurora_mysql_lab, *given, at(aurora_mysql_lab, third))
    assert await where(conn) == second
    assert conn._aa_link.proxy.host.id == second
    assert len(system.clusters[0].cell.view.topology.hosts) > 1
    await done(conn.close())


@pytest.mark.parametrize(("more", "kind", "message"), [
    ({"priority": 101}, mysql.connector.InterfaceError, "range of 0 to 100, got : 101"),
    ({"priority": "x"}, mysql.connector.InterfaceError, "range of 0 to 100, got : x"),
    ({"user": "u", "database": "d"}, ConfigurationError, "a database, a user"),
    ({"prio": 1}, ConfigurationError, "prio"),
])  # fmt: skip
def test_what_a_server_cannot_have(more: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        aurora_actors.connect(
            mysql.connector.connect,
            failover=[{"host": "127.0.0.1", "port": 1, **more}],
            resolve=lambda host, port: [(host, port)],
            use_pure=True,
        )


@in_every_face
async def test_a_pool_goes_by_the_resolver(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    name = f"led-{face}"

    async def pooled(**more: Any) -> Any:
        return await face.connect_with(aurora_mysql_lab.conninfo(), pool_size=1, **more)

    conn = await pooled(pool_name=name)
    assert conn.pool_name == name
    assert await where(conn) == aurora_mysql_lab.writer
    assert sorted(host.id for host in system.clusters[0].cell.view.topology.hosts) == sorted(aurora_mysql_lab.hosts)
    aurora_mysql_lab.failover(how="crash")
    with pytest.raises(FailoverError):
        await query(conn, "SELECT 1")
    assert await where(conn) == aurora_mysql_lab.writer
    session = conn.connection_id
    await done(conn.close())
    again = await pooled(pool_name=name)
    assert (await where(again), again.connection_id) == (aurora_mysql_lab.writer, session)
    await done(again.close())
    # What the pool itself connects anew goes where the name leads now, not where it led when the pool was made.
    assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, session)
    again = await pooled(pool_name=name)
    assert await where(again) == aurora_mysql_lab.writer
    assert again.connection_id != session
    await done(again.close())
    # A pool without a name has that of its host.
    again = await pooled()
    assert again.pool_name.startswith(aurora_mysql_lab.writer_endpoint)
    await done(again.close())
