"""Name look-ups: each name once at a time, the last good answer kept, and no thread more than needed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

import pytest

from aurora_actors.actors import names as module
from aurora_actors.actors.names import Names
from aurora_actors.actors.reply import Reply
from aurora_actors.drivers.base import Place
from aurora_actors.flow.running import run_blocking

R = TypeVar("R")
ADDRESS = (("127.0.0.9", 5432),)
ANSWER_SECONDS = 10.0


class Resolver:
    """Answers when it is let, in the way that it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.may = threading.Event()
        self.may.set()
        self.came = threading.Semaphore(0)

    def __call__(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        self.asked.append(host)
        self.came.release()
        assert self.may.wait(ANSWER_SECONDS)
        if self.error is not None:
            raise self.error
        return ADDRESS

    def canonical(self, host: str) -> str:
        return f"real.{host}"


class Blocking:
    """Waits as a thread does."""

    async def wait(self, reply: Reply[R], until: float) -> R:
        return reply.result(until - monotonic())


def look_up(
    names: Names, resolver: Any, host: str, port: int, seconds: float = module.PATIENCE_SECONDS, fresh: float = 0.0
) -> Place:
    return run_blocking(names.found(resolver, host, port, Blocking(), seconds, fresh=fresh))


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.rest()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.may.set()


def workers() -> int:
    return sum(thread.name == "aurora_actors-names" for thread in threading.enumerate())


def test_a_name_leads_where_the_resolver_says(names: Names, resolver: Resolver) -> None:
    assert look_up(names, resolver, "db", 5432) == Place("db", ADDRESS)


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "later"), ValueError("a defect of the resolver")])
def test_the_last_good_answer_stands_while_there_is_no_other(names: Names, resolver: Resolver, error: Exception) -> None:
    look_up(names, resolver, "db", 5432)
    resolver.error = error
    assert look_up(names, resolver, "db", 5432) == Place("db", ADDRESS)
    with pytest.raises(OSError, match=r"later|a defect of the resolver"):
        look_up(names, resolver, "another", 5432)


def test_an_answer_that_is_late_is_not_waited_for_where_one_is_known(names: Names, resolver: Resolver) -> None:
    look_up(names, resolver, "db", 5432)
    resolver.may.clear()
    assert look_up(names, resolver, "db", 5432, 0.0) == Place("db", ADDRESS)
    with pytest.raises(OSError, match=r"no answer to the look-up of .another. within 0\.0 s"):
        look_up(names, resolver, "another", 5432, 0.0)


def test_a_first_answer_is_waited_for_longer(names: Names, resolver: Resolver) -> None:
    resolver.may.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting: Any = Blocking()
        found = pool.submit(
            lambda: run_blocking(names.found(resolver, "db", 5432, waiting, 0.0, longest=ANSWER_SECONDS))
        )
        assert resolver.came.acquire(timeout=ANSWER_SECONDS)
        resolver.may.set()
        assert found.result(ANSWER_SECONDS) == Place("db", ADDRESS)


def test_those_who_ask_for_the_same_name_share_one_look_up(names: Names, resolver: Resolver) -> None:
    resolver.may.clear()
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(look_up, names, resolver, "db", 5432, ANSWER_SECONDS) for _ in range(5)]
        assert resolver.came.acquire(timeout=ANSWER_SECONDS)
        while len([thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]) < 5:
            threading.Event().wait(0.001)
        resolver.may.set()
        assert {reply.result(ANSWER_SECONDS) for reply in asked} == {Place("db", ADDRESS)}
    assert len(resolver.asked) <= 2  # one that came after the first had ended asks anew


def test_one_worker_is_enough_while_look_ups_are_quick(names: Names, resolver: Resolver) -> None:
    before = workers()
    for number in range(20):
        look_up(names, resolver, f"db-{number}", 5432)
    assert workers() <= before + 1


def test_a_look_up_that_is_stuck_does_not_hold_the_others_up(
    names: Names, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.0)
    resolver.may.clear()
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(look_up, names, resolver, "stuck", 5432, ANSWER_SECONDS)
        assert resolver.came.acquire(timeout=ANSWER_SECONDS)
        assert look_up(names, lambda host, port: ADDRESS, "other", 5432, ANSWER_SECONDS) == Place("other", ADDRESS)
        resolver.may.set()
        stuck.result(ANSWER_SECONDS)


@pytest.mark.parametrize("directory", ["/var/run/postgresql", "@abstract"])
def test_a_socket_directory_is_no_name(names: Names, resolver: Resolver, directory: str) -> None:
    assert look_up(names, resolver, directory, 5432) == Place(directory, ((directory, 5432),))
    assert resolver.asked == []


def test_a_resolver_may_know_canonical_names(names: Names, resolver: Resolver) -> None:
    waiting: Any = Blocking()
    assert run_blocking(names.canonical(resolver, "db", waiting)) == "real.db"
    assert run_blocking(names.canonical(lambda host, port: ADDRESS, "db", waiting)) == "db"


def test_idle_workers_end_when_told(resolver: Resolver) -> None:
    names = Names()
    look_up(names, resolver, "db", 5432)
    ours = [thread for thread in threading.enumerate() if thread.name == "aurora_actors-names"]
    names.rest()
    ours[-1].join(ANSWER_SECONDS)
    assert not ours[-1].is_alive()


def test_a_crowd_that_moves_together_asks_once(names: Names, resolver: Resolver) -> None:
    for fresh, asked in ((ANSWER_SECONDS, 1), (ANSWER_SECONDS, 1), (0.0, 2)):
        assert look_up(names, resolver, "db", 5432, fresh=fresh) == Place("db", ADDRESS)
        assert len(resolver.asked) == asked
