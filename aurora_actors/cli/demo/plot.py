"""Where everything of the report's plot stands: arithmetic only. Times in seconds since the beginning, places in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from aurora_actors.cli.demo.application import BUCKET_SECONDS

__all__ = ["Bar", "Lane", "Line", "Plot", "Point", "Tick", "ticks"]

WIDTH = 1120.0
LEFT, RIGHT = 112.0, 18.0
TOP = 34.0
RATE_HEIGHT = 170.0
HOST_HEIGHT = 20.0
CLIENT_HEIGHT = 10.0
GAP = 30.0
"""Between the parts of the plot, for their titles."""
TIME_AXIS_HEIGHT = 26.0
STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time: for a host, what it was; for a connection, that it waited."""

    start: float
    end: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """Something at one time."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line through the whole plot."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One host or one connection: its name, its stretches and points."""

    name: str
    bars: tuple[Bar, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The throughput (rows a second, one value for each ``BUCKET_SECONDS``), and below it hosts and connections."""

    seconds: float
    rates: tuple[float, ...]
    hosts: tuple[Lane, ...]
    clients: tuple[Lane, ...]
    lines: tuple[Line, ...]

    width = WIDTH
    left = LEFT
    host_height = HOST_HEIGHT
    client_height = CLIENT_HEIGHT
    rate_top = TOP
    rate_bottom = TOP + RATE_HEIGHT

    @property
    def right(self) -> float:
        return WIDTH - RIGHT

    @property
    def hosts_top(self) -> float:
        return self.rate_bottom + GAP

    @property
    def clients_top(self) -> float:
        return self.hosts_top + len(self.hosts) * HOST_HEIGHT + GAP

    @property
    def bottom(self) -> float:
        return self.clients_top + len(self.clients) * CLIENT_HEIGHT

    @property
    def height(self) -> float:
        return self.bottom + TIME_AXIS_HEIGHT

    def x(self, at: float) -> float:
        """Where a time stands; times outside the plot stand at its edge."""
        share = min(1.0, max(0.0, at / self.seconds)) if self.seconds > 0 else 0.0
        return round(LEFT + share * (self.right - LEFT), 2)

    def length(self, bar: Bar) -> float:
        """How long a stretch is drawn: never so short that it is not seen."""
        return round(max(1.0, self.x(bar.end) - self.x(bar.start)), 2)

    def y(self, rate: float) -> float:
        """Where a throughput stands."""
        return round(self.rate_bottom - rate / self.highest * RATE_HEIGHT, 2)

    @property
    def highest(self) -> float:
        """The top of the axis of throughput."""
        return rounded_up(max(self.rates, default=0.0)) or 1.0

    @property
    def curve(self) -> str:
        """The throughput, for ``points`` of a polyline."""
        places = (((bucket + 0.5) * BUCKET_SECONDS, rate) for bucket, rate in enumerate(self.rates))
        return " ".join(f"{self.x(at)},{self.y(rate)}" for at, rate in places)

    @property
    def area(self) -> str:
        """What lies under the throughput, for ``points`` of a polygon."""
        if not self.rates:
            return ""
        first, last = self.x(0.5 * BUCKET_SECONDS), self.x((len(self.rates) - 0.5) * BUCKET_SECONDS)
        return f"{first},{self.rate_bottom} {self.curve} {last},{self.rate_bottom}"

    @property
    def time_ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(self.x(at), f"{at:g} s") for at in ticks(self.seconds, 12))

    @property
    def rate_ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(self.y(rate), f"{rate:g}") for rate in ticks(self.highest, 4))


def rounded_up(value: float) -> float:
    """The next number of one or two digits that is no less."""
    if value <= 0:
        return 0.0
    unit: float = 10.0 ** (floor(log10(value)) - 1)
    return ceil(value / unit / 5) * 5 * unit


def ticks(highest: float, wanted: int) -> Sequence[float]:
    """Round numbers from 0 to *highest*, about *wanted* of them."""
    if highest <= 0:
        return (0.0,)
    rough = highest / wanted
    unit: float = 10.0 ** floor(log10(rough))
    step = next(unit * factor for factor in STEPS if unit * factor >= rough)
    return tuple(round(number * step, 6) for number in range(floor(highest / step) + 1))
