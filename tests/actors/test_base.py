"""Actors survive their own errors, and answer every request, also when they crash or stop."""

from __future__ import annotations

import gc
import logging
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pykka
import pytest

from aurora_actors.actors.asking import ask
from aurora_actors.actors.base import (
    CRASH_WINDOW_SECONDS,
    MAX_CRASHES,
    Actor,
    ActorCrashed,
    ActorStopped,
    Ping,
    Ref,
    Request,
    Stop,
    stop_all,
    tell,
)
from tests.lab.sessions import eventually

SECONDS = 10.0  # a bound on what takes microseconds; only a failing test waits for it
GRAVE = (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Echo(Request[str]):
    text: str


@dataclass(frozen=True, slots=True)
class Hold(Request[str]):
    """Answered never, unless by the actor's end."""


@dataclass(frozen=True, slots=True)
class Raise(Request[str]):
    error: BaseException


@dataclass(frozen=True, slots=True)
class Run:
    action: Callable[[], object]


class Worker(Actor):
    def __init__(self, name: str = "worker", *, reports: queue.SimpleQueue[ActorCrashed], **options: Any) -> None:
        self.begin_error: BaseException | None = options.pop("begin_error", None)
        self.end_error: BaseException | None = options.pop("end_error", None)
        self.ended: list[str] = options.pop("ended", [])
        super().__init__(name, report=reports.put, **options)
        self.seen: list[str] = []

    def begin(self) -> None:
        self.seen = []
        if self.begin_error is not None:
            raise self.begin_error

    def end(self) -> None:
        self.ended.append(threading.current_thread().name)
        if self.end_error is not None:
            raise self.end_error

    def handle(self, message: Any) -> None:
        match message:
            case Echo(text):
                self.seen.append(text)
                message.answer(",".join(self.seen))
            case Hold():
                pass
            case Raise(error):
                raise error
            case Run(action):
                action()
            case _:
                super().handle(message)


@pytest.fixture
def reports() -> queue.SimpleQueue[ActorCrashed]:
    return queue.SimpleQueue()


@pytest.fixture
def start(reports: queue.SimpleQueue[ActorCrashed]) -> Iterator[Callable[..., Ref]]:
    refs: list[Ref] = []

    def start_worker(*args: Any, **options: Any) -> Ref:
        refs.append(Worker.start(*args, reports=reports, **options))
        return refs[-1]

    yield start_worker
    assert stop_all(refs, SECONDS) == ()


def soon() -> float:
    return monotonic() + SECONDS


def test_an_actor_answers_and_is_named(start: Callable[..., Ref]) -> None:
    threads: list[threading.Thread] = []
    ref = start("topology-orders")
    tell(ref, Run(lambda: threads.append(threading.current_thread())))
    assert ask(ref, Echo("hello"), soon()) == "hello"
    assert [(thread.name, thread.daemon) for thread in threads] == [("aurora_actors-topology-orders", True)]


@pytest.mark.parametrize("kind", GRAVE)
def test_an_error_in_a_handler_restarts_the_actor_in_place(
    kind: type[BaseException], start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed]
) -> None:
    ref, other = start("victim"), start("other")
    ask(ref, Echo("old"), soon())
    with pytest.raises(ActorStopped, match=f"victim crashed while handling Raise .{kind.__name__}: boom. and starts"):
        ask(ref, Raise(kind("boom")), soon())
    assert ask(ref, Echo("new"), soon()) == "new"  # the same ref, fresh state
    assert ask(other, Echo("unharmed"), soon()) == "unharmed"
    crash = reports.get(timeout=SECONDS)
    assert (crash.name, crash.error, crash.final, crash.crashes) == ("victim", f"{kind.__name__}: boom", False, 1)


def test_messages_that_waited_survive_a_crash(start: Callable[..., Ref]) -> None:
    ref = start()
    held, go = threading.Event(), threading.Event()
    tell(ref, Run(held.set))
    tell(ref, Run(lambda: go.wait(SECONDS)))
    assert held.wait(SECONDS)
    crash, after = Raise(ValueError("boom")), Echo("after")
    tell(ref, crash)
    tell(ref, after)
    go.set()
    assert after.reply.result(SECONDS) == "after"
    assert isinstance(crash.reply.exception(SECONDS), ActorStopped)


def test_requests_that_the_old_state_held_are_refused_each_with_its_own_error(start: Callable[..., Ref]) -> None:
    ref = start()
    held = [Hold() for _ in range(3)]
    for request in held:
        tell(ref, request)
    tell(ref, Raise(ValueError("boom")))
    errors = [request.reply.exception(SECONDS) for request in held]
    assert all(isinstance(error, ActorStopped) for error in errors)
    assert len({id(error) for error in errors}) == 3


def test_end_runs_before_each_restart(start: Callable[..., Ref]) -> None:
    ended: list[str] = []
    ref = start("restarted", ended=ended)
    tell(ref, Raise(ValueError("boom")))
    ask(ref, Ping(), soon())
    assert ended == ["aurora_actors-restarted"]


