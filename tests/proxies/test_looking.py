"""Every order in which news and statements can meet: a connection never stays on an old host.

A statement loads the published view once, compares it by identity, acts on what it loaded, and remembers that same
object. Threads may stop between any two of these steps; all orders are tried, not a random few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest

Steps = Iterator[None]


class World:
    """What is shared, and what the connection has."""

    def __init__(self) -> None:
        self.view = 0
        self.seen = 0
        self.on = 0


def publication(world: World, view: int) -> Steps:
    world.view = view
    yield


def looked_once(world: World) -> Steps:
    now = world.view
    yield
    if now != world.seen:
        world.on = now
        yield
        world.seen = now
        yield


def looked_again(world: World) -> Steps:
    """The same, with the view loaded anew for each use: news that comes in between is taken for acted on."""
    if world.view != world.seen:
        yield
        world.on = world.view
        yield
        world.seen = world.view
        yield


def ends(statement: Callable[[World], Steps]) -> Iterator[World]:
    """The world after each order of two publications and two statements, and one more statement when all is quiet."""
    longest = 6
    for places in combinations(range(longest + 2), 2):
        world = World()
        news = iter((publication(world, 1), publication(world, 2)))
        statements = chained(statement(world), statement(world))
        for place in range(longest + 2):
            if place in places:
                list(next(news))
            else:
                next(statements, None)
        list(statements)
        list(statement(world))
        yield world


def chained(*parts: Steps) -> Steps:
    for part in parts:
        yield from part


def test_no_order_leaves_a_connection_on_an_old_host() -> None:
    worlds = list(ends(looked_once))
    assert len(worlds) > 20
    assert {world.on for world in worlds} == {2}


def test_the_orders_find_a_protocol_that_is_wrong() -> None:
    with pytest.raises(AssertionError):
        assert {world.on for world in ends(looked_again)} == {2}
