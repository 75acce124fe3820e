"""The report: one HTML file that needs nothing but itself. The template is ``report.html``; jinja2 escapes everything."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from aurora_actors.cli.demo.account import Recovery, Rows
from aurora_actors.cli.demo.application import BUCKET_SECONDS, Application, Client
from aurora_actors.cli.demo.plot import Bar, Lane, Line, Plot, Point
from aurora_actors.cli.demo.story import Kind, Moment, Story
from aurora_actors.lab import HostStatus

__all__ = ["Report", "of", "write"]


@dataclass(frozen=True, slots=True)
class Report:
    """All that the template shows. Times in seconds since the beginning."""

    title: str
    made: str
    surroundings: tuple[tuple[str, str], ...]
    rows: Rows
    failures: tuple[str, ...]
    recoveries: tuple[Recovery, ...]
    moments: tuple[Point, ...]
    log: tuple[Point, ...]
    plot: Plot

    @property
    def holds(self) -> bool:
        """Whether the account is in order."""
        return self.rows.balanced and not self.failures

    @property
    def errors(self) -> int:
        return sum(recovery.errors for recovery in self.recoveries)

    @property
    def silent(self) -> int:
        return sum(recovery.silent for recovery in self.recoveries)


def of(
    application: Application, story: Story, found: tuple[Recovery, ...], rows: Rows, failures: list[str]
) -> Report:
    """The report of what has happened."""
    began, moments, rates = story.began, story.in_order, application.rates()
    while rates and not rates[-1]:
        rates.pop()
    # The plot ends with the work, not with the account after it.
    seconds = max(len(rates) * BUCKET_SECONDS, max((moment.at - began for moment in moments), default=0.0))
    plot = Plot(
        seconds,
        tuple(rates),
        tuple(_host_lane(status.id, story, moments, seconds) for status in (story.states[0][1] if story.states else ())),
        tuple(_client_lane(client, began) for client in application.clients),
        tuple(_lines(story)),
    )
    return Report(
        f"{application.engine.title}, {application.colour.title}, {len(application.clients)} connections",
        f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}",
        (
            ("aurora_actors", version("aurora-actors")),
            ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
            ("system", platform.platform(terse=True)),
            ("black holes made with", application.lab.black_hole_kind),
        ),
        rows,
        tuple(failures),
        found,
        tuple(Point(moment.at - began, moment.kind.value, moment.text) for moment in moments),
        tuple(Point(at - began, "log", text) for at, text in story.log),
        plot,
    )


def write(path: Path, report: Report) -> None:
    """Write the HTML file."""
    environment = Environment(
        loader=PackageLoader("aurora_actors.cli.demo", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(environment.get_template("report.html").render(report=report, plot=report.plot), encoding="utf-8")


def _lines(story: Story) -> Iterator[Line]:
    for loss in story.losses:
        yield Line(loss.at - story.began, "fault", f"{loss.fault} {loss.host}")
        yield Line(loss.promoted_at - story.began, "promotion", f"{loss.promoted} is promoted")
    for moment in story.moments:
        if moment.kind is Kind.VERDICT:
            yield Line(moment.at - story.began, "verdict", moment.text)


def _host_lane(host: str, story: Story, moments: list[Moment], seconds: float) -> Lane:
    seen = [
        (at - story.began, status) for at, statuses in story.states for status in statuses if status.id == host
    ]
    ends = [*(at for at, _ in seen[1:]), seconds]
    bars = _joined([
        Bar(max(0.0, at), end, _host_kind(status), f"{host}: {status.role.lower()}, {status.state}")
        for (at, status), end in zip(seen, ends, strict=True)
    ])
    points = tuple(
        Point(moment.at - story.began, moment.kind.value, moment.text)
        for moment in moments
        if moment.host == host and moment.kind in {Kind.VERDICT, Kind.UP, Kind.WRITER}
    )
    return Lane(host, bars, points)


def _host_kind(status: HostStatus) -> str:
    if status.state == "available":
        return status.role.lower()
    return "returning" if status.state in {"starting", "restarting", "rejoining"} else "gone"


def _joined(bars: list[Bar]) -> tuple[Bar, ...]:
    """Neighbours that say the same become one."""
    starts = [bar for before, bar in pairwise([None, *bars]) if bar and (before is None or before.text != bar.text)]
    ends = [*(bar.start for bar in starts[1:]), bars[-1].end if bars else 0.0]
    return tuple(Bar(bar.start, end, bar.kind, bar.text) for bar, end in zip(starts, ends, strict=True))


def _client_lane(client: Client, began: float) -> Lane:
    waits = tuple(
        Bar(start - began, end - began, "wait", f"connection {client.number} waited {1000 * (end - start):.0f} ms")
        for start, end in client.waits
    )
    marks = tuple(
        Point(
            mark.at - began,
            "silent" if mark.outcome is None else "error",
            f"connection {client.number} at {mark.at - began:.2f} s: {mark.text}",
        )
        for mark in client.marks
    )
    return Lane(f"{client.number}", waits, marks)
