"""Curves as small SVG files; nothing where matplotlib (the extra ``bench``) is missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import Curves, Table

__all__ = ["draw"]

INCHES = (4.2, 2.6)


def draw(directory: Path, tables: Sequence[Table]) -> list[Path]:
    """Draw the curves of all tables; gives the files."""
    curves = [one for table in tables for one in table.curves]
    try:
        matplotlib: Any = import_module("matplotlib")
    except ImportError:
        return []
    matplotlib.use("svg")
    # No text as outlines, no date, no random names: small files that differ where figures do.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "aurora_actors", "font.size": 8})
    pyplot: Any = import_module("matplotlib.pyplot")
    return [_drawn(pyplot, directory / f"{one.file}.svg", one) for one in curves]


def _drawn(pyplot: Any, path: Path, curves: Curves) -> Path:
    figure, axes = pyplot.subplots(figsize=INCHES, layout="constrained")
    for name, points in curves.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.set(xlabel=curves.across, ylabel=curves.up)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
