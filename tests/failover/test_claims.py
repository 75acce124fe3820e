"""Whom to believe when hosts contradict each other (law 12), on real servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from aurora_actors import FailoverError, FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect, connections, where
from tests.lab.sessions import eventually

FACT_SECONDS = 30.0
OFTEN: Any = {"topology_refresh_ms": 50}


def test_a_reader_s_claim_for_itself_makes_no_writer(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, **OFTEN) as conn, connect(aurora_lab, "database-2") as reader:
        aurora_lab.claim_writer("database-2")
        with connect(aurora_lab, "reader"), connect(aurora_lab) as another:
            assert where(another) == "database-1"
        assert where(conn) == "database-1"
        assert not conn.stale
        assert where(reader) == "database-2"
        topology = system.clusters[0].cell.view.topology
        assert topology.writer is not None
        assert topology.writer.id == "database-1"


def test_while_two_hosts_claim_the_one_that_writes_is_found(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as conn:
        aurora_lab.claim_writer("database-3")
        aurora_lab.failover("database-2", how="crash")
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) == "database-2"


def test_a_cluster_in_which_nobody_claims_keeps_its_last_good_topology(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, **OFTEN) as conn, connect(aurora_lab, "reader"):
        aurora_lab.claim_nobody()
        assert where(conn) == "database-1"
        with connect(aurora_lab) as another:
            assert where(another) == "database-1"
        topology = system.clusters[0].cell.view.topology
        assert {host.id for host in topology.hosts} == set(aurora_lab.hosts)


def test_a_writer_that_the_topology_does_not_name_is_believed_itself(aurora_lab: PostgresLab) -> None:
    """In the midst of a failover the topology may name nobody; the host's own role is what counts."""
    with connect(aurora_lab) as conn:
        aurora_lab.claim_nobody()
        aurora_lab.failover("database-2", how="crash")
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) == "database-2"


def test_a_former_writer_that_comes_back_is_not_believed(aurora_lab: PostgresLab) -> None:
    """Two hosts are out of recovery; the one that was promoted later is the writer."""
    with connect(aurora_lab, **OFTEN) as conn, connect(aurora_lab, "database-1", failover_mode="reader_or_writer"):
        aurora_lab.failover("database-2", how="crash", rejoin=False)
        with suppress(FailoverError):
            conn.execute("SELECT 1")
        assert where(conn) == "database-2"
        with ThreadPoolExecutor(1) as pool:
            back = pool.submit(aurora_lab.resurrect, "database-1", 2.0)
            eventually(lambda: any(event.name == "resurrected" for event in aurora_lab.events) or back.done())
            aurora_lab.kill_session("database-2", conn.info.backend_pid)
            with pytest.raises(FailoverSuccessError):
                conn.execute("SELECT 1")
            assert where(conn) == "database-2"
            back.result(FACT_SECONDS)


def test_sessions_that_all_hosts_drop_come_back_to_where_they_were(aurora_lab: PostgresLab) -> None:
    with connections(aurora_lab, 10) as conns, connect(aurora_lab, "database-2", failover_mode="strict_reader") as reader:
        aurora_lab.drop_sessions(refuse_seconds=0.5)
        for conn in conns:
            with suppress(FailoverError):
                conn.execute("SELECT 1")
        assert {where(conn) for conn in conns} == {"database-1"}
        with suppress(FailoverError):
            reader.execute("SELECT 1")
        assert where(reader) in aurora_lab.readers


def test_members_come_and_go(aurora_lab: PostgresLab) -> None:
    def members() -> set[str]:
        return {host.id for host in system.clusters[0].cell.view.topology.hosts}

    with connect(aurora_lab, **OFTEN):
        assert members() == set(aurora_lab.hosts)
        added = aurora_lab.add_reader().host
        eventually(lambda: added in members())
        aurora_lab.remove_reader(added)
        eventually(lambda: added not in members())
        aurora_lab.rename("database-3", "renamed")
        eventually(lambda: "renamed" in members() and "database-3" not in members())
