"""Which of several hosts: each strategy as a table, and what holds for all of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_actors.flow.discovery import found, load
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.selection import (
    STRATEGIES,
    Strategy,
    Weights,
    highest_weight,
    random_host,
    round_robin,
    weighted_random,
)

A, B, C = HOSTS = tuple(Host(name, f"{name}.abc", 5432, Role.READER) for name in ("db-a", "db-b", "db-c"))
EVEN: Weights = {"": 1}


@pytest.mark.parametrize(("chance", "host"), [(0.0, A), (0.33, A), (0.34, B), (0.67, C), (0.999_999, C), (1.0, C)])
def test_random_divides_chance_evenly(chance: float, host: Host) -> None:
    assert random_host(HOSTS, EVEN, 0, chance) is host


def test_round_robin_takes_turns_by_id_whatever_the_order() -> None:
    assert [round_robin((C, A, B), EVEN, turn, 0.5) for turn in range(5)] == [A, B, C, A, B]


def test_round_robin_gives_a_host_as_many_turns_in_a_row_as_it_weighs() -> None:
    assert [round_robin(HOSTS, {"": 1, "db-b": 3}, turn, 0.5) for turn in range(6)] == [A, B, B, B, C, A]


@pytest.mark.parametrize(("chance", "host"), [(0.0, A), (0.24, A), (0.26, B), (0.74, B), (0.76, C), (1.0, C)])
def test_weighted_random_divides_chance_by_weight(chance: float, host: Host) -> None:
    assert weighted_random(HOSTS, {"": 1, "db-b": 2}, 0, chance) is host


def test_a_weight_can_be_given_by_endpoint_and_its_case_does_not_matter() -> None:
    upper = Host("DB-A", "DB-A.abc", 5432, Role.READER)
    for weights in ({"": 1, "db-a.abc": 5}, {"": 1, "db-a": 5}):
        assert highest_weight((B, upper, C), weights, 0, 0.0) is upper


@pytest.mark.parametrize(
    ("weights", "host"), [(EVEN, A), ({"": 1, "db-c": 2}, C), ({"": 1, "db-b": 2, "db-c": 2}, B), ({"": 9, "db-a": 1}, B)]
)
def test_the_heaviest_is_chosen_and_of_several_the_first_by_id(weights: Weights, host: Host) -> None:
    assert highest_weight(tuple(reversed(HOSTS)), weights, 0, 0.0) is host


def test_each_strategy_is_an_entry_point_of_its_name() -> None:
    group = "aurora_actors.host_selectors"
    assert {record.name: load(group, record.name).value for record in found(group)} == dict(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
@given(
    count=st.integers(1, 15),
    turn=st.integers(0, 10**9),
    chance=st.floats(0.0, 1.0),
    weight=st.integers(1, 100),
)
def test_any_choice_is_one_of_the_hosts(name: str, count: int, turn: int, chance: float, weight: int) -> None:
    hosts = tuple(Host(f"h{number}", f"h{number}.abc", 5432) for number in range(count))
    assert STRATEGIES[name](hosts, {"": 1, "h0": weight}, turn, chance) in hosts


@pytest.mark.parametrize("strategy", [random_host, round_robin, weighted_random])
def test_equal_hosts_are_used_equally(strategy: Strategy) -> None:
    used = Counter(strategy(HOSTS, EVEN, turn, turn / 300).id for turn in range(300))
    assert all(abs(times - 100) <= 1 for times in used.values())
