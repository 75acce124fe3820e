"""What the runs of foreign suites have in common."""

from __future__ import annotations

from pathlib import Path

__all__ = ["HERE", "outcomes"]

HERE = Path(__file__).parent
"""Where the plugins of pytest lie that the suites are run with."""


def outcomes(report: Path) -> dict[str, str]:
    """How each test ended, by name, as the plugin ``recorded`` wrote it down."""
    pairs = (line.split(" ", 1) for line in report.read_text(encoding="utf-8").splitlines())
    return {name: outcome for outcome, name in pairs}
