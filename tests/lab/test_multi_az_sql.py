"""The SQL of an RDS Multi-AZ DB cluster, answered from the real state of the cluster."""

from __future__ import annotations

import psycopg
import pytest

from aurora_actors.lab import PostgresLab
from tests.lab.sessions import connect, eventually, rows

EXTENSIONS = (
    "SELECT (setting LIKE '%rds_tools%') AS rds_tools, (setting LIKE '%aurora_stat_utils%') AS aurora_stat_utils "
    "FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'rds.extensions'"
)
TOPOLOGY = "SELECT id, endpoint, port FROM rds_tools.show_topology('aws_python_driver-1.0')"
WRITER_ID = "SELECT multi_az_db_cluster_source_dbi_resource_id FROM rds_tools.multi_az_db_cluster_source_dbi_resource_id()"
OTHER_WRITER_ID = (
    f"{WRITER_ID} WHERE multi_az_db_cluster_source_dbi_resource_id OPERATOR(pg_catalog.!=) "
    "(SELECT dbi_resource_id FROM rds_tools.dbi_resource_id())"
)
IDENTITY = (
    "SELECT id, SUBSTRING(endpoint FROM 0 FOR POSITION('.' IN endpoint)) FROM rds_tools.show_topology() "
    "WHERE id OPERATOR(pg_catalog.=) rds_tools.dbi_resource_id()"
)

pytestmark = pytest.mark.aurora_lab(flavour="multi-az")


def check_every_host(lab: PostgresLab) -> None:
    writer = lab.resource_id(lab.writer)
    expected = sorted((lab.resource_id(host), lab.endpoint(host), lab.address(host)[1]) for host in lab.hosts)
    for host in lab.hosts:
        own = lab.resource_id(host)
        assert rows(lab, host, EXTENSIONS) == [(True, False)]
        assert rows(lab, host, "SELECT 'rds_tools.show_topology'::regproc::text") == [("rds_tools.show_topology",)]
        assert sorted(rows(lab, host, TOPOLOGY)) == expected
        assert rows(lab, host, IDENTITY) == [(own, host)]
        assert rows(lab, host, WRITER_ID) == [(writer,)]
        assert rows(lab, host, OTHER_WRITER_ID) == ([] if host == lab.writer else [(writer,)])
        assert rows(lab, host, "SELECT pg_catalog.pg_is_in_recovery()") == [(host != lab.writer,)]


def test_every_host_answers_before_and_after_a_failover(aurora_lab: PostgresLab) -> None:
    check_every_host(aurora_lab)
    aurora_lab.failover()
    aurora_lab.wait_ready()
    check_every_host(aurora_lab)


def test_hosts_go_by_resource_ids(aurora_lab: PostgresLab) -> None:
    ids = {aurora_lab.resource_id(host) for host in aurora_lab.hosts}
    assert len(ids) == 3
    assert all(id_.startswith("db-") and len(id_) == 29 and id_[3:].isalnum() and id_[3:].isupper() for id_ in ids)


def test_all_endpoints_lead_to_it(aurora_lab: PostgresLab) -> None:
    for endpoint in ("writer", "reader", *aurora_lab.hosts):
        (own,) = rows(aurora_lab, endpoint, "SELECT rds_tools.dbi_resource_id()")
        host = next(host for host in aurora_lab.hosts if aurora_lab.resource_id(host) == own[0])
        assert endpoint in {host, "writer" if host == aurora_lab.writer else "reader"}


def test_a_new_name_leaves_the_resource_id(aurora_lab: PostgresLab) -> None:
    before = aurora_lab.resource_id("database-2")
    aurora_lab.rename("database-2", "renamed")
    assert aurora_lab.resource_id("renamed") == before
    aurora_lab.add_reader()
    aurora_lab.remove_reader("database-3")
    check_every_host(aurora_lab)


@pytest.mark.aurora_lab(flavour="multi-az", stale_topology_seconds=1.5)
def test_a_reader_may_know_the_former_writer_for_a_while(aurora_lab: PostgresLab) -> None:
    old = aurora_lab.resource_id("database-1")
    aurora_lab.failover("database-2")
    new = aurora_lab.resource_id("database-2")
    assert rows(aurora_lab, "database-3", WRITER_ID) == [(old,)]
    assert rows(aurora_lab, "database-2", WRITER_ID) == [(new,)]
    eventually(lambda: rows(aurora_lab, "database-3", WRITER_ID) == [(new,)])


def test_hosts_claim_what_is_not_so(aurora_lab: PostgresLab) -> None:
    ids = {host: aurora_lab.resource_id(host) for host in aurora_lab.hosts}
    aurora_lab.claim_writer("database-2")
    assert [rows(aurora_lab, host, WRITER_ID)[0][0] for host in ids] == [
        ids["database-1"], ids["database-2"], ids["database-1"]
    ]  # fmt: skip
    aurora_lab.claim_nobody()
    assert [rows(aurora_lab, host, WRITER_ID)[0][0] for host in ids] == [None] * 3
    aurora_lab.reset()
    check_every_host(aurora_lab)


def test_a_former_writer_takes_itself_for_the_writer(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover("database-2", rejoin=False)
    aurora_lab.resurrect("database-1")
    for host in ("database-1", "database-2"):
        assert rows(aurora_lab, host, WRITER_ID) == [(aurora_lab.resource_id(host),)]


@pytest.mark.parametrize(("silence", "end"), [("freeze", "thaw"), ("black_hole", "heal"), ("cut_flow", "heal")])
def test_faults_work_as_ever(aurora_lab: PostgresLab, silence: str, end: str) -> None:
    getattr(aurora_lab, silence)("database-1")
    aurora_lab.failover("database-3")
    if silence != "cut_flow":
        getattr(aurora_lab, end)("database-1")
    aurora_lab.wait_ready()
    check_every_host(aurora_lab)


def test_it_has_no_functions_of_aurora(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        with pytest.raises(psycopg.errors.UndefinedFunction):
            session.execute("SELECT aurora_replica_status()")
        session.execute("CREATE TABLE orders (id int)")
