"""Counting transactions."""

from __future__ import annotations

import pytest

from aurora_actors.lab.gtids import count_mariadb, count_mysql

ONE, TWO = "3E11FA47-71CA-11E1-9E33-C80AA9429562", "4f22fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(("position", "count"), [("", 0), ("0-1-17", 17), ("0-12-345", 345), ("0-1-3,1-1-2", 3)])
def test_a_position_of_mariadb(position: str, count: int) -> None:
    assert count_mariadb(position) == count


@pytest.mark.parametrize(
    ("sets", "count"),
    [
        ((), 0),
        (("",), 0),
        ((f"{ONE}:1",), 1),
        ((f"{ONE}:1-5",), 5),
        ((f"{ONE}:1-5:9",), 6),
        ((f"{ONE}:1-5,\n{TWO}:1-3",), 8),
        ((f"{ONE}:1-5", f"{ONE.lower()}:3-7"), 7),
        ((f"{ONE}:4-5", f"{ONE}:1-9"), 9),
        ((f"{ONE}:1-2:5-6", ""), 4),
    ],
)
def test_sets_of_mysql(sets: tuple[str, ...], count: int) -> None:
    assert count_mysql(*sets) == count
