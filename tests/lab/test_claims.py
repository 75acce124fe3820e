"""More than one writer, or none: what hosts claim, and a former writer that comes back as it was."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest

from aurora_actors.lab import LabError, PostgresLab
from tests.lab.sessions import TOPOLOGY, believed_writers, connect, eventually, in_background, rows

ROLE = "SELECT pg_is_in_recovery()"
HANG_SECONDS = 0.3
"""A commit that is acknowledged at all is so within some milliseconds."""


def report_times(lab: PostgresLab, endpoint: str) -> dict[str, dt.datetime]:
    return {row[0]: row[4] for row in rows(lab, endpoint, TOPOLOGY)}


@pytest.mark.parametrize("ago", [-5.0, 60.0])
def test_a_reader_claims_to_write_beside_the_writer(aurora_lab: PostgresLab, ago: float) -> None:
    record = aurora_lab.claim_writer("database-2", updated_seconds_ago=ago)
    assert record.happened("writer_claimed")
    assert believed_writers(aurora_lab, "database-2") == {"database-1", "database-2"}
    times = report_times(aurora_lab, "database-2")
    assert times["database-1"] - times["database-2"] == dt.timedelta(seconds=ago)
    assert rows(aurora_lab, "database-2", ROLE) == [(True,)]
    for other in ("database-1", "database-3"):
        assert believed_writers(aurora_lab, other) == {"database-1"}
    assert [status.claims_to_write for status in aurora_lab.status()] == [False, True, False]
    assert aurora_lab.claim_writer("database-2", on=False).happened("claim_withdrawn")
    assert believed_writers(aurora_lab, "database-2") == {"database-1"}


@pytest.mark.aurora_lab(own_report_time=False)
def test_a_claim_may_come_without_a_time(aurora_lab: PostgresLab) -> None:
    aurora_lab.claim_writer("database-2", updated_seconds_ago=None)
    assert believed_writers(aurora_lab, "database-2") == {"database-1", "database-2"}
    assert {row[0] for row in rows(aurora_lab, "database-2", TOPOLOGY) if row[4] is None} == {"database-2"}


def test_a_claim_ends_when_it_comes_true(aurora_lab: PostgresLab) -> None:
    aurora_lab.claim_writer("database-2", updated_seconds_ago=60.0)
    with pytest.raises(LabError, match="what it claims is true"):
        aurora_lab.claim_writer("database-1")
    aurora_lab.failover("database-2")
    times = report_times(aurora_lab, "database-2")
    assert times["database-3"] - times["database-2"] == dt.timedelta(0)


def test_nobody_may_be_told_to_write(aurora_lab: PostgresLab) -> None:
    aurora_lab.claim_nobody()
    for host in aurora_lab.hosts:
        assert believed_writers(aurora_lab, host) == set()
        assert len(rows(aurora_lab, host, TOPOLOGY)) == 3
    assert rows(aurora_lab, "writer", ROLE) == [(False,)]
    aurora_lab.claim_nobody(on=False)
    assert all(believed_writers(aurora_lab, host) == {"database-1"} for host in aurora_lab.hosts)


@pytest.mark.aurora_lab(flavour="plain", hosts=2)
def test_community_postgresql_claims_nothing(aurora_lab: PostgresLab) -> None:
    with pytest.raises(LabError, match="tell no topology"):
        aurora_lab.claim_writer("database-2")
    with pytest.raises(LabError, match="tell no topology"):
        aurora_lab.claim_nobody()


@pytest.mark.parametrize("way", ["crash", "planned", "freeze", "black_hole"])
def test_a_former_writer_comes_back_as_it_was_and_acknowledges_nothing(aurora_lab: PostgresLab, way: str) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
    if way in {"crash", "planned"}:
        aurora_lab.failover("database-2", "planned" if way == "planned" else "crash", rejoin=False)
    else:
        getattr(aurora_lab, way)("database-1")
        aurora_lab.failover("database-2")
    record = aurora_lab.resurrect("database-1")
    assert record.happened("resurrected")
    assert (aurora_lab.writer, aurora_lab.status()[0].state) == ("database-2", "resurrected")
    assert [rows(aurora_lab, host, ROLE) for host in aurora_lab.hosts] == [[(False,)], [(False,)], [(True,)]]
    assert aurora_lab.status()[0].timeline < aurora_lab.status()[1].timeline

    ghost = connect(aurora_lab, "database-1")
    assert ghost.execute("SELECT id FROM orders").fetchall() == []
    errors: list[BaseException] = []

    def insert() -> None:
        try:
            ghost.execute("INSERT INTO orders VALUES (1)")
        except psycopg.OperationalError as error:
            errors.append(error)

    with in_background(insert) as waiting:
        waiting.join(HANG_SECONDS)
        assert waiting.is_alive()
        with connect(aurora_lab) as session:
            session.execute("INSERT INTO orders VALUES (2)")
        aurora_lab.restart("database-1")
    assert len(errors) == 1
    aurora_lab.wait_ready()
    for host in aurora_lab.hosts:
        eventually(lambda host=host: rows(aurora_lab, host, "SELECT id FROM orders") == [(2,)])  # type: ignore[misc]


def test_a_former_writer_may_refuse_writes(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover(rejoin=False)
    aurora_lab.resurrect("database-1", commits="refuse")
    with connect(aurora_lab, "database-1") as ghost, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        ghost.execute("CREATE TABLE orders (id int)")


@pytest.mark.parametrize("ago", [None, 0.0])
def test_a_former_writer_names_itself_with_old_news_or_new(aurora_lab: PostgresLab, ago: float | None) -> None:
    aurora_lab.failover(rejoin=False)
    aurora_lab.resurrect("database-1", updated_seconds_ago=ago)
    assert believed_writers(aurora_lab, "database-1") == {"database-1"}
    assert believed_writers(aurora_lab, aurora_lab.writer) == {aurora_lab.writer}
    first, second = (report_times(aurora_lab, "database-1")["database-1"] for _ in range(2))
    assert (first == second) is (ago is None)


def test_a_former_writer_goes_by_itself_after_a_while(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover(rejoin=False)
    aurora_lab.resurrect("database-1", 0.2)
    eventually(lambda: aurora_lab.status()[0].state == "available")
    assert rows(aurora_lab, "database-1", ROLE) == [(True,)]
    assert [event.name for event in aurora_lab.events if event.host == "database-1"][-3:] == [
        "resurrected", "killed", "rejoined"
    ]  # fmt: skip


def test_only_a_former_writer_can_come_back(aurora_lab: PostgresLab) -> None:
    for host in ("database-1", "database-2"):
        with pytest.raises(LabError, match="is no former writer that kept its data"):
            aurora_lab.resurrect(host)
    aurora_lab.failover()
    aurora_lab.wait_ready()
    with pytest.raises(LabError, match="is no former writer"):
        aurora_lab.resurrect("database-1")


def test_claims_and_ghosts_are_set_back(aurora_lab: PostgresLab) -> None:
    aurora_lab.failover("database-2", rejoin=False)
    aurora_lab.resurrect("database-1")
    aurora_lab.claim_writer("database-3")
    aurora_lab.claim_nobody()
    aurora_lab.reset()
    assert aurora_lab.writer == "database-1"
    assert not any(status.claims_to_write for status in aurora_lab.status())
    for host in aurora_lab.hosts:
        assert believed_writers(aurora_lab, host) == {"database-1"}
