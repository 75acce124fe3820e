"""Time: timers come when they are due, the clock of tests is turned by hand, and asking keeps its deadline."""

from __future__ import annotations

import asyncio
import gc
import math
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from aurora_actors.actors.asking import DeadlineExceeded, ask, ask_async
from aurora_actors.actors.base import Actor, ActorStopped, Ping, Ref, Request, stop_all, tell
from aurora_actors.actors.clock import Clock, HandClock, Timer, settle_actors
from aurora_actors.actors.reply import Reply

SECONDS = 10.0  # a bound on what takes milliseconds; only a failing test waits for it


@dataclass(frozen=True, slots=True)
class Question(Request[str]):
    """Nobody answers it."""


class Listener(Actor):
    def __init__(self, heard: queue.SimpleQueue[Any]) -> None:
        super().__init__("listener", report=heard.put)
        self._heard = heard

    def handle(self, message: Any) -> None:
        if callable(message):
            message()
        elif not isinstance(message, Question):
            self._heard.put(message)


class Ticker(Actor):
    """Ticks once a second, passing each tick on to another actor."""

    def __init__(self, clock: Timer, other: Ref) -> None:
        super().__init__("ticker", report=print)
        self._clock = clock
        self._other = other

    def begin(self) -> None:
        self._clock.tell_after(1.0, self.actor_ref, 1)

    def handle(self, message: Any) -> None:
        self._clock.tell_after(1.0, self.actor_ref, message + 1)
        tell(self._other, (message, self._clock.now()))


@pytest.fixture
def heard() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture
def listener(heard: queue.SimpleQueue[Any]) -> Iterator[Ref]:
    ref = Listener.start(heard)
    yield ref
    assert stop_all([ref], SECONDS) == ()


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    assert made.stop(SECONDS)


def soon() -> float:
    return monotonic() + SECONDS


def clock_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aurora_actors-clock"]


def drained(heard: queue.SimpleQueue[Any]) -> list[Any]:
    found: list[Any] = []
    while not heard.empty():
        found.append(heard.get())
    return found


def test_messages_come_in_the_order_of_their_due_times(
    clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]
) -> None:
    now = clock.now()
    for due in (0.03, 0.01, 0.02, -1.0):
        clock.tell_at(now + due, listener, due)
    assert [heard.get(timeout=SECONDS) for _ in range(4)] == [-1.0, 0.01, 0.02, 0.03]


def test_messages_of_one_due_time_come_in_the_order_they_were_set(
    clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]
) -> None:
    due = clock.now() + 0.02
    for number in range(50):
        clock.tell_at(due, listener, number)
    assert [heard.get(timeout=SECONDS) for _ in range(50)] == list(range(50))


