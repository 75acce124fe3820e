"""A plugin of pytest for a foreign suite: notes how each test ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ended: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _ended.setdefault(report.nodeid, report.outcome)
        if report.outcome == "failed":
            _ended[report.nodeid] = "failed"


def pytest_sessionfinish() -> None:
    text = "".join(f"{outcome} {name}\n" for name, outcome in sorted(_ended.items()))
    Path(os.environ["FOREIGN_REPORT"]).write_text(text, encoding="utf-8")
