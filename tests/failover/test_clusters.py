"""Which cluster a connection belongs to, and what an endpoint of each kind leads to."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import mysql.connector
import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.cluster import Identity
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab


def connect(lab: PostgresLab, endpoint: str = "writer", **parameters: Any) -> Any:
    return aurora_actors.connect(psycopg.connect, lab.conninfo(endpoint), autocommit=True, **parameters)


def test_two_clusters_in_one_process_never_mix() -> None:
    with PostgresLab(hosts=2, name="orders") as orders, PostgresLab(hosts=2, name="people") as people:

        def resolve(host: str, port: int) -> Sequence[tuple[str, int]]:
            return (orders if host.startswith("orders") else people).resolve(host, port)

        with connect(orders, resolve=resolve) as one, connect(people, resolve=resolve) as other:
            assert len(system.clusters) == 2
            orders.failover(how="crash")
            with pytest.raises(FailoverSuccessError):
                one.execute("SELECT 1")
            names = [conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0] for conn in (one, other)]
            assert names == [orders.writer, people.writer]


@pytest.mark.parametrize("postgres_first", [True, False])
def test_engines_with_the_same_names_never_mix(
    aurora_lab: PostgresLab, aurora_mysql_lab: MysqlLab, postgres_first: bool
) -> None:
    assert aurora_lab.writer_endpoint == aurora_mysql_lab.writer_endpoint

    def opened(lab: PostgresLab | MysqlLab) -> Any:
        driver = psycopg.connect if lab is aurora_lab else mysql.connector.connect
        return aurora_actors.connect(driver, lab.conninfo(), resolve=lab.resolve, autocommit=True)

    labs = (aurora_lab, aurora_mysql_lab) if postgres_first else (aurora_mysql_lab, aurora_lab)
    with opened(labs[0]) as one:
        aurora_lab.failover("database-2", how="planned")
        aurora_mysql_lab.failover("database-3", how="planned")
        with opened(labs[1]) as other:
            assert len(system.clusters) == 2
            for conn, lab in ((one, labs[0]), (other, labs[1])):
                with suppress(FailoverSuccessError), conn.cursor() as cursor:
                    cursor.execute("CREATE TABLE t (id int)")
                assert conn._aa_link.proxy.host.id == lab.writer
                ports = {host.port for host in conn._aa_link.proxy.control.cell.view.topology.hosts}
                assert ports == {lab.address(lab.writer)[1]}


@pytest.mark.parametrize("change", [{"engine": "mysql"}, {"cluster_id": "apart"}, {"zone": "?.abc:5433"}])
def test_what_keeps_clusters_apart(change: dict[str, str]) -> None:
    one = Identity("pg", "", "?.abc:5432", frozenset({"orders"}), frozenset({"orders-1"}))
    assert one.is_same(replace(one, labels=frozenset[str]()))
    assert not one.is_same(replace(one, **cast("dict[str, Any]", change)))
    bare = replace(one, zone="", addresses=frozenset({("10.0.0.1", 5432)}))
    assert bare.is_same(replace(bare, labels=frozenset[str]()))
    assert not bare.is_same(replace(bare, **cast("dict[str, Any]", change)))


def test_endpoints_of_one_cluster_share_it(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab), connect(aurora_lab, "reader"), connect(aurora_lab, "database-2"):
        assert len(system.clusters) == 1
    with connect(aurora_lab), connect(aurora_lab, cluster_id="apart"):
        assert len(system.clusters) == 2


def test_logins_refused_after_the_promotion_are_waited_for(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as conn:
        readers = aurora_lab.readers
        for host in readers:
            aurora_lab.refuse_logins(host)
        aurora_lab.failover(how="crash")
        seen = threading.Event()
        aurora_actors.signals.failover_started.connect(allow := _allowing(aurora_lab, readers, seen))
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert seen.wait(30.0)
        del allow


def _allowing(lab: PostgresLab, hosts: Sequence[str], seen: threading.Event) -> Any:
    def allow(_: str, event: object) -> None:
        for host in hosts:
            lab.refuse_logins(host, on=False)
        seen.set()

    return allow


def test_behind_an_address_names_are_not_guessed(
    aurora_lab: PostgresLab, caplog: pytest.LogCaptureFixture
) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    conninfo = aurora_lab.conninfo("writer", host=address, port=port)
    with (
        caplog.at_level(logging.WARNING, "aurora_actors"),
        aurora_actors.connect(psycopg.connect, conninfo, autocommit=True, plugins="failover") as conn,
    ):
        aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert caught.value.host is not None
        assert caught.value.host.endpoint == address
    assert [record for record in caplog.records if "cluster_instance_host_pattern" in record.getMessage()]


def test_actors_stop_after_the_last_connection_and_the_grace_period(aurora_lab: PostgresLab) -> None:
    conn = connect(aurora_lab, monitor_disposal_time_ms=1)

    def ours() -> dict[str, threading.Thread]:
        prefixes = ("aurora_actors-topology", "aurora_actors-failover")
        return {each.name.partition(" ")[0]: each for each in threading.enumerate() if each.name.startswith(prefixes)}

    # The other one is needed for a search alone.
    assert list(ours()) == ["aurora_actors-topology"]
    aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
    with pytest.raises(FailoverSuccessError):
        conn.execute("SELECT 1")
    threads = list(ours().values())
    assert len(threads) == 2
    conn.close()
    for thread in threads:
        thread.join(10.0)
        assert not thread.is_alive()
    assert system.clusters == ()


def test_the_process_ends_with_connections_open(aurora_lab: PostgresLab) -> None:
    address, port = aurora_lab.address(aurora_lab.writer)
    script = (
        "import aurora_actors, psycopg\n"
        f"conn = aurora_actors.connect(psycopg.connect, {aurora_lab.conninfo('writer')!r}, autocommit=True,"
        f" plugins='failover', resolve=lambda host, number: [({address!r}, {port})])\n"
        "print(conn.execute('SELECT 1').fetchone())\n"
        "conn._pool = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(1,)"), done.stderr