def test_too_many_crashes_end_the_actor(start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed]) -> None:
    ended: list[str] = []
    ref = start("doomed", ended=ended)
    held, waiting = Hold(), Echo("waiting")
    for _ in range(MAX_CRASHES):
        tell(ref, Raise(SystemExit("boom")))
    tell(ref, held)
    last, gone = Raise(SystemExit("boom")), threading.Event()
    tell(ref, Run(lambda: gone.wait(SECONDS)))  # so that what follows waits in the inbox
    tell(ref, last)
    tell(ref, waiting)
    gone.set()
    for request in (held, last, waiting):
        assert isinstance(request.reply.exception(SECONDS), ActorStopped)
    crashes = [reports.get(timeout=SECONDS) for _ in range(MAX_CRASHES + 1)]
    assert [(crash.crashes, crash.final) for crash in crashes] == [(1, False), (2, False), (3, False), (4, True)]
    assert ref.actor_stopped.wait(SECONDS)
    with pytest.raises(ActorStopped):
        ask(ref, Echo("late"), soon())
    assert stop_all([ref], SECONDS) == ()
    assert len(ended) == MAX_CRASHES + 1  # not once more when it stopped


def test_old_crashes_are_forgotten(start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed]) -> None:
    now = [0.0]
    ref = start(now=lambda: now[0])
    for crash in range(3 * MAX_CRASHES):
        now[0] = crash * CRASH_WINDOW_SECONDS / 2  # three are in the window, both its ends included
        tell(ref, Raise(ValueError("boom")))
        assert reports.get(timeout=SECONDS) == ActorCrashed(
            "worker", "ValueError: boom", False, min(crash + 1, MAX_CRASHES), now[0]
        )
    assert ask(ref, Echo("alive"), soon()) == "alive"


@pytest.mark.parametrize("kind", GRAVE)
def test_an_actor_that_cannot_begin_stops(
    kind: type[BaseException], start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed]
) -> None:
    ref = start(begin_error=kind("no luck"))
    assert ref.actor_stopped.wait(SECONDS)
    crashes = [reports.get(timeout=SECONDS) for _ in range(MAX_CRASHES + 1)]
    assert [crash.final for crash in crashes] == [False, False, False, True]
    with pytest.raises(ActorStopped):
        ask(ref, Echo("anybody"), soon())
    assert ref not in pykka.ActorRegistry.get_all()


@pytest.mark.parametrize("kind", GRAVE)
def test_an_error_at_the_end_does_not_keep_anybody_waiting(
    kind: type[BaseException], start: Callable[..., Ref], caplog: pytest.LogCaptureFixture
) -> None:
    ref, held = start("clumsy", end_error=kind("at the end")), Hold()
    tell(ref, held)
    assert ref.stop(timeout=SECONDS)  # pykka's own, which would wait for ever
    assert not ref.stop(timeout=SECONDS)
    assert isinstance(held.reply.exception(0), ActorStopped)
    assert "clumsy failed while it ended" in caplog.text


def test_a_report_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(crash: ActorCrashed) -> None:
        raise SystemExit(f"cannot report {crash.name}")

    ref = Actor.start("fragile", report=fail)
    tell(ref, "unknown")
    assert ask(ref, Ping(), soon()) == 1
    assert stop_all([ref], SECONDS) == ()
    assert "The crash of fragile could not be reported" in caplog.text


def test_an_unknown_message_is_a_crash(start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed]) -> None:
    tell(start(), 42)
    assert reports.get(timeout=SECONDS).error == "TypeError: Worker does not know what to do with a int"


def test_an_error_that_cannot_be_printed_is_named(
    start: Callable[..., Ref], reports: queue.SimpleQueue[ActorCrashed], caplog: pytest.LogCaptureFixture
) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    with caplog.at_level(logging.CRITICAL, "aurora_actors.actors"):
        tell(start(), Raise(Unprintable()))
        assert reports.get(timeout=SECONDS).error == "Unprintable"


def test_an_answer_nobody_waits_for_is_harmless() -> None:
    cancelled, answered = Echo(""), Echo("")
    cancelled.reply.cancel()
    assert not cancelled.answer("late")
    assert not cancelled.refuse(ValueError("late"))
    assert answered.answer("first")
    assert not answered.answer("second")
    assert not answered.refuse(ValueError("second"))
    assert answered.reply.result(0) == "first"


def test_a_stop_iteration_is_wrapped() -> None:  # asyncio's futures take none
    request = Echo("")
    assert request.refuse(StopIteration("odd"))
    assert isinstance(request.reply.exception(0), RuntimeError)


def test_requests_compare_by_what_they_ask() -> None:
    assert Echo("a") == Echo("a") != Echo("b")
    assert repr(Echo("a")) == "Echo(text='a')"
    assert len({Echo("a"), Echo("a")}) == 1


