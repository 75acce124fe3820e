"""Many waits of one actor in one thread."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import psutil
import pytest
from pykka._envelope import Envelope

from aurora_actors.actors.base import Actor, Request, tell
from aurora_actors.actors.polling import FlowsEnded, Late, Poller, Task
from aurora_actors.actors.reply import Reply
from aurora_actors.flow.running import FlowError

FAR = 1e12
ANSWER_SECONDS = 10.0


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def outcome(poller: Poller, task: Task[Any]) -> Any:
    """Let the poller work until the flow has ended."""
    while not task.is_done:
        poller._turn(None)
    assert task in poller.ended()
    if task.error is not None:
        raise task.error
    return task.result


def test_a_flow_goes_on_when_its_descriptor_is_ready(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    async def read() -> bytes:
        await poller.readable(ours.fileno())
        return ours.recv(10)

    task = poller.start("read", read(), FAR)
    poller.advance()
    assert not task.is_done
    theirs.send(b"news")
    assert outcome(poller, task) == b"news"


def test_several_flows_wait_at_the_same_time(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(5)]

    async def read(sock: socket.socket) -> bytes:
        await poller.readable(sock.fileno())
        return sock.recv(10)

    tasks = [poller.start(str(number), read(ours), FAR) for number, (ours, _) in enumerate(pairs)]
    for number, (_, theirs) in reversed(list(enumerate(pairs))):
        theirs.send(str(number).encode())
    while not all(task.is_done for task in tasks):
        poller._turn(None)
    assert [task.result for task in tasks] == [b"0", b"1", b"2", b"3", b"4"]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_future_of_another_thread_wakes_it(poller: Poller) -> None:
    future: Reply[int] = Reply()

    async def wait() -> int:
        return await poller.wait(future, FAR)

    task = poller.start("wait", wait(), FAR)
    threading.Thread(target=future.set_result, args=(7,)).start()
    assert outcome(poller, task) == 7


def test_a_wait_has_a_deadline_of_its_own(poller: Poller) -> None:
    async def wait() -> int:
        return await poller.wait(Reply[int](), monotonic())

    with pytest.raises(TimeoutError):
        outcome(poller, poller.start("wait", wait(), FAR))


def test_a_flow_is_thrown_late_at_its_deadline_and_cleans_up(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    left: list[str] = []

    async def read() -> None:
        try:
            await poller.readable(pair[0].fileno())
        finally:
            left.append("left")

    with pytest.raises(Late, match="read"):
        outcome(poller, poller.start("read", read(), monotonic()))
    assert left == ["left"]


def test_blocking_code_runs_elsewhere(poller: Poller) -> None:
    async def ask() -> int:
        return await poller.blocking(threading.get_ident)

    assert outcome(poller, poller.start("ask", ask(), FAR)) != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration()])
def test_what_blocking_code_raises_is_raised_in_the_flow(poller: Poller, error: Exception) -> None:
    def fail() -> None:
        raise error

    async def ask() -> None:
        await poller.blocking(fail)

    with pytest.raises((ValueError, RuntimeError)):
        outcome(poller, poller.start("ask", ask(), FAR))


def test_a_cancelled_flow_brings_nothing(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left: list[str] = []

    async def read() -> None:
        try:
            await poller.readable(pair[0].fileno())
        finally:
            left.append("left")

    task = poller.start("read", read(), FAR)
    poller.cancel(task)
    pair[1].send(b"x")
    poller.advance()
    assert left == ["left"]
    assert poller.ended() == []


def test_a_foreign_await_is_an_error(poller: Poller) -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "nonsense"

    async def wait() -> None:
        await Foreign()

    with pytest.raises(FlowError):
        outcome(poller, poller.start("wait", wait(), FAR))


@pytest.mark.parametrize("closed", [True, False])
def test_a_descriptor_that_cannot_be_watched_is_an_error_of_the_flow(poller: Poller, closed: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        async def read() -> None:
            await poller.readable(-1 if closed else ours.fileno())

        tasks = [poller.start("one", read(), FAR), poller.start("other", read(), FAR)]
        if closed:
            assert not tasks[0].is_done  # no descriptor: nothing but its deadline can end it
            poller.cancel_all()
        else:
            with pytest.raises(OSError, match="cannot be waited for"):
                outcome(poller, tasks[1])


def test_how_long_a_step_took_is_known(poller: Poller) -> None:
    async def compute() -> None:
        began = monotonic()
        while monotonic() - began < 0.01:
            pass

    task = poller.start("compute", compute(), FAR)
    assert task.stuck >= 0.01


def test_messages_come_before_what_flows_bring(poller: Poller) -> None:
    async def nothing() -> None:
        return None

    poller.start("nothing", nothing(), FAR)
    poller.put(Envelope("message"))
    assert poller.get().message == "message"
    assert isinstance(poller.get().message, FlowsEnded)


class Echo(Request[bytes]):
    pass


class Reader(Actor):
    """Answers with what comes through a socket, while it goes on handling messages."""

    def __init__(self, name: str, *, sock: socket.socket, report: Callable[[object], object]) -> None:
        super().__init__(name, report=report)
        self._sock = sock
        self.heard: list[object] = []

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Poller()

    def handle(self, message: object) -> None:
        poller: Any = self.actor_inbox
        match message:
            case Echo() as request:
                self._request = request
                poller.start("read", self._read(poller), FAR)
            case FlowsEnded(error):
                if error is not None:
                    raise error
                (task,) = poller.ended()
                self._request.answer(task.result)
            case str():
                self.heard.append(message)
            case threading.Event() as event:
                event.set()

    async def _read(self, poller: Poller) -> bytes:
        await poller.readable(self._sock.fileno())
        return self._sock.recv(10)


def test_an_actor_handles_messages_while_it_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    ref = Reader.start("reader", sock=pair[0], report=lambda crash: None)
    request, handled = Echo(), threading.Event()
    tell(ref, request)
    tell(ref, handled)
    assert handled.wait(ANSWER_SECONDS)
    assert not request.reply.done()
    pair[1].send(b"bytes")
    assert request.reply.result(ANSWER_SECONDS) == b"bytes"
    ref.stop()


def test_watching_that_fails_is_a_crash_that_the_actor_survives(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[object] = []
    ref = Reader.start("reader", sock=pair[0], report=crashes.append)
    turn = Poller._turn

    def broken(self: Poller, timeout: float | None) -> None:
        monkeypatch.setattr(Poller, "_turn", turn)
        raise OSError("no more of anything")

    handled = threading.Event()
    monkeypatch.setattr(Poller, "_turn", broken)
    tell(ref, "wake up")
    tell(ref, handled)
    assert handled.wait(ANSWER_SECONDS)
    handled = threading.Event()
    tell(ref, handled)
    assert handled.wait(ANSWER_SECONDS)
    ref.stop()


def test_a_poller_leaves_no_descriptor_behind() -> None:
    process = psutil.Process()
    gc.collect()
    before = process.num_fds()
    for _ in range(50):
        Poller().close()
        Poller()
    gc.collect()
    assert process.num_fds() == before
