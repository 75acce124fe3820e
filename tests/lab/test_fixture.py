"""The pytest plugin, used by a project that knows nothing else of us."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

PROJECT = """
import socket
import sys
import pytest

assert not {"psycopg", "psutil", "aurora_actors.lab.postgres"} & set(sys.modules), "loaded before use"

@pytest.mark.aurora_lab(hosts=1, name="shop")
def test_a_lab(aurora_lab):
    assert aurora_lab.hosts == ("shop-1",)
    import aurora_actors
    before = aurora_actors.set_resolver(None)
    aurora_actors.set_resolver(before)
    assert before == aurora_lab.resolve

def test_that_needs_none():
    import aurora_actors
    assert aurora_actors.set_resolver(None) is None
"""


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_project.py").write_text(PROJECT, encoding="utf-8")
    known = {entry.name for entry in entry_points(group="pytest11")}
    plugin = [] if "aurora_lab" in known else ["-p", "aurora_actors.lab.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-W", "error", "-rs", *plugin, "."],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400", **environment},
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_a_project_gets_a_lab_whose_names_resolve(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_without_a_server_the_test_is_skipped_with_a_reason(tmp_path: Path) -> None:
    done = run(tmp_path, AURORA_LAB_PG_BIN=str(tmp_path))
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "pip install 'aurora-actors[lab]'" in done.stdout


def test_the_plugin_is_an_entry_point() -> None:
    found = [entry for entry in entry_points(group="pytest11") if entry.name == "aurora_lab"]
    if not found:
        pytest.skip("the project is not installed here")
    assert {entry.value for entry in found} == {"aurora_actors.lab.pytest_plugin"}
