"""What all tables share: figures with their spread, rounds in shuffled order, and the machine that they were taken on."""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any, Literal

__all__ = ["Beside", "Cell", "Curves", "Plan", "Spread", "Table", "differences", "load", "machine", "rounds"]

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. *events*: failovers per habit; *rounds*: turns beside the peer; *quick*: as little as still
    shows something."""

    events: int
    quick: bool
    say: Callable[[str], None] = print
    rounds: int = 7

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, extremes and quartiles of several rounds, in *unit*."""

    median: float
    low: float
    high: float
    quartiles: tuple[float, float]
    count: int
    unit: str = ""
    digits: int = 1
    shown: Literal["extremes", "quartiles"] = "extremes"

    @classmethod
    def of(
        cls,
        values: Iterable[float],
        unit: str = "",
        *,
        scale: float = 1.0,
        digits: int = 1,
        shown: Literal["extremes", "quartiles"] = "extremes",
    ) -> Spread | None:
        """None where nothing was measured: an empty cell, never a zero."""
        found = sorted(value * scale for value in values)
        if not found:
            return None
        cuts = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else [found[0]] * 3
        return cls(statistics.median(found), found[0], found[-1], (cuts[0], cuts[2]), len(found), unit, digits, shown)

    def __str__(self) -> str:
        edges = self.quartiles if self.shown == "quartiles" else (self.low, self.high)
        # + 0.0: no minus before a zero.
        middle, low, high = (f"{round(value, self.digits) + 0.0:.{self.digits}f}" for value in (self.median, *edges))
        return middle if self.count == 1 else f"{middle} ({low} to {high})"


Cell = Spread | str | int | float | None


@dataclass(frozen=True, slots=True)
class Beside:
    """One row of the table in which we stand beside the others; less is better.

    *limit*: what physics asks for (a round trip, a login, a promotion), named by *bound*; None where there is none.
    """

    what: str
    ours: Cell
    peer: Cell
    raw: Cell = None
    libpq: Cell = None
    limit: float | None = None
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Curves:
    """A figure: *lines* by name, each of (x, y)."""

    file: str
    across: str
    up: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(slots=True)
class Table:
    """One table of results: its columns beside the name of a row; *notes* say how it was taken and what to compare."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[tuple[str, bool]] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0

    def add(self, name: str, *cells: Cell) -> None:
        self.rows.append((name, list(cells)))

    def target(self, what: str, reached: bool) -> None:
        """Say what was to be reached, and whether it was."""
        self.targets.append((what, reached))


def rounds(subjects: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Measure each subject once a round, in another order each time; no garbage is collected within a measurement."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(count):
        for name in random.sample(list(subjects), len(subjects)):
            gc.collect()
            gc.disable()
            try:
                found[name].append(subjects[name]())
            finally:
                gc.enable()
    return found


def differences(found: Mapping[str, Sequence[float]], name: str, base: str) -> list[float]:
    """By how much *name* was above *base* in each round."""
    return [one - other for one, other in zip(found[name], found[base], strict=True)]


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    import psycopg

    from aurora_actors.lab.account import server_account
    from aurora_actors.lab.binaries import DEFAULT_VERSION, find_binaries

    libpq = psycopg.pq.version()
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__}), libpq {libpq // 10000}.{libpq % 10000}",
        "servers": find_binaries(DEFAULT_VERSION, server_account()).banner,
        "pykka": version("pykka"),
        "blinker": version("blinker"),
        "aurora_actors": f"{version('aurora-actors')} {_commit()}".strip(),
        "load": load(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


class Watch:
    """Takes the time and the load round the making of tables."""

    def __init__(self) -> None:
        self._began, self._load = monotonic(), load()

    def close(self, tables: Iterable[Table]) -> None:
        for table in tables:
            table.load, table.seconds = (self._load, load()), monotonic() - self._began


def as_json(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """Tables as plain values."""
    return [
        {
            "title": table.title,
            "load": table.load,
            "seconds": round(table.seconds, 1),
            "notes": table.notes,
            "targets": [{"target": what, "reached": reached} for what, reached in table.targets],
            "rows": [
                {
                    "name": name,
                    **{
                        column: asdict(cell) if isinstance(cell, Spread) else cell
                        for column, cell in zip(table.columns, cells, strict=True)
                    },
                }
                for name, cells in table.rows
            ],
        }
        for table in tables
    ]
