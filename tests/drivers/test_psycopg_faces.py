"""Which face a connect belongs to: one clear error, before anything starts, for what was given to the wrong one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.psycopg
from aurora_actors import ConfigurationError, aio
from aurora_actors.lab import PostgresLab
from tests.failover.colours import Colour, Tasks, Threads

NOWHERE = "host=127.0.0.1 port=1 user=x"


async def connect_async(*arguments: Any, **parameters: Any) -> Any:
    return await psycopg.AsyncConnection.connect(*arguments, **parameters)


class Own(aurora_actors.psycopg.Connection[Any]):
    pass


WRONG: list[tuple[Callable[..., Any], Callable[..., Any], str]] = [
    (aio.connect, psycopg.connect, r"Connection.connect is for threads: give it to aurora_actors.connect\(\)"),
    (aio.connect, psycopg.Connection.connect, "for threads"),
    (aurora_actors.connect, psycopg.AsyncConnection.connect, r"for asyncio: give it to aurora_actors.aio.connect\(\)"),
    (aurora_actors.connect, connect_async, r"connect_async is for asyncio: give it to aurora_actors.aio.connect\(\)"),
    (aurora_actors.connect, partial(connect_async), "for asyncio"),
    (aurora_actors.connect, aurora_actors.psycopg.Connection.connect, "itself: call it directly"),
    (aurora_actors.connect, aurora_actors.psycopg.connect, "a connect of aurora_actors itself"),
    (aurora_actors.connect, Own.connect, "a connect of aurora_actors itself"),
    (aurora_actors.connect, aurora_actors.connect, "a connect of aurora_actors itself"),
    (aio.connect, aurora_actors.psycopg.AsyncConnection.connect, "a connect of aurora_actors itself"),
    (aurora_actors.connect, lambda *_, **__: None, "made a NoneType, which is no connection of psycopg"),
    (aio.connect, lambda *_, **__: None, "a connect that blocks"),
]


@pytest.mark.parametrize(("face", "target", "message"), WRONG)
def test_a_connect_for_the_other_face(
    face: Callable[..., Any], target: Callable[..., Any], message: str
) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(face(target, NOWHERE))
    assert threading.active_count() <= before


def test_a_connect_that_shows_its_colour_only_when_it_is_called(aurora_lab: PostgresLab, colour: Colour) -> None:
    other: type[Colour] = Tasks if colour.name == "threads" else Threads
    opened: list[Any] = []

    def connect(*arguments: Any, **parameters: Any) -> Any:
        opened.append(other.connection.connect(*arguments, **parameters))
        return opened[-1]

    with pytest.raises(ConfigurationError, match="give it to"):
        colour.open(aurora_lab.conninfo(), connect)
    (left,) = opened
    assert left.closed if colour.name == "asyncio" else left.cr_frame is None


def test_without_a_running_loop() -> None:
    flow = aio.connect(psycopg.AsyncConnection.connect, NOWHERE)
    with pytest.raises(ConfigurationError, match=r"in a running event loop of asyncio"):
        flow.send(None)


def test_a_url_alone_of_no_driver(colour: Colour) -> None:
    with pytest.raises(ConfigurationError, match="oracle"):
        colour.run(colour.face, "oracle://host/db")
