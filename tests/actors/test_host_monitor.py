"""One host's monitor over a scripted driver: its session, what it tells, and what it survives."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from aurora_actors.actors.base import Actor, ActorCrashed, Ref, stop_all, tell
from aurora_actors.actors.clock import Clock, settle_actors
from aurora_actors.actors.host_monitor import HostMonitor
from aurora_actors.actors.messages import (
    HostObserved,
    HostUnreachable,
    LookAtCalls,
    ProbeHost,
    ProcessSlept,
    Rest,
    WatchCalls,
)
from aurora_actors.actors.naming import Naming
from aurora_actors.actors.reply import Reply
from aurora_actors.dialects.postgres import AuroraPostgres
from aurora_actors.drivers.base import Access, ProbeError
from aurora_actors.model.endpoints import parse_instance_pattern
from aurora_actors.model.hosts import Host, Role
from aurora_actors.model.search import Probe

SECONDS = 10.0
HOST = Host("db-1", "db-1.abc", 5432)


def rows(writer: str = "db-1", *, reads: bool = False) -> list[list[str | None]]:
    names = ("db-1", "db-2")
    return [["db-1", "t" if reads else "f", "0", name, "t" if name == writer else "f", "5"] for name in names]


class Session:
    """What a scripted driver opens; ``answers`` are taken one by one, errors are raised."""

    def __init__(self, driver: ScriptedDriver) -> None:
        self._driver = driver
        self.closed = False

    async def ask(self, sql: str, sockets: Any) -> Any:
        self._driver.asked.put(sql)
        if self._driver.held is not None:
            await sockets.wait(self._driver.held, monotonic() + SECONDS)
        answer = self._driver.answers.pop(0) if self._driver.answers else rows()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.closed = True


class ScriptedDriver:
    """Stands for a driver, as far as monitors use one."""

    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        self.answers: list[Any] = []
        self.sessions: list[Session] = []
        self.logins: list[Any] = []
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.held: Reply[None] | None = None

    async def open_probe(self, access: Access, place: Any, sockets: Any) -> Session:
        self.logins.append(access.parameters["password"])
        if self.refusals:
            raise self.refusals.pop(0)
        self.sessions.append(Session(self))
        return self.sessions[-1]


class Listener(Actor):
    """Stands for the topology's actor."""

    def __init__(self, told: queue.SimpleQueue[Any]) -> None:
        super().__init__("listener", report=told.put)
        self._told = told

    def handle(self, message: Any) -> None:
        self._told.put(message)


class Bench:
    """A monitor, its driver, its clock, and what it told."""

    def __init__(self) -> None:
        self.driver = ScriptedDriver()
        self.clock = Clock()
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.crashes: list[ActorCrashed] = []
        self.accesses = [self.access("first")]
        self.listener: Ref = Listener.start(self.told)
        self.away = 0.0
        self.monitor: Ref = HostMonitor.start(
            "host db-1",
            report=self.crashes.append,
            cluster="bench",
            host=HOST,
            naming=Naming(AuroraPostgres(), parse_instance_pattern("?.abc"), 5432, (HOST,)),
            accesses=lambda: tuple(self.accesses),
            watched=list,
            topology=self.listener,
            timer=self.clock,
            suspended=lambda: self.away,
        )

    def access(self, password: str) -> Access:
        driver: Any = self.driver
        return Access(driver, print, {"password": password}, resolve=lambda host, port: [("127.0.0.1", port)])

    def probe(self, *, fresh_after: float = 0.0, hold: float = 0.0) -> Any:
        tell(self.monitor, ProbeHost(Probe(HOST, fresh_after=fresh_after, hold=hold)))
        return self.told.get(timeout=SECONDS)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    assert stop_all([made.monitor, made.listener], SECONDS) == ()
    assert made.clock.stop(SECONDS)
    assert all(session.closed for session in made.driver.sessions)


def test_what_a_host_says_is_told_with_the_times_of_question_and_session(bench: Bench) -> None:
    before = monotonic()
    first = bench.probe()
    assert isinstance(first, HostObserved)
    assert (first.seen.host.id, first.seen.role, first.seen.promotion) == ("db-1", Role.WRITER, 5.0)
    assert [member.endpoint for member in first.members] == ["db-1.abc", "db-2.abc"]
    assert before <= first.seen.session <= first.seen.asked <= monotonic()
    second = bench.probe()
    assert second.seen.session == first.seen.session
    assert second.seen.asked > first.seen.asked
    assert len(bench.driver.sessions) == 1


def test_what_the_server_held_back_is_as_young_as_its_answer(bench: Bench) -> None:
    bench.driver.answers = [[["db-1", "f", "0.75", "db-1", "t", "5"]]]
    before = monotonic()
    assert bench.probe(hold=1.0).seen.asked >= before + 0.75


