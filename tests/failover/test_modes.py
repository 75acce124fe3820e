"""failover_mode and endpoints: which host a connection may go to when its own is lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connect, kill_own_session, where


def lose_host(lab: PostgresLab, conn: Any) -> str:
    """Crash the host that the connection is on, and let it notice inside a transaction, where it cannot move silently."""
    before = where(conn)
    lab.crash(before)
    with pytest.raises(FailoverSuccessError):
        conn.execute("SELECT 1")
    return before


@pytest.mark.parametrize("mode", ["strict_reader", "strict-reader", "STRICT_READER", "reader_or_writer"])
def test_a_reader_goes_to_the_other_reader(aurora_lab: PostgresLab, mode: str) -> None:
    with connect(aurora_lab, "reader", failover_mode=mode) as conn:
        lost = lose_host(aurora_lab, conn)
        assert where(conn) in aurora_lab.readers
        assert where(conn) != lost


@pytest.mark.parametrize("mode", [None, "reader_or_writer", "reader-or-writer"])
def test_with_the_last_reader_gone_the_writer_serves_where_it_may(aurora_lab: PostgresLab, mode: str | None) -> None:
    """Without a mode a reader endpoint means reader_or_writer."""
    given = {} if mode is None else {"failover_mode": mode}
    with connect(aurora_lab, "reader", **given) as conn:
        for other in aurora_lab.readers:
            if other != where(conn):
                aurora_lab.crash(other)
        lose_host(aurora_lab, conn)
        assert where(conn) == aurora_lab.writer


def test_with_the_last_reader_gone_a_strict_reader_fails(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    with connect(aurora_lab, "reader", failover_mode="strict_reader", failover_timeout_sec=1) as conn:
        for other in aurora_lab.readers:
            aurora_lab.crash(other)
        with pytest.raises(aurora_actors.FailoverFailedError, match="strict_reader") as caught:
            conn.execute("SELECT 1")
        assert {attempt.host.partition(" ")[0] for attempt in caught.value.attempts} & set(aurora_lab.hosts)
    signals_noted.wait_for("failover_failed")
    assert signals_noted.names("failover_started", "failover_completed", "failover_failed") == [
        "failover_started",
        "failover_failed",
    ]


def test_a_strict_reader_waits_for_a_reader_that_comes_back(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, "reader", failover_mode="strict_reader") as conn:
        first, second = aurora_lab.readers
        aurora_lab.crash(first)
        aurora_lab.crash(second)

        def come_back(*_: object, **__: object) -> None:
            aurora_lab.restart(second)

        aurora_actors.signals.failover_started.connect(come_back)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) == second


@pytest.mark.parametrize("mode", ["strict_writer", "strict-writer"])
def test_a_strict_writer_is_given_no_reader(aurora_lab: PostgresLab, mode: str) -> None:
    with connect(aurora_lab, failover_mode=mode, failover_timeout_sec=1) as conn:
        aurora_lab.crash(aurora_lab.writer)
        with pytest.raises(aurora_actors.FailoverFailedError, match="strict_writer"):
            conn.execute("SELECT 1")


def test_either_takes_a_reader_when_the_writer_is_lost(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, failover_mode="reader_or_writer") as conn:
        aurora_lab.crash(aurora_lab.writer)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) in aurora_lab.readers


def test_a_strict_reader_leaves_a_host_that_was_promoted(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab, "reader", failover_mode="strict_reader") as conn:
        promoted = where(conn)
        aurora_lab.failover(promoted, how="planned")
        aurora_lab.wait_ready()
        kill_own_session(aurora_lab, conn)
        with pytest.raises(FailoverSuccessError):
            conn.execute("SELECT 1")
        assert where(conn) in aurora_lab.readers
        assert where(conn) != promoted


def test_reads_refused_by_a_demoted_writer_are_a_loss_for_who_must_write(aurora_lab: PostgresLab) -> None:
    """25006 from a host that is a reader now: the statement was refused, so that it can be repeated."""
    with connect(aurora_lab, "writer", failover_mode="strict_writer", plugins="failover") as conn:
        conn.execute("CREATE TABLE t (id int)")
        reader = aurora_lab.readers[0]
    with connect(aurora_lab, reader, failover_mode="reader_or_writer") as conn:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("INSERT INTO t VALUES (1)")
        assert where(conn) == reader
    with connect(aurora_lab, reader, failover_mode="strict_writer") as conn:
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("INSERT INTO t VALUES (1)")
        assert caught.value.outcome is aurora_actors.Outcome.ROLLED_BACK
        conn.execute("INSERT INTO t VALUES (1)")
        assert where(conn) == aurora_lab.writer


# Endpoints


def test_a_reader_endpoint_that_leads_to_the_writer_is_corrected(
    aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS lags: the name of the readers still leads to the host that was promoted."""

    def late(host: str, port: int) -> Any:
        return [aurora_lab.address(aurora_lab.writer)] if ".cluster-ro-" in host else aurora_lab.resolve(host, port)

    for _ in range(2):  # with the cluster unknown, and known
        with connect(aurora_lab, "reader", resolve=late) as conn:
            assert where(conn) in aurora_lab.readers


def test_a_reader_endpoint_of_a_cluster_without_readers_leads_to_the_writer(aurora_lab: PostgresLab) -> None:
    for reader in aurora_lab.readers:
        aurora_lab.crash(reader)
    with connect(aurora_lab, "reader") as conn:
        assert where(conn) == aurora_lab.writer


def test_a_writer_endpoint_with_lagging_dns_is_corrected(aurora_lab: PostgresLab) -> None:
    def late(host: str, port: int) -> Any:
        return [aurora_lab.address(aurora_lab.readers[0])] if ".cluster-" in host else aurora_lab.resolve(host, port)

    for _ in range(2):
        with connect(aurora_lab, resolve=late) as conn:
            assert where(conn) == aurora_lab.writer


@pytest.mark.parametrize("strategy", ["random", "round_robin", "weighted_random", "highest_weight"])
def test_new_connections_to_a_known_reader_endpoint_choose_by_strategy(aurora_lab: PostgresLab, strategy: str) -> None:
    favourite = aurora_lab.readers[-1]
    given: dict[str, Any] = {
        "wait_for_initial_topology_ms": 20_000,
        "initial_connection_host_selector_strategy": strategy,
        f"{'round_robin' if strategy == 'round_robin' else 'weighted_random'}_host_weight_pairs": f"{favourite}:1000",
    }
    with connect(aurora_lab, "reader", **given):
        chosen: list[str] = []
        for _ in range(6):
            with connect(aurora_lab, "reader", **given) as conn:
                chosen.append(where(conn))
    assert set(chosen) <= set(aurora_lab.readers)
    if strategy != "random":
        assert chosen.count(favourite) >= 5
