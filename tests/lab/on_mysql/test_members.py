"""Readers come and go, hosts get other names, and packets are late or lost."""

from __future__ import annotations

import time

import mysql.connector
import pytest

from aurora_actors.lab import LabError, MysqlLab, black_holes, packet_filter
from tests.lab.on_mysql.sessions import TOPOLOGY, connect, execute, rows
from tests.lab.sessions import eventually, in_background

SILENCE_SECONDS = 0.3
"""A server on the same machine answers within a few milliseconds."""
LATE_MS = 200.0


FIRST = {"database-1", "database-2", "database-3"}


def members(lab: MysqlLab) -> set[str]:
    return set(lab.hosts)


def test_a_reader_is_added_and_removed(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
        execute(session, "INSERT INTO orders VALUES (1)")
    assert lab.add_reader().host == "database-4"
    found = rows(lab, "database-4", "SELECT id, @@aurora_server_id, @@innodb_read_only FROM orders")
    assert found == [(1, "database-4", 1)]
    assert members(lab) == {row[0] for row in rows(lab, "writer", TOPOLOGY)} == {*FIRST, "database-4"}
    lab.failover("database-4")
    assert rows(lab, "writer", "SELECT id FROM orders") == [(1,)]
    lab.wait_ready()
    lab.remove_reader("database-1")
    assert {row[0] for row in rows(lab, "writer", TOPOLOGY)} == {"database-2", "database-3", "database-4"}
    lab.reset()
    assert members(lab) == FIRST


@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_a_host_gets_another_name(aurora_mysql_lab: MysqlLab, host: str) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
    lab.rename(host, "blue")
    assert rows(lab, "blue", "SELECT @@aurora_server_id, COUNT(*) FROM orders") == [("blue", 0)]
    assert "blue" in {row[0] for row in rows(lab, "writer", TOPOLOGY)}
    lab.wait_ready()
    lab.failover()
    lab.wait_ready()
    lab.reset()
    assert members(lab) == FIRST
    assert rows(lab, host, "SELECT @@aurora_server_id") == [(host,)]


@pytest.mark.skipif(black_holes.kind() != "nft", reason="cut flows of MySQL need nft and CAP_NET_ADMIN")
def test_open_connections_are_cut_and_new_ones_work(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as cut:
        lab.cut_flow("database-1")
        with in_background(lambda: execute(cut, "SELECT 1")) as waiting:
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive()
            with connect(lab) as session:
                execute(session, "CREATE TABLE orders (id int)")
            lab.heal("database-1")


def test_without_a_packet_filter_no_flow_is_cut(aurora_mysql_lab: MysqlLab, monkeypatch: pytest.MonkeyPatch) -> None:
    if black_holes.kind() == "none":
        pytest.skip("black holes and cut flows need Linux")
    monkeypatch.setattr(black_holes, "kind", lambda: "socket-filter")
    with pytest.raises(LabError, match="with nft alone"):
        aurora_mysql_lab.cut_flow("database-1")
    aurora_mysql_lab.heal("database-1")
    assert rows(aurora_mysql_lab, "writer", "SELECT 1") == [(1,)]


@pytest.mark.parametrize("way", ["packet-queue", "pauses"])
def test_a_slow_host_answers_late(aurora_mysql_lab: MysqlLab, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    lab = aurora_mysql_lab
    if way == "packet-queue" and lab.slow_kind != way:
        pytest.skip("packets can be queued with nft and CAP_NET_ADMIN alone")
    if way == "pauses":
        monkeypatch.setattr(packet_filter, "feeder", lambda: "none")
    with connect(lab) as session:
        lab.slow("database-1", LATE_MS)
        began = time.monotonic()
        execute(session, "SELECT 1")
        execute(session, "SELECT 1")
        if way == "packet-queue":
            assert time.monotonic() - began > LATE_MS / 1000
        lab.slow("database-1", 0)
        execute(session, "CREATE TABLE orders (id int)")
    eventually(lambda: rows(lab, "database-2", "SHOW TABLES") == [("orders",)])


def test_a_frozen_reader_can_be_removed(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.freeze("database-3")
    aurora_mysql_lab.remove_reader("database-3")
    assert aurora_mysql_lab.hosts == ("database-1", "database-2")
    with pytest.raises((mysql.connector.Error, LabError)):
        rows(aurora_mysql_lab, "database-3", "SELECT 1")
