"""The tests of the C extension, run where it loads: with MySQL Connector 9.7 in an environment of its own.

The extension of 26.10 needs a newer OpenSSL than Debian 12 has. The environment lies in the lab's cache, outside the clone,
and sees everything else that the one which runs the tests has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import mysql.connector
import pytest

from aurora_actors.lab.cache import locked

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "mysql-connector-python==9.7.0"
INSTALL_SECONDS = 150
FILES = (
    "tests/drivers/test_conformance.py",
    "tests/drivers/test_mysql_methods.py",
    "tests/drivers/test_mysql_cost.py",
    "tests/drivers/test_mysql_aborts.py",
    "tests/drivers/test_mysql_shared.py",
    "tests/drivers/test_mysql_transparent.py",
    "tests/failover/test_mysql_cursors.py",
    "tests/failover/test_mysql_deadlines.py",
    "tests/failover/test_mysql_failover.py",
    "tests/failover/test_mysql_idle.py",
    "tests/failover/test_mysql_interrupted.py",
    "tests/failover/test_mysql_middle.py",
    "tests/failover/test_tokens.py",
)


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of that environment."""
    if mysql.connector.HAVE_CEXT:
        pytest.skip("the C extension loads here, and its tests have run already")
    name = f"{PACKAGE.replace('==', '-')}-{sys.implementation.cache_tag}"
    with locked(name) as folder:
        interpreter = folder / "bin" / "python"
        ready = folder / "ready"
        if not ready.exists():
            for command in (
                [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
                [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-deps", PACKAGE],
            ):
                made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
                if made.returncode != 0:
                    pytest.skip(f"{PACKAGE} cannot be installed here: {made.stderr.strip().splitlines()[-1]}")
            ready.touch()
        # Behind its own: everything that the environment of the tests has.
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    return interpreter


@pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file).stem)
def test_on_the_c_extension(python: Path, file: str) -> None:
    chosen = "[c or connection_cext or InC"
    command = [str(python), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
