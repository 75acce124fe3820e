"""The life of a cluster between its connections, with a clock turned by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aurora_actors.actors.clock import HandClock, settle_actors
from aurora_actors.actors.cluster import Cluster, Identity
from aurora_actors.actors.messages import Retire
from aurora_actors.actors.naming import Naming
from aurora_actors.dialects.postgres import AuroraPostgres
from aurora_actors.drivers.base import Access
from aurora_actors.model.endpoints import parse_instance_pattern
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.topology import ClusterTopology, Knowledge, Verdict
from tests.flow.stage import PORT, StageDriver

START = 1000.0
GRACE = 60.0
REFRESH = 10 * GRACE
"""Nobody is looked at while these tests last."""
BOUND_SECONDS = 10.0


class Life:
    """A cluster, its clock, and how often nobody needed it any more."""

    def __init__(self) -> None:
        self.clock = HandClock(START)
        self.idle: list[Cluster] = []
        driver: Any = StageDriver([])
        self.access = Access(driver, print, {"host": "db-1"})
        members = (Host("db-1", "db-1", PORT, Role.WRITER),)
        self.cluster = Cluster(
            "life", Identity("pg", "", ""), Naming(AuroraPostgres(), parse_instance_pattern("?"), PORT, members),
            Knowledge(ClusterTopology("life", members, 1), Verdict(at=START - 10)), refresh=REFRESH, least=(0.0, 0.0),
            grace=GRACE, timer=self.clock, idle=self.idle.append,
        )  # fmt: skip

    def connects_and_closes(self) -> None:
        self.cluster.lease(self.access).release()

    def turn(self, seconds: float) -> None:
        self.clock.advance(seconds, lambda: settle_actors([self.cluster.topology, self.cluster.failover], BOUND_SECONDS))

    @property
    def timers(self) -> int:
        """How many ends of grace periods are awaited."""
        return sum(isinstance(message, Retire) for _, message in self.clock.pending())


@pytest.fixture
def life() -> Iterator[Life]:
    made = Life()
    yield made
    made.cluster.stop(BOUND_SECONDS)


def test_any_number_of_connections_that_come_and_go_leave_one_timer(life: Life) -> None:
    for _ in range(100):
        life.connects_and_closes()
        life.turn(GRACE / 200)
    assert life.timers == 1


def test_the_grace_period_counts_from_the_last_connection(life: Life) -> None:
    life.connects_and_closes()
    life.turn(GRACE / 2)
    life.connects_and_closes()
    life.turn(GRACE * 0.99)
    assert life.idle == []
    assert life.timers == 1
    life.turn(GRACE * 0.02)
    assert life.idle == [life.cluster]
    assert life.timers == 0


def test_a_connection_that_is_open_when_a_grace_period_ends_has_one_of_its_own(life: Life) -> None:
    life.connects_and_closes()
    held = life.cluster.lease(life.access)
    life.turn(GRACE * 2)
    assert life.timers == 0
    held.release()
    life.turn(GRACE)
    assert life.idle == [life.cluster]


def test_actors_that_took_the_place_of_others_are_given_back_as_well(life: Life) -> None:
    life.connects_and_closes()
    life.cluster.stop(BOUND_SECONDS)
    life.connects_and_closes()
    life.turn(GRACE)
    assert life.idle == [life.cluster]
