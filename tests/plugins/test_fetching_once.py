"""``context.once``: one fetch for all that ask at the same time for the same place, and for nobody else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from aurora_actors.actors.reply import Reply
from aurora_actors.flow.io import BlockingIo
from aurora_actors.flow.running import run_blocking
from aurora_actors.plugin import Plugin
from aurora_actors.proxies.context import Context

SECONDS = 10.0
R = TypeVar("R")


class Token(Plugin):
    """Fetches."""

    name = "token"


NO_DRIVER: Any = None


class Waiting(BlockingIo):
    """Tells when somebody waits for what another thread brings."""

    def __init__(self, driver: Any) -> None:
        super().__init__(driver)
        self.waits = threading.Event()

    async def wait(self, reply: Reply[R], until: float) -> R:
        self.waits.set()
        return await super().wait(reply, until)


def context(place: str, cluster: str | None = None, io: BlockingIo | None = None) -> Context:
    proxy: Any = SimpleNamespace(cluster=cluster, seeds=((place, 5432),), io=io or BlockingIo(NO_DRIVER))
    return Context(proxy, Token)


class Fetch:
    """A fetch that takes until all who ask have come."""

    def __init__(self, result: Any) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.times = 0
        self._result = result

    def __call__(self) -> Any:
        self.times += 1
        self.began.set()
        assert self.go_on.wait(SECONDS)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def never() -> str:
    raise AssertionError("it was fetched twice")


@pytest.mark.parametrize("cluster", [None, "orders"])
def test_who_asks_meanwhile_gets_the_same(cluster: str | None) -> None:
    fetch = Fetch("token of orders")
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(run_blocking, context("orders", cluster).once("token", fetch))
        assert fetch.began.wait(SECONDS)
        io = Waiting(NO_DRIVER)
        other = pool.submit(run_blocking, context("orders", cluster, io).once("token", never))
        assert io.waits.wait(SECONDS)
        fetch.go_on.set()
        assert (one.result(SECONDS), other.result(SECONDS)) == ("token of orders",) * 2
    assert fetch.times == 1


def test_another_place_has_its_own_although_no_cluster_is_known_yet() -> None:
    fetch = Fetch("token of orders")
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(run_blocking, context("orders").once("token", fetch))
        assert fetch.began.wait(SECONDS)
        assert run_blocking(context("people").once("token", lambda: "token of people")) == "token of people"
        fetch.go_on.set()
        assert one.result(SECONDS) == "token of orders"


def test_a_failed_fetch_is_tried_anew_by_the_next() -> None:
    fetch = Fetch(KeyError("no token"))
    fetch.go_on.set()
    with pytest.raises(KeyError, match="no token"):
        run_blocking(context("orders").once("token", fetch))
    assert run_blocking(context("orders").once("token", lambda: "token")) == "token"


def test_a_flow_is_not_taken_for_what_it_would_give() -> None:
    async def fetch() -> str:
        return "token"

    mistaken: Any = fetch
    with pytest.raises(TypeError, match="fetch is an async def"):
        run_blocking(context("orders").once("token", mistaken))
