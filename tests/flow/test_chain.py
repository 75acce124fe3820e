"""A guarded chain: what a hook may say, and what the application gets where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aurora_actors.errors import OperationalError
from aurora_actors.flow.chain import Guard, Proceed, composed
from aurora_actors.flow.running import Flow, FlowError, run_blocking

RUNNERS = [run_blocking, asyncio.run]
Run = Callable[[Flow[Any]], Any]


class Log:
    """What hooks failed with, and how often the innermost ran."""

    def __init__(self, result: Any = "rows") -> None:
        self.failed: list[Exception] = []
        self.sent: list[str] = []
        self._result = result
        self.guard = Guard[Any](
            (OperationalError,), lambda _, error: self.failed.append(error), lambda result, _: result is not None
        )

    async def innermost(self, call: str) -> Any:
        self.sent.append(call)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def chain(self, *hooks: Any) -> Proceed[str, Any]:
        return composed(hooks, self.innermost, self.guard)


async def early(call: str, proceed: Proceed[str, Any]) -> Any:
    raise KeyError("early")


async def late(call: str, proceed: Proceed[str, Any]) -> Any:
    await proceed(call)
    raise KeyError("late")


async def converting(call: str, proceed: Proceed[str, Any]) -> Any:
    try:
        return await proceed(call)
    except ValueError as error:
        raise KeyError("converted") from error


async def forgetful(call: str, proceed: Proceed[str, Any]) -> Any:
    await proceed(call)


async def unawaited(call: str, proceed: Proceed[str, Any]) -> Any:
    return proceed(call)


async def refusing(call: str, proceed: Proceed[str, Any]) -> Any:
    raise OperationalError("not today")


async def swallowing(call: str, proceed: Proceed[str, Any]) -> Any:
    try:
        return await proceed(call)
    except ValueError:
        return "instead"


async def foreign(call: str, proceed: Proceed[str, Any]) -> Any:
    await asyncio.sleep(0)
    return await proceed(call)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("hook", [early, late, forgetful, unawaited])
def test_a_hook_that_fails_is_passed_by_and_the_call_is_sent_once(run: Run, hook: Any) -> None:
    log = Log()
    assert run(log.chain(hook)("call")) == "rows"
    assert log.sent == ["call"]
    assert len(log.failed) == 1


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("hook", [early, late, converting, forgetful, unawaited])
def test_the_error_of_the_driver_stays_the_very_object(run: Run, hook: Any) -> None:
    error = ValueError("of the driver")
    log = Log(error)
    with pytest.raises(ValueError, match="of the driver") as caught:
        run(log.chain(hook)("call"))
    assert caught.value is error
    assert log.sent == ["call"]


@pytest.mark.parametrize("run", RUNNERS)
def test_each_of_several_is_passed_by(run: Run) -> None:
    log = Log()
    assert run(log.chain(early, late, forgetful)("call")) == "rows"
    assert [type(error) for error in log.failed] == [KeyError, TypeError, KeyError]
    assert log.sent == ["call"]


@pytest.mark.parametrize("run", RUNNERS)
def test_a_hook_may_refuse_in_words_that_are_known(run: Run) -> None:
    log = Log()
    with pytest.raises(OperationalError, match="not today"):
        run(log.chain(refusing)("call"))
    assert (log.sent, log.failed) == ([], [])


@pytest.mark.parametrize("run", RUNNERS)
def test_a_hook_may_answer_an_error_with_a_result(run: Run) -> None:
    log = Log(ValueError("of the driver"))
    assert run(log.chain(swallowing)("call")) == "instead"
    assert log.failed == []


def test_what_a_thread_cannot_await_is_passed_by_there_and_awaited_by_a_task() -> None:
    log = Log()
    assert run_blocking(log.chain(foreign, early, foreign)("call")) == "rows"
    assert log.sent == ["call"]
    assert sorted(type(error).__name__ for error in log.failed) == ["FlowError", "FlowError", "KeyError"]
    log = Log()
    assert asyncio.run(log.chain(foreign)("call")) == "rows"
    assert log.failed == []


def test_a_flow_that_swallows_the_error_of_its_await_is_one_all_the_same() -> None:
    async def swallows() -> str:
        while True:
            try:
                await asyncio.sleep(0)
            except FlowError:
                return "nothing happened"

    with pytest.raises(FlowError):
        run_blocking(swallows())
