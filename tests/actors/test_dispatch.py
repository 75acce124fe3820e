"""Signals arrive in order, from one thread, whatever one receiver does to itself or how long it takes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from aurora_actors.actors.dispatch import Dispatcher, Receiver, TaskLine, loop_of

SECONDS = 10.0  # a bound on what takes milliseconds; only a failing test waits for it


class Board:
    """The least that a dispatcher takes for a signal."""

    def __init__(self, *receivers: Receiver, name: str = "board") -> None:
        self.name = name
        self.receivers = list(receivers)
        self.lines: dict[Receiver, TaskLine] = {}

    def receivers_for(self, sender: Any) -> list[Receiver]:
        return list(self.receivers)

    def line_for(self, receiver: Receiver) -> TaskLine | None:
        return self.lines.get(receiver)

    def disconnect(self, receiver: Receiver) -> None:
        self.receivers.remove(receiver)


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher()
    yield made
    assert made.stop(SECONDS)


def event(value: object) -> Mapping[str, Any]:
    return {"event": value}


def noting(seen: list[Any]) -> Callable[..., None]:
    def note(sender: object, *, event: object) -> None:
        seen.append(event)

    return note


def signal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aurora_actors-signals"]


def test_one_thread_started_by_the_first_event_and_ended_by_stop() -> None:
    before = signal_threads()
    dispatcher, threads = Dispatcher(), set[threading.Thread]()
    assert dispatcher.stop(0)
    assert dispatcher.settle(0)
    assert signal_threads() == before

    def note(sender: object, *, event: object) -> None:
        threads.add(threading.current_thread())

    for number in range(3):
        dispatcher.put(Board(note), "orders", event(number))
    assert dispatcher.settle(SECONDS)
    (thread,) = threads
    assert thread.daemon
    assert thread not in before
    assert dispatcher.stop(SECONDS)
    assert not thread.is_alive()
    assert repr(dispatcher) == "<Dispatcher idle, 0 waiting, 0 dropped, 0 errors>"


def test_events_arrive_in_the_order_they_were_put_across_signals(dispatcher: Dispatcher) -> None:
    seen: list[int] = []
    boards = [Board(noting(seen)) for _ in range(3)]
    for number in range(600):
        dispatcher.put(boards[number % 3], "orders", event(number))
    assert dispatcher.settle(SECONDS)
    assert seen == list(range(600))


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_receiver_that_raises_harms_only_itself(
    kind: type[BaseException], dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def fail(sender: object, *, event: object) -> None:
        raise kind("boom")

    board = Board(fail, noting(seen), fail)
    with caplog.at_level(logging.ERROR):
        for number in range(20):
            dispatcher.put(board, "orders", event(number))
        assert dispatcher.settle(SECONDS)
    assert seen == list(range(20))
    assert dispatcher.errors == 40
    assert "fail, a receiver of board, raised; it stays connected" in caplog.text
    assert "boom" in caplog.text


def test_a_signal_that_fails_harms_only_itself(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Board):
        def receivers_for(self, sender: Any) -> list[Receiver]:
            raise LookupError("no receivers today")

    seen: list[int] = []
    dispatcher.put(Broken(name="broken"), "orders", event(1))
    dispatcher.put(Board(noting(seen)), "orders", event(2))
    assert dispatcher.settle(SECONDS)
    assert (seen, dispatcher.errors) == ([2], 1)
    assert "Signal broken could not be delivered" in caplog.text


def test_receivers_are_looked_up_when_the_turn_of_the_event_comes(dispatcher: Dispatcher) -> None:
    seen: list[int] = []
    entered, go = threading.Event(), threading.Event()

    def wait(sender: object, *, event: object) -> None:
        entered.set()
        go.wait(SECONDS)

    late = Board(noting(seen))
    dispatcher.put(Board(wait), "orders", event(0))
    assert entered.wait(SECONDS)
    dispatcher.put(late, "orders", event(1))
    late.receivers.clear()
    go.set()
    assert dispatcher.settle(SECONDS)
    assert seen == []


def test_a_slow_receiver_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher(slow=0.0)  # everybody is slow

    class Listener:
        def slow(self, sender: object, *, event: object) -> None:
            pass

    one, two = Listener(), Listener()
    for _ in range(5):
        dispatcher.put(Board(one.slow), "orders", event(0))
        dispatcher.put(Board(two.slow), "orders", event(0))
    assert dispatcher.settle(SECONDS)
    slow = [record for record in caplog.records if "all signals wait meanwhile" in record.getMessage()]
    assert [record.levelno for record in slow] == [logging.WARNING] * 2  # each of them once
    assert "Listener.slow, a receiver of board, took 0.0 s" in slow[0].getMessage()
    assert dispatcher.stop(SECONDS)


def test_a_quick_receiver_is_not_called_slow(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    dispatcher.put(Board(noting([])), "orders", event(0))
    assert dispatcher.settle(SECONDS)
    assert caplog.records == []


def test_a_full_queue_drops_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher, seen = Dispatcher(limit=5), list[int]()
    entered, go = threading.Event(), threading.Event()

    def stuck(sender: object, *, event: object) -> None:
        entered.set()
        go.wait(SECONDS)

    dispatcher.put(Board(stuck), "orders", event(0))
    assert entered.wait(SECONDS)
    for number in range(50):
        dispatcher.put(Board(noting(seen), name="crowded"), "orders", event(number))
    assert dispatcher.dropped == 45
    go.set()
    assert dispatcher.settle(SECONDS)
    assert seen == [0, 1, 2, 3, 4]
    (record,) = caplog.records
    assert "1 signals dropped so far (last: crowded): 5 wait for a receiver" in record.getMessage()
    assert "stuck" in record.getMessage()
    assert dispatcher.stop(SECONDS)


def test_settle_waits_no_longer_than_told(dispatcher: Dispatcher) -> None:
    go = threading.Event()
    dispatcher.put(Board(lambda sender, event: go.wait(SECONDS)), "orders", event(0))
    assert not dispatcher.settle(0.02)
    assert not dispatcher.stop(0.02)
    go.set()


def test_settle_in_a_receiver_is_an_error(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    dispatcher.put(Board(lambda sender, event: dispatcher.settle(SECONDS)), "orders", event(0))
    assert dispatcher.settle(SECONDS)
    assert dispatcher.errors == 1
    assert "settle() was called by a receiver" in caplog.text


def test_stop_delivers_what_waits(dispatcher: Dispatcher) -> None:
    seen: list[int] = []
    for number in range(200):
        dispatcher.put(Board(noting(seen)), "orders", event(number))
    assert dispatcher.stop(SECONDS)
    assert seen == list(range(200))


def test_an_event_behind_a_stop_is_delivered_by_the_next_thread(dispatcher: Dispatcher) -> None:
    seen: list[int] = []
    entered, go = threading.Event(), threading.Event()

    def wait(sender: object, *, event: object) -> None:
        entered.set()
        go.wait(SECONDS)

    dispatcher.put(Board(wait), "orders", event(0))
    assert entered.wait(SECONDS)
    assert not dispatcher.stop(0)
    done = threading.Event()
    dispatcher.put(Board(noting(seen), lambda sender, event: done.set()), "orders", event(1))
    go.set()
    assert done.wait(SECONDS)
    assert seen == [1]


def test_stop_waits_for_a_thread_that_is_just_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher, stopped, errors = Dispatcher(), list[bool](), list[RuntimeError]()
    start = threading.Thread.start

    def stop() -> None:
        try:
            stopped.append(dispatcher.stop(SECONDS))
        except RuntimeError as error:  # "cannot join thread before it is started"
            errors.append(error)

    stopper = threading.Thread(target=stop)

    def start_slowly(thread: threading.Thread) -> None:
        monkeypatch.undo()
        stopper.start()
        stopper.join(0.05)  # it ends here only if it fails
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    dispatcher.put(Board(noting([])), "orders", event(0))
    stopper.join(SECONDS)
    assert (stopped, errors) == ([True], [])


def test_a_receiver_may_stop_the_dispatcher(dispatcher: Dispatcher) -> None:
    answers: list[bool] = []
    dispatcher.put(Board(lambda sender, event: answers.append(dispatcher.stop(SECONDS))), "orders", event(0))
    assert dispatcher.settle(SECONDS)
    assert answers == [False]  # its own thread cannot have ended


def test_no_thread_to_be_had_is_no_error_of_the_sender(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    dispatcher, seen = Dispatcher(), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        dispatcher.put(Board(noting(seen)), "orders", event(1))
    assert "did not start; the next event tries again" in caplog.text
    dispatcher.put(Board(noting(seen)), "orders", event(2))
    assert dispatcher.settle(SECONDS)
    assert seen == [1, 2]
    assert dispatcher.stop(SECONDS)


# Coroutine functions


class Collector:
    """A coroutine function as receiver, which notes how it is called."""

    def __init__(self, expected: int) -> None:
        self.seen: list[Any] = []
        self.inside = self.most = 0
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self._expected = expected
        self.complete = asyncio.Event()

    async def take(self, sender: object, *, event: object) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        self.loops.add(asyncio.get_running_loop())
        self.seen.append(event)
        if len(self.seen) == self._expected:
            self.complete.set()
        if event == "fail":
            raise ValueError("boom")
        if event == "cancelled":
            raise asyncio.CancelledError


def awaiting(receiver: Receiver, **options: int) -> Board:
    board = Board(receiver)
    loop = loop_of(receiver, board.name)
    assert loop is not None
    board.lines[receiver] = TaskLine(loop, **options)
    return board


def test_a_coroutine_function_gets_events_in_order_one_at_a_time_in_its_loop(dispatcher: Dispatcher) -> None:
    async def main() -> None:
        collector = Collector(300)
        take = collector.take
        board = awaiting(take)
        for number in range(300):
            dispatcher.put(board, "orders", event(number))
        async with asyncio.timeout(SECONDS):
            await collector.complete.wait()
        assert collector.seen == list(range(300))
        assert collector.most == 1
        assert collector.loops == {asyncio.get_running_loop()}

    asyncio.run(main())


def test_a_coroutine_that_raises_is_logged_and_called_again(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        collector = Collector(3)
        take = collector.take
        board = awaiting(take)
        for value in ("fail", "cancelled", "fine"):
            dispatcher.put(board, "orders", event(value))
        async with asyncio.timeout(SECONDS):
            await collector.complete.wait()
        assert collector.seen == ["fail", "cancelled", "fine"]
        return board.lines[take].errors

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(main()) == 2
    assert "Collector.take, a receiver of a signal, raised; it stays connected" in caplog.text


def test_a_loop_that_ends_cancels_what_waits_and_the_receiver_leaves(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    async def forever(sender: object, *, event: threading.Event) -> None:
        event.set()
        await asyncio.Event().wait()

    async def main() -> Board:
        board, entered = awaiting(forever), threading.Event()
        dispatcher.put(board, "orders", event(entered))
        dispatcher.put(board, "orders", event(entered))
        assert await asyncio.to_thread(entered.wait, SECONDS)
        return board

    board = asyncio.run(main())  # ends although the receiver never would
    with caplog.at_level(logging.INFO):
        dispatcher.put(board, "orders", event(threading.Event()))
        assert dispatcher.settle(SECONDS)
    assert board.receivers == []
    assert "its event loop is closed" in caplog.text
    assert dispatcher.errors == 0


def test_a_coroutine_that_is_too_slow_loses_events(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[list[Any], int]:
        collector = Collector(2)
        take = collector.take
        board = awaiting(take, limit=2)
        for number in range(10):
            dispatcher.put(board, "orders", event(number))
        assert dispatcher.settle(SECONDS)  # blocks the loop: nothing is taken from the line meanwhile
        async with asyncio.timeout(SECONDS):
            await collector.complete.wait()
        return collector.seen, board.lines[take].dropped

    assert asyncio.run(main()) == ([0, 1], 8)
    assert caplog.text.count("is too slow: 2 events wait") == 1


def test_what_counts_as_a_coroutine_function() -> None:
    class Awaited:
        async def __call__(self, sender: object, *, event: object) -> None:
            pass

    async def function(sender: object, *, event: object) -> None:
        pass

    for receiver in (Awaited(), Awaited().__call__, function):
        with pytest.raises(RuntimeError, match="is a coroutine function: connect it to board where the loop runs"):
            loop_of(receiver, "board")
    assert loop_of(noting([]), "board") is None