def test_telling_a_dead_actor_refuses_and_never_raises(start: Callable[..., Ref]) -> None:
    ref, request = start(), Echo("")
    assert stop_all([ref], SECONDS) == ()
    assert not any(tell(ref, message) for message in (request, "anything"))
    with pytest.raises(ActorStopped, match="Worker has stopped"):
        request.reply.result(0)


def test_stop_refuses_what_waits_and_what_is_held(start: Callable[..., Ref]) -> None:
    ended: list[str] = []
    ref, go = start(ended=ended), threading.Event()
    held, waiting, stop = Hold(), [Echo(str(n)) for n in range(5)], Stop()
    tell(ref, held)
    tell(ref, Run(lambda: go.wait(SECONDS)))
    tell(ref, stop)
    for request in waiting:
        tell(ref, request)
    tell(ref, Run(lambda: ended.append("a message that came too late was handled")))
    go.set()
    stop.reply.result(SECONDS).join(SECONDS)
    assert all(isinstance(request.reply.exception(0), ActorStopped) for request in (held, *waiting))
    assert ended == ["aurora_actors-worker"]


def test_several_may_stop_an_actor_at_once(start: Callable[..., Ref]) -> None:
    ref, go = start(), threading.Event()
    tell(ref, Run(lambda: go.wait(SECONDS)))
    stops = [Stop() for _ in range(3)]
    for stop in stops:
        tell(ref, stop)
    pykkas = ref.stop(block=False)
    go.set()
    assert len({stop.reply.result(SECONDS).ident for stop in stops}) == 1
    assert pykkas.get(timeout=SECONDS) in {True, False}


def test_stop_all_has_one_deadline(start: Callable[..., Ref]) -> None:
    go = threading.Event()
    stuck, idle = [start(), start(), start()], start()
    for ref in stuck:
        tell(ref, Run(lambda: go.wait(SECONDS)))
    began = monotonic()
    assert stop_all([*stuck, idle], 0.3) == tuple(stuck)
    assert monotonic() - began < 0.3 * len(stuck)  # a deadline for each would have taken at least that
    go.set()


def test_an_actor_is_not_kept_alive_by_replies(start: Callable[..., Ref]) -> None:
    found: list[weakref.ref[Actor]] = []

    class Gone(Worker):
        def begin(self) -> None:
            found.append(weakref.ref(self))

    ref, reply = Gone.start(reports=queue.SimpleQueue()), Echo("kept")
    ask(ref, reply, soon())
    assert stop_all([ref], SECONDS) == ()
    gc.collect()
    assert found[0]() is None
    assert reply.reply.result(0) == "kept"


def test_repr_tells_the_state(reports: queue.SimpleQueue[ActorCrashed]) -> None:
    actor = Worker("shown", reports=reports)  # not started: all of it in this thread
    actor.on_receive(Hold())
    actor.on_receive(Raise(ValueError("boom")))
    actor.on_receive(Hold())
    assert repr(actor) == "<Worker 'shown' running, 1 open, 1 crashes>"


# The race of asking against stopping: its two halves by hand, then all of it at random


def test_a_request_put_before_the_actor_drains_is_refused_by_the_actor(start: Callable[..., Ref]) -> None:
    ref, go, behind = start(), threading.Event(), Echo("behind the stop")
    tell(ref, Run(lambda: go.wait(SECONDS)))
    stopped = ref.stop(block=False)
    assert tell(ref, behind)
    go.set()
    with pytest.raises(ActorStopped, match="worker has stopped"):
        behind.reply.result(SECONDS)
    assert stopped.get(timeout=SECONDS)


def test_a_request_put_after_the_actor_drained_is_refused_by_the_teller(
    start: Callable[..., Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, late, inbox = start(), Echo("late"), list[object]()

    def put_late(message: object) -> None:  # pykka's tell(), interrupted between its look and its put
        monkeypatch.undo()
        assert stop_all([ref], SECONDS) == ()
        inbox.append(message)

    monkeypatch.setattr(ref, "tell", put_late)
    assert not tell(ref, late)
    assert inbox == [late]
    assert isinstance(late.reply.exception(0), ActorStopped)


def test_every_request_is_answered_when_asking_races_with_stopping() -> None:
    def tell_all(ref: Ref, requests: list[Echo]) -> None:
        for request in requests:
            tell(ref, request)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(150):
            ref = Worker.start(reports=queue.SimpleQueue())
            asked = [[Echo(str(n)) for n in range(20)] for _ in range(2)]
            threads = [threading.Thread(target=tell_all, args=(ref, batch)) for batch in asked]
            for thread in threads:
                thread.start()
            tell(ref, Stop())
            for thread in threads:
                thread.join(SECONDS)
            replies = [request.reply for batch in asked for request in batch]
            eventually(lambda: all(reply.done() for reply in replies))  # noqa: B023 - called before the next round
    finally:
        sys.setswitchinterval(interval)
