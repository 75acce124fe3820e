"""Readers that come and go, and hosts that get other names."""

from __future__ import annotations

import socket

import psycopg
import pytest

from aurora_actors.lab import LabError, PostgresLab, addresses
from tests.lab.sessions import TOPOLOGY, connect, rows


def check_known(lab: PostgresLab, ids: set[str]) -> None:
    """Every host tells of all of these and of nobody else; their names lead to them."""
    assert set(lab.hosts) == {status.id for status in lab.status()} == ids
    for host in ids:
        assert rows(lab, host, "SELECT aurora_db_instance_identifier()") == [(host,)]
        topology = rows(lab, host, TOPOLOGY)
        assert {row[0] for row in topology} == ids
        assert [row[0] for row in topology if row[1]] == [lab.writer]
        assert lab.resolve(lab.endpoint(host), 5432) == [lab.address(host)]
    readers = {lab.address(host) for host in lab.readers}
    assert {lab.resolve(lab.reader_endpoint, 5432)[0] for _ in range(2 * len(ids))} == readers


def leads_nowhere(lab: PostgresLab, id_: str) -> bool:
    try:
        lab.resolve(f"{id_}.xyz.us-east-1.rds.amazonaws.com", 5432)
    except socket.gaierror:
        return True
    return False


def test_a_reader_can_be_added_and_takes_part_in_everything(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
        session.execute("INSERT INTO orders VALUES (1)")
    record = aurora_lab.add_reader()
    assert record.host == "database-4"
    assert record.at("created") < record.at("added")
    check_known(aurora_lab, {f"database-{number}" for number in range(1, 5)})
    aurora_lab.failover("database-4")
    assert rows(aurora_lab, "writer", "SELECT id FROM orders") == [(1,)]
    aurora_lab.wait_ready()
    aurora_lab.crash("database-4")
    aurora_lab.restart("database-4")
    aurora_lab.failover("database-2")
    aurora_lab.wait_ready()
    check_known(aurora_lab, {f"database-{number}" for number in range(1, 5)})


def test_a_removed_reader_says_goodbye_and_is_forgotten(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab, "database-3") as lost:
        session.execute("CREATE TABLE orders (id int)")
        address = aurora_lab.address("database-3")
        record = aurora_lab.remove_reader("database-3")
        assert record.happened("removed")
        with pytest.raises(psycopg.errors.AdminShutdown):
            lost.execute("SELECT 1")
        session.execute("INSERT INTO orders VALUES (1)")
    check_known(aurora_lab, {"database-1", "database-2"})
    assert leads_nowhere(aurora_lab, "database-3")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert not (aurora_lab.directory / "database-3").exists()
    added = aurora_lab.add_reader()
    assert added.host == "database-4", "no number is given twice"
    assert aurora_lab.address("database-4") != address
    assert aurora_lab.add_reader("database-3").host == "database-3"
    check_known(aurora_lab, {f"database-{number}" for number in range(1, 5)})


@pytest.mark.aurora_lab(hosts=2)
def test_the_last_reader_can_be_removed_and_another_added(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
        aurora_lab.remove_reader("database-2")
        assert aurora_lab.replication == "none"
        session.execute("INSERT INTO orders VALUES (1)")
    assert aurora_lab.resolve(aurora_lab.reader_endpoint, 5432) == [aurora_lab.address("database-1")]
    aurora_lab.add_reader("other")
    aurora_lab.failover()
    assert aurora_lab.writer == "other"
    assert rows(aurora_lab, "writer", "SELECT id FROM orders") == [(1,)]


@pytest.mark.parametrize("state", ["crash", "freeze", "black_hole", "deposed"])
def test_a_host_that_is_not_well_can_be_removed(aurora_lab: PostgresLab, state: str) -> None:
    host = "database-3"
    if state == "deposed":
        host = "database-1"
        aurora_lab.freeze(host)
        aurora_lab.failover()
    else:
        getattr(aurora_lab, state)(host)
    aurora_lab.remove_reader(host)
    assert host not in aurora_lab.hosts
    aurora_lab.wait_ready()
    assert aurora_lab.replication == "synchronous"


@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_a_renamed_host_is_restarted_and_known_by_its_new_name_alone(aurora_lab: PostgresLab, host: str) -> None:
    with connect(aurora_lab, host) as session:
        record = aurora_lab.rename(host, "renamed")
        assert record.at("stopped") < record.at("renamed") < record.at("started")
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
    others = {id_ for id_ in ("database-1", "database-2", "database-3") if id_ != host}
    aurora_lab.wait_ready()
    check_known(aurora_lab, {"renamed", *others})
    assert leads_nowhere(aurora_lab, host)
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
    aurora_lab.failover()
    aurora_lab.wait_ready()
    check_known(aurora_lab, {"renamed", *others})


def test_all_hosts_can_get_new_names(aurora_lab: PostgresLab) -> None:
    for number in (1, 2, 3):
        aurora_lab.rename(f"database-{number}", f"orders-{number}")
    check_known(aurora_lab, {"orders-1", "orders-2", "orders-3"})
    assert aurora_lab.writer == "orders-1"
    assert all(leads_nowhere(aurora_lab, f"database-{number}") for number in (1, 2, 3))


@pytest.mark.aurora_lab(dns_lag_seconds=600.0)
def test_names_of_members_lag_like_all_names(aurora_lab: PostgresLab) -> None:
    before = aurora_lab.address("database-2")
    aurora_lab.rename("database-2", "renamed")
    aurora_lab.remove_reader("database-3")
    domain = "xyz.us-east-1.rds.amazonaws.com"
    assert aurora_lab.resolve(f"database-2.{domain}", 5432) == [before]
    assert aurora_lab.resolve(f"database-3.{domain}", 5432)
    assert leads_nowhere(aurora_lab, "renamed")


def test_members_are_set_back(aurora_lab: PostgresLab) -> None:
    aurora_lab.remove_reader("database-2")
    aurora_lab.rename("database-1", "database-2")
    aurora_lab.rename("database-3", "database-1")
    aurora_lab.add_reader("database-3")
    aurora_lab.add_reader("extra")
    aurora_lab.failover("extra")
    aurora_lab.remove_reader("database-2")
    aurora_lab.reset()
    assert aurora_lab.hosts == ("database-1", "database-2", "database-3")
    assert aurora_lab.writer == "database-1"
    check_known(aurora_lab, set(aurora_lab.hosts))
    assert aurora_lab.add_reader().host == "database-4"


def test_hosts_that_swapped_names_are_set_back(aurora_lab: PostgresLab) -> None:
    first = aurora_lab.address("database-1")
    for old, new in (("database-1", "aside"), ("database-2", "database-1"), ("aside", "database-2")):
        aurora_lab.rename(old, new)
    aurora_lab.reset()
    assert aurora_lab.address("database-1") == first
    check_known(aurora_lab, {"database-1", "database-2", "database-3"})


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        ("add_reader", ("database-1",), "there is a host 'database-1' already"),
        ("add_reader", ("9lives",), "is no instance identifier"),
        ("rename", ("database-2", "two--hyphens"), "is no instance identifier"),
        ("rename", ("database-2", "a" * 64), "is no instance identifier"),
        ("rename", ("database-2", "DATABASE-1"), "already"),
        ("rename", ("database-9", "other"), "there is no host"),
        ("remove_reader", ("database-1",), "writes; fail over first"),
    ],
)
def test_what_cannot_be_done_to_members_is_said(
    aurora_lab: PostgresLab, operation: str, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabError, match=message):
        getattr(aurora_lab, operation)(*arguments)
    assert aurora_lab.hosts == ("database-1", "database-2", "database-3")


def test_members_wait_for_a_writer(aurora_lab: PostgresLab) -> None:
    aurora_lab.crash("database-1")
    for operation, arguments in (
        ("add_reader", ()), ("remove_reader", ("database-2",)), ("rename", ("database-2", "other")),
    ):  # fmt: skip
        with pytest.raises(LabError, match="database-1 is crashed"):
            getattr(aurora_lab, operation)(*arguments)


def test_a_reader_can_be_added_where_all_share_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_can_bind", lambda places: all(place[0] == "127.0.0.1" for place in places))
    with PostgresLab(hosts=2) as lab:
        lab.add_reader()
        assert len({lab.address(host) for host in lab.hosts}) == 3
        check_known(lab, {"database-1", "database-2", "database-3"})
