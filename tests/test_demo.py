"""The demonstration counts right, and notices when the count is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("sabotage", "code", "last"), [("0", 0, "lost 0, duplicated 0"), ("1", 1, "lost 1, duplicated 1")])
def test_the_demo(sabotage: str, code: int, last: str) -> None:
    command = [sys.executable, "-m", "aurora_actors.cli", "demo", "--connections", "4", "--failovers", "1"]
    done = subprocess.run(
        command, env={**os.environ, "SABOTAGE": sabotage}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert last in done.stdout
