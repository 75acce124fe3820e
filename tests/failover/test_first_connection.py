"""What the first connection may ask for: a role, time for the topology, a limit and a pace for its search."""

from __future__ import annotations

import pytest

import aurora_actors
from aurora_actors import Outcome
from aurora_actors.actors.system import system
from aurora_actors.flow.io import BlockingIo
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connect, forget_clusters, where


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long flows asked to sleep."""
    asked: list[float] = []
    sleep = BlockingIo.sleep

    async def noting(self: BlockingIo, seconds: float) -> None:
        asked.append(seconds)
        await sleep(self, min(seconds, 0.05))

    monkeypatch.setattr(BlockingIo, "sleep", noting)
    return asked


def test_with_time_for_the_topology_the_writer_is_known_after_the_first_connect(aurora_lab: PostgresLab) -> None:
    reader = aurora_lab.readers[0]
    with connect(aurora_lab, reader, wait_for_initial_topology_ms=20_000) as conn:
        assert where(conn) == reader
        (cluster,) = system.clusters
        writer = cluster.cell.standing.topology.writer
        assert cluster.cell.standing.settled
        assert writer is not None
        assert writer.id == aurora_lab.writer


def test_time_for_the_topology_is_limited(aurora_lab: PostgresLab) -> None:
    reader = aurora_lab.readers[0]
    aurora_lab.freeze(aurora_lab.writer)
    with connect(aurora_lab, reader, wait_for_initial_topology_ms=100) as conn:
        assert where(conn) == reader
        assert not system.clusters[0].cell.standing.settled


@pytest.mark.parametrize("parameter", ["endpoint_substitution_role", "verify_opened_connection_type"])
@pytest.mark.parametrize(("endpoint", "role"), [("writer", "reader"), ("reader", "writer")])
def test_the_first_connection_has_the_role_asked_for(
    aurora_lab: PostgresLab, parameter: str, endpoint: str, role: str
) -> None:
    wanted = {"writer": (aurora_lab.writer,), "reader": aurora_lab.readers}[role]
    for _ in range(2):  # with the cluster unknown, and known
        with connect(aurora_lab, endpoint, **{parameter: role}) as conn:
            assert where(conn) in wanted


def test_none_asks_for_no_role_whatever_the_endpoint_promises(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    with connect(aurora_lab, aurora_lab.readers[0], verify_opened_connection_type="none") as conn:
        assert where(conn) in aurora_lab.readers


@pytest.mark.aurora_lab(dns_lag_seconds=60.0)
@pytest.mark.parametrize("parameter", ["endpoint_substitution_role", "verify_opened_connection_type"])
def test_none_trusts_a_dns_that_lags(aurora_lab: PostgresLab, parameter: str) -> None:
    before = aurora_lab.writer
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    with connect(aurora_lab, **{parameter: "none"}) as conn:
        assert where(conn) == before


@pytest.mark.aurora_lab(dns_lag_seconds=60.0)
def test_the_search_for_the_right_role_has_a_limit(
    aurora_lab: PostgresLab, pauses: list[float], signals_noted: Noted
) -> None:
    """The endpoint leads to a reader and nobody writes: an error that says so, and no connection left behind."""
    before = aurora_lab.writer
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    aurora_lab.crash(aurora_lab.writer)
    with pytest.raises(aurora_actors.FailoverFailedError, match="open_connection_retry_timeout_ms") as caught:
        connect(aurora_lab, open_connection_retry_timeout_ms=300, open_connection_retry_interval_ms=300)
    assert caught.value.outcome is Outcome.NOT_SENT
    signals_noted.wait_for("failover_failed")
    assert signals_noted.names("failover_started", "failover_failed", "connection_opened") == [
        "failover_started",
        "failover_failed",
    ]
    assert before in aurora_lab.readers


@pytest.mark.aurora_lab(dns_lag_seconds=60.0)
def test_the_pause_between_tries_can_be_given(
    aurora_lab: PostgresLab, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known writer refuses logins: it is asked again after the pause that was given."""
    aurora_lab.failover(how="planned")
    aurora_lab.wait_ready()
    monkeypatch.setattr(BlockingIo, "jitter", lambda _, seconds: seconds)
    with connect(aurora_lab) as conn:
        assert where(conn) == aurora_lab.writer
        aurora_lab.refuse_logins(aurora_lab.writer)
        with pytest.raises(aurora_actors.FailoverFailedError):
            connect(aurora_lab, open_connection_retry_timeout_ms=600, open_connection_retry_interval_ms=123)
        aurora_lab.refuse_logins(aurora_lab.writer, on=False)
    assert 0.123 in pauses


@pytest.mark.parametrize("chosen", ["database-2", "database-3"])
def test_the_first_connection_goes_to_the_reader_that_the_strategy_chooses(aurora_lab: PostgresLab, chosen: str) -> None:
    for _ in range(2):  # whichever DNS names first
        parameters = {
            "initial_connection_host_selector_strategy": "highest_weight",
            "weighted_random_host_weight_pairs": f"{chosen}:9",
        }
        with connect(aurora_lab, "reader", **parameters) as conn:
            assert where(conn) == chosen
        forget_clusters()
