"""Flows in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aurora_actors.flow.chain import Proceed, composed
from aurora_actors.flow.running import Flow, FlowError, run_blocking

RUNNERS = [run_blocking, asyncio.run]


@pytest.mark.parametrize("run", RUNNERS)
def test_hooks_run_outermost_first(run: Callable[[Flow[Any]], Any]) -> None:
    async def innermost(call: str) -> str:
        return call

    async def first(call: str, proceed: Proceed[str, str]) -> str:
        return f"first({await proceed(call)})"

    async def second(call: str, proceed: Proceed[str, str]) -> str:
        return f"second({await proceed(call + '!')})"

    hooks: list[Any] = []
    assert composed(hooks, innermost) is innermost
    assert run(composed([first, second], innermost)("x")) == "first(second(x!))"


@pytest.mark.parametrize("run", RUNNERS)
def test_a_forgotten_await_names_the_hook(run: Callable[[Flow[Any]], Any]) -> None:
    async def innermost(call: str) -> str:
        return call

    async def forgetful(call: str, proceed: Proceed[str, str]) -> Any:
        return proceed(call)

    with pytest.raises(TypeError, match="forgetful"):
        run(composed([forgetful], innermost)("x"))


@pytest.mark.parametrize("awaited", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1)])
def test_a_thread_refuses_what_suspends(awaited: Callable[[], Any]) -> None:
    ended: list[bool] = []

    async def flow() -> None:
        try:
            await awaited()
        finally:
            ended.append(True)

    with pytest.raises((FlowError, RuntimeError)):
        run_blocking(flow())
    assert ended == [True]
