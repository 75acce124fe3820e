"""What connections show of themselves: as the driver's own do, and where they are; never a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from aurora_actors import FailoverError, FailoverFailedError
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import forget_clusters
from tests.failover.colours import Colour
from tests.failover.mysql_faces import Face, in_every_face, kill_own_session, query
from tests.failover.test_processes import in_a_child


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    forget_clusters()


def parts(shown: Any) -> tuple[str, str]:
    """What stands between the class and the address, for one that is the driver's: its own words, and ours."""
    own = r"<psycopg\.(?:Async)?Connection (\[.*?\](?: \(host=.*?\))?)"
    found = re.fullmatch(own + r"(?: (on .*))? at 0x[0-9a-f]+>", repr(shown))
    assert found, repr(shown)
    assert "pwd" not in repr(shown)
    return found[1], found[2] or ""


def hold(count: int) -> bool:
    """Whether so many connections hold their cluster; those that are lost do not, though nobody has closed them."""
    (cluster,) = system.clusters
    return cluster.leases == count


def test_a_connection_of_psycopg(aurora_lab: PostgresLab, colour: Colour) -> None:
    writer, other = aurora_lab.writer, aurora_lab.readers[0]
    address = aurora_lab.address(writer)[0]
    at_writer = f"on {writer}, writer"
    with (
        colour.connect(aurora_lab) as conn,
        colour.raw(aurora_lab.conninfo(), hostaddr=address) as raw,
        colour.connect(aurora_lab, other) as reading,
        colour.open(aurora_lab.conninfo(host=address)) as plain,
    ):
        assert parts(conn) == (parts(raw)[0], at_writer)
        assert parts(reading)[1] == f"on {other}, reader"
        assert parts(plain)[1] == ""
        conn.execute("SELECT 1")
        assert parts(conn)[0].startswith("[INTRANS]")
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1/0")
        assert parts(conn)[0].startswith("[INERROR]")
        conn.rollback()
        with conn.pipeline():
            assert parts(conn)[0].startswith("[IDLE, pipeline=ON]")
        child = in_a_child(lambda: repr(conn))
        assert f" {at_writer}, of process " in child
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(FailoverError):
            conn.execute("SELECT 1")
        own, ours = parts(conn)
        assert ours == at_writer
        assert f"host={aurora_lab.endpoint(writer)} " in own
    assert parts(conn) == parts(raw) == ("[BAD]", "")


def test_one_that_is_stale_or_lost(aurora_lab: PostgresLab, colour: Colour) -> None:
    old = aurora_lab.writer
    given: dict[str, Any] = {"autocommit": True, "failover_timeout_sec": 1}
    with colour.connect(aurora_lab, **given) as idle, colour.connect(aurora_lab, **given) as used:
        aurora_lab.failover()
        with pytest.raises(FailoverError):
            used.execute("SELECT 1")
        assert parts(idle)[1] == f"on {old}, writer, stale: {aurora_lab.writer} writes now"
        idle.execute("SELECT 1")
        assert parts(idle)[1] == f"on {aurora_lab.writer}, writer"
        for host in aurora_lab.hosts:
            aurora_lab.crash(host)
        with pytest.raises(FailoverFailedError):
            used.execute("SELECT 1")
        assert parts(used) == ("[BAD]", "")
        assert hold(1)


@in_every_face
async def test_one_of_mysql_connector_that_is_lost(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    async with face.connection(aurora_mysql_lab, failover_timeout_sec=1) as conn:
        for host in aurora_mysql_lab.hosts:
            aurora_mysql_lab.crash(host)
        with pytest.raises(FailoverFailedError):
            await query(conn, "SELECT 1")
        assert " on " not in repr(conn)
        assert hold(0)


@in_every_face
async def test_a_connection_of_mysql_connector(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    plain = object.__repr__
    async with face.connection(aurora_mysql_lab) as conn:
        own = plain(conn)
        for _ in range(2):
            assert repr(conn) == own.replace(" at 0x", f" on {aurora_mysql_lab.writer}, writer at 0x")
            await kill_own_session(aurora_mysql_lab, conn)
            with pytest.raises(FailoverError):
                await query(conn, "SELECT 1")
    assert repr(conn) == own
