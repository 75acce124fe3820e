"""Verified defects of the AWS wrapper 3.1 that concern psycopg in threads, and which test shows that we have none of them.

The numbers are those of the list of its weaknesses that this package was designed against. A test of this file is named
after its number; the others stand where their subject is tested.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from aurora_actors.lab.template import OWNER
from tests.failover.applications import connect, kill_own_session, where

TESTS = Path(__file__).parent.parent
HERE = "failover/test_known_defects.py"
DEFECTS: dict[int, tuple[str, tuple[str, str]]] = {
    1: (
        "two clusters in one process share a topology unless told apart",
        ("failover/test_clusters.py", "test_two_clusters_in_one_process_never_mix"),
    ),
    3: (
        "failover works once per connection",
        ("failover/test_psycopg_failover.py", "test_three_failovers_in_a_row_on_one_connection"),
    ),
    4: (
        "failover_mode=strict-writer means reader_or_writer",
        ("failover/test_modes.py", "test_a_strict_writer_is_given_no_reader"),
    ),
    5: ("leaving `with conn:` neither commits nor rolls back", (HERE, "test_05_a_with_block_commits_or_rolls_back")),
    6: (
        "executemany, two-phase commit and iteration are outside failover",
        ("failover/test_operations_lost.py", "test_outside_a_transaction"),
    ),
    8: (
        "execute() gives the raw cursor, so that chained calls bypass failover",
        (HERE, "test_08_chained_calls_and_iteration_stay_watched"),
    ),
    9: (
        "the driver's errors are re-typed",
        ("failover/test_no_losses.py", "test_the_driver_s_own_error_on_the_same_session"),
    ),
    11: (
        "monitors never replace a dead connection",
        ("failover/test_scenarios.py", "test_sessions_that_die_while_hosts_are_asked"),
    ),
    12: (
        "a refused login ends a monitor for good",
        ("failover/test_scenarios.py", "test_logins_refused_while_a_writer_is_searched_for"),
    ),
    13: (
        "more hosts than worker threads are not all probed, and the panic never ends",
        ("actors/test_topology_actor.py", "test_more_hosts_than_processors_are_all_asked"),
    ),
    15: (
        "whoever notices late throws the verified writer away and starts a new storm",
        ("failover/test_late_noticing.py", "test_who_notices_late_causes_no_new_search"),
    ),
    17: ("a second region breaks clients", (HERE, "test_17_a_second_region_changes_nothing")),
    20: (
        "readers are tried without pause",
        ("failover/test_scenarios.py", "test_when_everybody_refuses_the_attempts_are_few"),
    ),
    23: (
        "on a plain database the real error is masked",
        ("failover/test_scenarios.py", "test_a_plain_database_with_default_settings_gives_its_own_error"),
    ),
    24: (
        "classes of SQLSTATE never match, and messages of the driver are missing from a list",
        (HERE, "test_24_a_loss_is_known_by_its_connection_not_by_its_words"),
    ),
    35: (
        "failure monitoring queues an entry for every call",
        ("failover/test_processes.py", "test_calls_leave_nothing_behind"),
    ),
    42: (
        "nothing works in a forked child",
        ("failover/test_processes.py", "test_a_child_connects_and_survives_a_failover_of_its_own"),
    ),
    43: (
        "an import starts threads and loads what is not used",
        ("failover/test_processes.py", "test_an_import_starts_no_thread_and_loads_no_driver"),
    ),
    44: (
        "monitors never expire",
        ("failover/test_bounds.py", "test_no_thread_is_left_after_the_last_connection_and_the_grace_period"),
    ),
    45: (
        "a failover of many connections is a storm of threads and logins",
        ("failover/test_bounds.py", "test_fifty_connections_through_a_failover"),
    ),
    46: (
        "after a failover all connections log in at once",
        ("failover/test_processes.py", "test_no_more_than_a_few_log_in_at_the_same_time"),
    ),
    56: (
        "a connect costs more the more connections are open",
        ("failover/test_bounds.py", "test_a_connect_costs_the_same_however_many_are_open"),
    ),
    57: (
        "a first connect sends twelve statements over two sessions",
        ("failover/test_bounds.py", "test_the_statements_of_a_connect"),
    ),
}


@pytest.mark.parametrize("number", DEFECTS)
def test_the_test_that_stands_for_a_defect_exists(number: int) -> None:
    _, (file, name) = DEFECTS[number]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_05_a_with_block_commits_or_rolls_back(aurora_lab: PostgresLab) -> None:
    def fail() -> None:
        with connect(aurora_lab, autocommit=False) as conn:
            conn.execute("INSERT INTO kept VALUES (2)")
            raise LookupError("the application's own")

    with connect(aurora_lab, autocommit=False) as conn:
        conn.execute("CREATE TABLE kept (id int)")
        conn.execute("INSERT INTO kept VALUES (1)")
    assert conn.closed
    with pytest.raises(LookupError):
        fail()
    with connect(aurora_lab) as conn:
        assert conn.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_08_chained_calls_and_iteration_stay_watched(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as conn:
        cursor = conn.execute("SELECT 1")
        assert cursor.connection is conn
        assert cursor.execute("SELECT 2").fetchone() == (2,)
        assert [row[0] for row in conn.execute("SELECT n FROM generate_series(1, 3) AS n")] == [1, 2, 3]
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            cursor.execute("SELECT 3").fetchone()
        assert cursor.execute("SELECT 3").fetchone() == (3,)
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            list(conn.cursor().execute("SELECT 4"))


@contextmanager
def second_region(lab: PostgresLab) -> Iterator[None]:
    """What a member of a global database with two regions answers, whoever asks."""
    folder, (_, port) = lab.directory / lab.writer, lab.address(lab.writer)
    functions = ("aurora_global_db_status", "aurora_global_db_instance_status")
    with psycopg.connect(
        host=str(folder), port=port, user=OWNER, dbname=lab.login.database, autocommit=True
    ) as administrator:
        administrator.execute("SET allow_system_table_mods = on")
        for name in functions:
            administrator.execute(
                f"CREATE FUNCTION pg_catalog.{name}() RETURNS TABLE (aws_region text) LANGUAGE sql"
                " AS $$ VALUES ('us-east-1'), ('eu-west-1') $$".encode()
            )
        try:
            yield
        finally:
            for name in functions:
                administrator.execute(f"DROP FUNCTION pg_catalog.{name}()".encode())


@pytest.mark.parametrize("endpoint", ["writer", "reader", "database-2"])
def test_17_a_second_region_changes_nothing(aurora_lab: PostgresLab, endpoint: str) -> None:
    with second_region(aurora_lab), connect(aurora_lab, endpoint) as conn:
        assert conn.execute("SELECT count(*) FROM pg_catalog.aurora_global_db_status()").fetchone() == (2,)
        assert where(conn) in aurora_lab.hosts
        (cluster,) = system.clusters
        assert cluster.naming.dialect.code == "aurora-pg"
        assert {host.id for host in cluster.cell.view.topology.hosts} == set(aurora_lab.hosts)
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")


@pytest.mark.parametrize("habit", ["goodbye", "crash", "restart"])
def test_24_a_loss_is_known_by_its_connection_not_by_its_words(aurora_lab: PostgresLab, habit: str) -> None:
    """With a code (57P01), with a broken socket and no code, and whatever the driver says of it."""
    with connect(aurora_lab) as conn:
        if habit == "goodbye":
            kill_own_session(aurora_lab, conn)
        elif habit == "crash":
            aurora_lab.failover(how="crash", rejoin=False)
        else:
            aurora_lab.restart(aurora_lab.writer)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        assert (caught.value.__cause__.sqlstate == "57P01") is (habit == "goodbye")
        assert where(conn) == aurora_lab.writer
