"""The demonstration counts right and notices when the count is wrong; its report needs nothing but itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from aurora_actors.cli.demo import report
from aurora_actors.cli.demo.account import Recovery, Rows, count, recoveries
from aurora_actors.cli.demo.application import Application, Mark, paces
from aurora_actors.cli.demo.plot import ticks
from aurora_actors.cli.demo.story import Kind, Loss, Moment, Story, Switch
from aurora_actors.cli.demo.view import View, show_account
from aurora_actors.errors import Outcome
from aurora_actors.lab import HostStatus
from aurora_actors.lab.nemesis.colours import COLOURS, Threads
from aurora_actors.lab.nemesis.engines import ENGINES

QUIET = {"ENGINE": "", "COLOUR": "", "SABOTAGE": ""}
REFERENCES = {"src", "href", "srcset", "action", "data", "poster", "background", "cite", "formaction"}


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aurora_actors.cli", "demo", "--connections", "4", "--calm", "0.3", *arguments]
    surroundings = {**os.environ, **QUIET, **environment}
    return subprocess.run(
        command, env=surroundings, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def parsed(path: Path) -> ET.Element:
    """The report, which is written so that it is XML too: whatever is not closed or not escaped is an error."""
    return ET.fromstring(path.read_text("utf-8"))


def texts(page: ET.Element) -> str:
    return "\n".join(page.itertext())


@pytest.mark.parametrize(
    ("colour", "faults", "reason"),
    [("sync", "kill,freeze", "sql for"), ("async", "kill,black-hole", "tcp for")],
)
def test_nothing_is_lost_and_the_report_tells_of_it(tmp_path: Path, colour: str, faults: str, reason: str) -> None:
    done = run(tmp_path, "--faults", faults, COLOUR=colour)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, duplicated 0" in done.stdout
    assert done.stdout.count(" is promoted") == 2
    *_, verdict = [line for line in done.stdout.splitlines() if "host_down" in line]
    assert reason in verdict
    assert f"report: {tmp_path / 'demo-report.html'}" in done.stdout
    page = parsed(tmp_path / "demo-report.html")
    told = texts(page)
    assert verdict.split(" s  ")[-1] in told
    assert COLOURS[colour].title in told
    classes = [element.get("class") for element in page.iter()]
    assert classes.count("line fault") == classes.count("line promotion") == 2
    assert "line verdict" in classes
    # The connection in reserve goes on elsewhere without an error each time; whoever lost a statement got one.
    assert classes.count("point silent") >= 2
    assert "point error" in classes


def test_nothing_is_lost_on_the_other_engine(tmp_path: Path, aurora_mysql_lab: object) -> None:
    done = run(tmp_path, "--faults", "kill", COLOUR="async", ENGINE="mysql")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, duplicated 0" in done.stdout


def test_sabotage_is_noticed(tmp_path: Path) -> None:
    done = run(tmp_path, "--faults", "kill", SABOTAGE="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "lost 1, duplicated 1" in done.stdout
    assert "does not balance" in texts(parsed(tmp_path / "demo-report.html"))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {"ENGINE": "oracle"}, "no engine 'oracle'"),
        ([], {"COLOUR": "green"}, "no colour 'green'"),
        (["--faults", "kill,flood"], {}, "no fault 'flood'"),
        (["--connections", "0"], {}, "--connections"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = run(tmp_path, *arguments, **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert "starting" not in done.stdout


@pytest.mark.parametrize(
    ("acknowledged", "stored", "unread", "rows", "balanced"),
    [
        (["a", "b"], ["b", "a"], 0, Rows(2, 2, 0, 0), True),
        (["a", "b"], ["a"], 0, Rows(2, 1, 1, 0), False),
        (["a", "b"], ["a", "b", "b"], 0, Rows(2, 3, 0, 1), False),
        (["a"], ["a", "b"], 0, Rows(1, 2, 0, 0), True),  # nobody was told that b is there; that it is, is no loss
        (["a"], ["a", "b", "b"], 0, Rows(1, 3, 0, 1), False),
        (["a"], ["a"], 1, Rows(1, 1, 0, 0, 1), False),
        ([], [], 0, Rows(0, 0, 0, 0), False),
    ],
)
def test_the_count(acknowledged: list[str], stored: list[str], unread: int, rows: Rows, balanced: bool) -> None:
    assert count(acknowledged, stored, unread) == rows
    assert rows.balanced is balanced


def switch(at: float, began: float, *, idle: bool = False) -> Switch:
    steps = {"verdict": began, "writer_known": at - 0.02, "connected": at - 0.01, "restored": at}
    return Switch(at, idle, began, steps)


def account() -> tuple[Recovery, ...]:
    losses = [Loss(1, "kill", "a", 10.0, "b", 11.0), Loss(2, "freeze", "b", 20.0, "a", 21.0)]
    switches = [switch(11.1, 10.0), switch(11.3, 10.1), switch(11.2, 11.1, idle=True), switch(24.5, 24.0)]
    marks = [
        Mark(11.1, 1, Outcome.UNKNOWN, ""),
        Mark(11.2, 1, Outcome.ROLLED_BACK, ""),
        Mark(11.3, 2, Outcome.ROLLED_BACK, ""),
        Mark(11.4, 3, None, ""),
        Mark(24.5, 1, Outcome.UNKNOWN, ""),
    ]
    return recoveries(losses, switches, marks, [Moment(23.9, Kind.VERDICT, "", "b")])


def test_each_failover_has_what_happened_after_its_fault() -> None:
    first, second = (dict(recovery.lines()) for recovery in account())
    assert first == {
        "promoted": "1000",
        "verdict": "0",
        "writer known": "1180 to 1280",
        "connected": "1190 to 1290",
        "restored": "1200 to 1300",
        "after promotion": "200 to 300",
        "saw an error": "2",
        "outcome unknown": "1",
        "silent switches": "1",
        "and took": "100",
    }
    assert (second["verdict"], second["restored"], second["silent switches"]) == ("3900", "4500", "0")
    assert second["and took"] == "-"


def test_a_connection_at_rest_that_got_an_error_did_not_switch_silently() -> None:
    losses = [Loss(1, "kill", "a", 10.0, "b", 11.0)]
    moved = [switch(11.2, 11.1, idle=True), switch(11.3, 11.1, idle=True)]
    (only,) = recoveries(losses, moved, [Mark(11.2, 1, Outcome.NOT_SENT, "")], [])
    assert (only.errors, only.in_doubt, only.silent) == (1, 0, 1)
    assert only.restored is None


class StandIn:
    """A lab that runs nothing."""

    black_hole_kind = "none"
    writer = "a"

    def __init__(self, *names: str) -> None:
        self.names = names

    def status(self) -> tuple[HostStatus, ...]:
        first, *others = self.names
        readers = [HostStatus(name, "READER", "127.0.0.1", 5432, "frozen", 1) for name in others]
        return (HostStatus(first, "WRITER", "127.0.0.1", 5432, "available", 1), *readers)

    def on_change(self, listener: object) -> None:
        """Nothing changes."""


def finished(*names: str, tell: Callable[[Moment], None] = lambda _: None) -> tuple[Application, Story]:
    """An application that did nothing, and the story of it."""
    lab: Any = StandIn(*names)
    application = Application(lab, ENGINES["postgres"], Threads(), 4)
    story = Story(lab, application.began, tell)
    with story.listening():
        return application, story


NASTY = '<script>alert("1")</script>&\'"'


def test_the_report_escapes_whatever_it_shows(tmp_path: Path) -> None:
    application, story = finished(NASTY, "b")
    story.tell(Kind.VERDICT, f"host_down: {NASTY}", NASTY)
    story.log.append((story.began, NASTY))
    story.losses.append(Loss(1, "kill", NASTY, story.began, NASTY, story.began))
    application.clients[0].marks.append(Mark(story.began, 1, None, NASTY))
    path = tmp_path / "report.html"
    found = recoveries(story.losses, [], application.marks, story.moments)
    report.write(path, report.of(application, story, found, Rows(1, 1, 0, 0), [NASTY]))
    page = parsed(path)
    assert len(list(page.iter("script"))) == 1
    assert texts(page).count(NASTY) >= 8


def test_the_report_refers_to_nothing_outside(tmp_path: Path) -> None:
    application, story = finished("a", "b")
    path = tmp_path / "report.html"
    report.write(path, report.of(application, story, account(), Rows(1, 1, 0, 0), []))
    page = parsed(path)
    assert not [element.tag for element in page.iter() if not REFERENCES.isdisjoint(element.keys())]
    assert not {"link", "img", "iframe", "object", "embed", "base", "use"} & {element.tag for element in page.iter()}
    text = path.read_text("utf-8")
    for outside in ("://", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "WebSocket"):
        assert outside not in text


def test_the_terminal_shows_hosts_throughput_and_timeline() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40, record=True)
    view = View(console)
    application, story = finished("a", "b", tell=view.tell)
    story.down["b"] = "no answer to probes"
    application.clients[0].acknowledged += [uuid.uuid4().hex for _ in range(7)]
    with view.showing(story, application):
        story.tell(Kind.FAULT, "SIGSTOP b", "b")
    shown = console.export_text()
    for part in ("writer", "reader", "frozen", "down: no answer to probes", "7 rows acknowledged", "SIGSTOP b"):
        assert part in shown


def test_without_a_terminal_each_moment_is_one_line() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40, record=True)
    view = View(console)
    application, story = finished("a", tell=view.tell)
    with view.showing(story, application):
        story.tell(Kind.PHASE, "[bold]" + "x" * 100)
    (line,) = console.export_text().splitlines()
    assert line.endswith(" s  [bold]" + "x" * 100)


def test_the_account_is_as_wide_as_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=80, record=True)
    show_account(console, account() * 2, Rows(2, 1, 1, 0, 1), ["connection 1: [red]"])
    shown = console.export_text()
    assert "gave up: connection 1: [red]" in shown
    assert "1 rows were acknowledged and not found when read back" in shown
    assert shown.splitlines()[-1] == "acknowledged 2, found 1, lost 1, duplicated 0"
    assert shown.count("1200 to 1300") == 2


@pytest.mark.parametrize(("connections", "at_work"), [(1, 1), (3, 3), (4, 3), (20, 15)])
def test_one_connection_of_four_is_in_reserve(connections: int, at_work: int) -> None:
    rests = paces(connections)
    working = [rest for rest in rests if rest is not None]
    assert len(rests) == connections
    assert len(working) == at_work
    assert working == sorted(working)


@pytest.mark.parametrize(
    ("highest", "wanted", "expected"),
    [(10.0, 5, [0, 2, 4, 6, 8, 10]), (0.35, 4, [0, 0.1, 0.2, 0.3]), (700.0, 4, [0, 200, 400, 600]), (0.0, 4, [0])],
)
def test_axes_have_round_numbers(highest: float, wanted: int, expected: Sequence[float]) -> None:
    assert list(ticks(highest, wanted)) == expected
