"""RDS Multi-AZ DB clusters: the second flavour of cluster."""

from __future__ import annotations

from typing import Any

import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect
from tests.lab.sessions import eventually

OWN_ID = "SELECT rds_tools.dbi_resource_id()"
multi_az = pytest.mark.aurora_lab(flavour="multi-az")


def host_of(lab: PostgresLab, conn: Any) -> str:
    (own,) = conn.execute(OWN_ID).fetchone()
    return next(host for host in lab.hosts if lab.resource_id(host) == own)


@multi_az
@pytest.mark.parametrize("endpoint", ["writer", "reader", "database-3"])
def test_every_endpoint_leads_to_its_host_and_tells_the_cluster(aurora_lab: PostgresLab, endpoint: str) -> None:
    with connect(aurora_lab, endpoint) as conn:
        expected = {"writer": (aurora_lab.writer,), "reader": aurora_lab.readers}.get(endpoint, (endpoint,))
        assert host_of(aurora_lab, conn) in expected
        (cluster,) = system.clusters
        roles = {host: host == aurora_lab.writer for host in aurora_lab.hosts}
        eventually(lambda: {host.id: host.is_writer for host in cluster.cell.view.topology.hosts} == roles)
        assert cluster.naming.dialect.code == "multi-az-pg"


@multi_az
@pytest.mark.parametrize("how", ["crash", "planned"])
@pytest.mark.parametrize("endpoint", ["writer", "database-1"])
def test_a_failover_is_survived(aurora_lab: PostgresLab, how: Any, endpoint: str) -> None:
    with connect(aurora_lab, endpoint) as conn:
        for _ in range(2):
            aurora_lab.failover(how=how)
            with pytest.raises(FailoverSuccessError):
                conn.execute("SELECT 1")
            assert host_of(aurora_lab, conn) == aurora_lab.writer
            conn.execute("CREATE TABLE IF NOT EXISTS t (id int)")
            aurora_lab.wait_ready()


@multi_az
def test_a_lost_reader_is_replaced_by_another(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, "reader", failover_mode="strict_reader") as conn:
        before = host_of(aurora_lab, conn)
        aurora_lab.crash(before)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert host_of(aurora_lab, conn) in aurora_lab.readers


@multi_az
@pytest.mark.parametrize("code", ["multi-az-pg", "rds-multi-az-pg-cluster", "RDS_Multi_AZ_PG_cluster"])
def test_the_dialect_may_be_named(aurora_lab: PostgresLab, code: str) -> None:
    with connect(aurora_lab, wrapper_dialect=code) as conn:
        assert host_of(aurora_lab, conn) == aurora_lab.writer


def test_a_dialect_that_does_not_fit_is_one_clear_error(aurora_lab: PostgresLab) -> None:
    with pytest.raises(aurora_actors.ConfigurationError, match="wrapper_dialect=multi-az-pg does not fit"):
        connect(aurora_lab, wrapper_dialect="multi-az-pg")
