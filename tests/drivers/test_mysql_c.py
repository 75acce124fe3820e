"""The tests of the C extension, run where it loads: with MySQL Connector 9.7 in an environment of its own.

See ``c_extension``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from subprocess import CalledProcessError

import mysql.connector
import pytest

from tests.drivers import c_extension

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = (
    "tests/drivers/test_conformance.py",
    "tests/drivers/test_mysql_methods.py",
    "tests/drivers/test_mysql_cost.py",
    "tests/drivers/test_mysql_aborts.py",
    "tests/drivers/test_mysql_shared.py",
    "tests/drivers/test_mysql_transparent.py",
    "tests/failover/test_let_go.py",
    "tests/failover/test_mysql_commit_outcome.py",
    "tests/failover/test_mysql_cursors.py",
    "tests/failover/test_mysql_deadlines.py",
    "tests/failover/test_mysql_failover.py",
    "tests/failover/test_mysql_idle.py",
    "tests/failover/test_mysql_interrupted.py",
    "tests/failover/test_mysql_middle.py",
    "tests/failover/test_mysql_servers.py",
    "tests/failover/test_tokens.py",
)


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of that environment."""
    if mysql.connector.HAVE_CEXT:
        pytest.skip("the C extension loads here, and its tests have run already")
    try:
        return c_extension.interpreter()
    except CalledProcessError as error:
        pytest.skip(f"{c_extension.PACKAGE} cannot be installed here: {error.stderr.strip().splitlines()[-1]}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file).stem)
def test_on_the_c_extension(python: Path, file: str) -> None:
    chosen = "[c or connection_cext or InC"
    command = [str(python), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