def test_a_session_from_before_the_doubt_is_replaced(bench: Bench) -> None:
    bench.probe()
    doubt = monotonic()
    told = bench.probe(fresh_after=doubt)
    assert told.seen.session > doubt
    assert [session.closed for session in bench.driver.sessions] == [True, False]


def test_a_session_that_died_is_dropped_and_the_next_probe_opens_another(bench: Bench) -> None:
    bench.driver.answers = [rows(), ProbeError("server closed the connection")]
    bench.probe()
    missed = bench.probe()
    assert isinstance(missed, HostUnreachable)
    assert (missed.had_session, missed.answered) == (True, False)
    assert isinstance(bench.probe(), HostObserved)
    assert [session.closed for session in bench.driver.sessions] == [True, False]


def test_a_refusal_on_a_session_is_no_loss_of_it(bench: Bench) -> None:
    bench.driver.answers = [rows(), ProbeError("canceled", answered=True, sqlstate="57014")]
    bench.probe()
    missed = bench.probe()
    assert (missed.had_session, missed.answered) == (False, True)
    bench.probe()
    assert len(bench.driver.sessions) == 1


def test_refused_logins_are_tried_again_with_the_next_settings(bench: Bench) -> None:
    bench.accesses.append(bench.access("second"))
    bench.driver.refusals = [ProbeError("FATAL: password", answered=True, sqlstate="28P01")] * 3
    for _ in range(3):
        assert isinstance(bench.probe(), HostUnreachable)
    assert isinstance(bench.probe(), HostObserved)
    assert bench.driver.logins == ["second", "first", "second", "first"]


def test_at_rest_the_session_is_given_back(bench: Bench) -> None:
    bench.probe()
    tell(bench.monitor, Rest())
    bench.probe()
    assert [session.closed for session in bench.driver.sessions] == [True, False]


def test_at_rest_in_the_middle_of_a_question_the_session_is_given_back_after_it(bench: Bench) -> None:
    """A reader that holds its answer back when the search ends."""
    held: Reply[None] = Reply()
    bench.driver.held = held
    tell(bench.monitor, ProbeHost(Probe(HOST)))
    assert bench.driver.asked.get(timeout=SECONDS)
    tell(bench.monitor, Rest())
    held.set_result(None)
    assert isinstance(bench.told.get(timeout=SECONDS), HostObserved)
    settle_actors([bench.monitor], SECONDS)
    assert [session.closed for session in bench.driver.sessions] == [True]


def test_without_connections_there_is_nobody_to_log_in_as(bench: Bench) -> None:
    bench.accesses.clear()
    missed = bench.probe()
    assert isinstance(missed, HostUnreachable)
    assert "no connection is left" in missed.error


def test_an_unknown_name_is_told(bench: Bench) -> None:
    def unknown(host: str, port: int) -> Any:
        raise OSError("name not known")

    driver: Any = bench.driver
    bench.accesses[:] = [Access(driver, print, {"password": ""}, resolve=unknown)]
    missed = bench.probe()
    assert (missed.error, missed.answered) == ("name not known", False)


@pytest.mark.parametrize(
    "answer",
    [[], [["db-1"]], [["db-1", "f", "soon", None, None, None]]],
    ids=["no row", "short row", "no number"],
)
def test_an_answer_that_makes_no_sense_is_told_like_silence(bench: Bench, answer: Any) -> None:
    """Whoever searches must be told, or the host would never be asked again."""
    bench.driver.answers = [answer]
    assert isinstance(bench.probe(), HostUnreachable)
    assert isinstance(bench.probe(), HostObserved)


def test_a_crash_under_a_probe_is_told_and_reported(bench: Bench) -> None:
    bench.driver.answers = [RuntimeError("a driver's own mistake")]
    missed = bench.probe()
    assert isinstance(missed, HostUnreachable)
    assert missed.error == "RuntimeError: a driver's own mistake"
    assert isinstance(bench.probe(), HostObserved)
    assert [crash.final for crash in bench.crashes] == [False]


def test_a_look_that_comes_far_too_late_tells_that_the_process_slept(bench: Bench) -> None:
    tell(bench.monitor, LookAtCalls(1, bench.clock.now() - 10.0))
    assert bench.told.get(timeout=SECONDS) == ProcessSlept(HOST)


def test_a_machine_that_was_suspended_tells_the_same(bench: Bench) -> None:
    tell(bench.monitor, WatchCalls())
    bench.away = 3600.0
    tell(bench.monitor, WatchCalls())
    assert bench.told.get(timeout=SECONDS) == ProcessSlept(HOST)