def test_nothing_comes_too_early(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    due = clock.now() + 0.05
    clock.tell_at(due, listener, "tick")
    heard.get(timeout=SECONDS)
    assert monotonic() >= due


def test_an_earlier_timer_overtakes_a_later_one(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    clock.tell_after(7200, listener, "last")
    clock.tell_after(3600, listener, "later")
    clock.tell_after(0.01, listener, "soon")
    assert heard.get(timeout=SECONDS) == "soon"
    assert repr(clock) == "<Clock running, 2 timers>"


def test_a_timer_that_is_never_due_harms_nobody(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    clock.tell_after(math.inf, listener, "never")
    for message in ("first", "second"):  # in between the thread waits for infinity
        clock.tell_after(0.01, listener, message)
        assert heard.get(timeout=SECONDS) == message


def test_one_thread_started_by_the_first_timer_and_ended_by_stop(listener: Ref) -> None:
    before = len(clock_threads())
    clock = Clock()
    assert clock.stop(0)
    assert len(clock_threads()) == before
    for _ in range(3):
        clock.tell_after(3600, listener, "later")
    assert len(clock_threads()) == before + 1
    assert all(thread.daemon for thread in clock_threads())
    assert clock.stop(SECONDS)
    assert len(clock_threads()) == before
    assert repr(clock) == "<Clock idle, 0 timers>"


def test_a_stopped_clock_starts_anew(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    clock.tell_after(3600, listener, "dropped")
    assert clock.stop(SECONDS)
    clock.tell_after(0, listener, "again")
    assert heard.get(timeout=SECONDS) == "again"


def test_timers_from_many_threads_all_come(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    def set_some(base: int) -> None:
        for number in range(100):
            clock.tell_after(number % 7 / 1000, listener, base + number)

    threads = [threading.Thread(target=set_some, args=(base,)) for base in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard.get(timeout=SECONDS) for _ in range(400)) == list(range(400))


def test_a_timer_for_a_dead_actor_harms_nobody(clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    dead = Listener.start(queue.SimpleQueue())
    assert stop_all([dead], SECONDS) == ()
    question = Question()
    clock.tell_after(0, dead, question)
    assert isinstance(question.reply.exception(SECONDS), ActorStopped)
    clock.tell_after(0, listener, "next")
    assert heard.get(timeout=SECONDS) == "next"


def test_an_error_while_telling_does_not_end_the_clock(
    clock: Clock, listener: Ref, heard: queue.SimpleQueue[Any], caplog: pytest.LogCaptureFixture
) -> None:
    clock.tell_after(0, "no ref at all", "lost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    clock.tell_after(0, listener, "next")
    assert heard.get(timeout=SECONDS) == "next"
    assert "The clock could not tell no ref at all" in caplog.text


def test_a_timer_that_cannot_have_a_thread_is_not_set(listener: Ref, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    clock = Clock()
    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        clock.tell_after(0, listener, "lost")
    assert repr(clock) == "<Clock idle, 0 timers>"


# The clock turned by hand


def test_time_stands_still_until_it_is_turned(listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    clock = HandClock(start=100.0)
    clock.tell_after(5, listener, "five")
    clock.tell_at(102, listener, "two")
    clock.tell_at(99, listener, "overdue")
    assert clock.now() == 100.0
    assert clock.pending() == ((99, "overdue"), (102, "two"), (105.0, "five"))
    clock.advance(4.0, lambda: settle_actors([listener], SECONDS))
    assert drained(heard) == ["overdue", "two"]
    assert clock.now() == 104.0
    clock.advance(1.0, lambda: settle_actors([listener], SECONDS))
    assert drained(heard) == ["five"]
    assert repr(clock) == "<HandClock at 105.0, 0 timers>"


def test_an_hour_of_ticks_in_no_time(listener: Ref, heard: queue.SimpleQueue[Any]) -> None:
    clock = HandClock(start=0.0)
    ticker = Ticker.start(clock, listener)
    began = monotonic()
    clock.advance(3600.0, lambda: settle_actors([ticker, listener], SECONDS))
    assert drained(heard) == [(tick, float(tick)) for tick in range(1, 3601)]
    assert monotonic() - began < 3600
    assert stop_all([ticker], SECONDS) == ()


def test_settling_follows_messages_in_any_direction(heard: queue.SimpleQueue[Any]) -> None:
    class Relay(Actor):
        def __init__(self) -> None:
            super().__init__("relay", report=heard.put)

        def handle(self, message: Any) -> None:
            others, left = message
            if left:
                tell(others[left % len(others)], (others, left - 1))
            else:
                heard.put("arrived")

    refs = [Relay.start() for _ in range(3)]
    tell(refs[0], (refs, 60))
    settle_actors(refs, SECONDS)
    assert drained(heard) == ["arrived"]
    assert stop_all(refs, SECONDS) == ()
    settle_actors(refs, SECONDS)  # dead actors have nothing to do


def test_settling_gives_up(heard: queue.SimpleQueue[Any]) -> None:
    class Stuck(Actor):
        def handle(self, message: Callable[[], object]) -> None:
            message()

    go = threading.Event()
    ref = Stuck.start("stuck", report=heard.put)
    tell(ref, lambda: go.wait(SECONDS))
    with pytest.raises(TimeoutError, match="Stuck is still busy"):
        settle_actors([ref], 0.05)
    go.set()
    assert stop_all([ref], SECONDS) == ()


# Asking until a deadline


def test_a_deadline_in_the_past_asks_nobody(listener: Ref) -> None:
    with pytest.raises(DeadlineExceeded, match="no answer to Question before the deadline"):
        ask(listener, Question(), monotonic() - 1)
    assert ask(listener, Ping(), soon()) == 0


def test_a_deadline_cancels_the_request(listener: Ref) -> None:
    request = Question()
    with pytest.raises(DeadlineExceeded):
        ask(listener, request, monotonic() + 0.02)
    assert request.reply.cancelled()
    assert issubclass(DeadlineExceeded, TimeoutError)


def test_an_answer_that_arrives_at_the_deadline_counts(monkeypatch: pytest.MonkeyPatch, listener: Ref) -> None:
    request = Question()

    def too_late(*_: object) -> str:
        monkeypatch.undo()
        request.answer("just then")
        raise TimeoutError

    monkeypatch.setattr(Reply, "result", too_late)
    assert ask(listener, request, soon()) == "just then"


@pytest.mark.parametrize("error", [TimeoutError("mine"), DeadlineExceeded("mine"), KeyError("mine")])
def test_the_error_of_a_refusal_is_raised_itself(error: Exception, listener: Ref) -> None:
    for_thread, for_task = Question(), Question()
    tell(listener, lambda: for_thread.refuse(error))
    with pytest.raises(type(error)) as raised:
        ask(listener, for_thread, soon())
    assert raised.value is error
    tell(listener, lambda: for_task.refuse(error))
    with pytest.raises(type(error)) as raised:
        asyncio.run(ask_async(listener, for_task, soon()))
    assert raised.value is error


def test_an_interrupted_wait_cancels_the_request(monkeypatch: pytest.MonkeyPatch, listener: Ref) -> None:
    request = Question()

    def interrupted(*_: object) -> str:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Reply, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(listener, request, soon())
    assert request.reply.cancelled()


def test_an_error_leaves_no_cycle_behind(listener: Ref) -> None:

    class Traced(Exception):
        pass

    def failing(reply: Reply[str]) -> Callable[[], object]:
        return lambda: reply.set_exception(Traced())

    def ask_and_fail() -> weakref.ref[Traced]:
        request = Question()
        tell(listener, failing(request.reply))
        try:
            ask(listener, request, soon())
        except Traced as error:
            return weakref.ref(error)
        finally:
            del request
        raise AssertionError("nothing was raised")

    gc.disable()
    try:
        gone = ask_and_fail()
        ask(listener, Ping(), soon())  # so that the actor's thread let go of the message before
        assert gone() is None
    finally:
        gc.enable()


def test_a_task_asks_without_holding_the_loop(listener: Ref) -> None:
    async def main() -> tuple[int, int]:
        go, steps = threading.Event(), 0
        tell(listener, lambda: go.wait(SECONDS))
        answer = asyncio.create_task(ask_async(listener, Ping(), soon()))
        for _ in range(10):
            await asyncio.sleep(0)
            steps += not answer.done()
        go.set()
        return await answer, steps

    assert asyncio.run(main()) == (1, 10)


def test_a_tasks_deadline_cancels_the_request(listener: Ref) -> None:
    async def main() -> bool:
        request = Question()
        with pytest.raises(DeadlineExceeded):
            await ask_async(listener, request, monotonic() + 0.02)
        return request.reply.cancelled()

    assert asyncio.run(main())
    with pytest.raises(DeadlineExceeded):
        asyncio.run(ask_async(listener, Question(), monotonic() - 1))


def test_a_cancelled_task_cancels_the_request(listener: Ref) -> None:
    async def main() -> bool:
        request = Question()
        task = asyncio.create_task(ask_async(listener, request, soon()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return request.reply.cancelled() and not request.answer("late")

    assert asyncio.run(main())


def test_a_cancellation_is_not_swallowed_when_it_meets_the_answer(listener: Ref) -> None:
    async def main() -> bool:
        request = Question()
        task = asyncio.create_task(ask_async(listener, request, soon()))
        await asyncio.sleep(0)
        request.answer("just then")
        await asyncio.sleep(0)  # the answer is on its way to the task
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=SECONDS)
        return task in done and task.cancelled()

    assert asyncio.run(main())
