"""`make` and `.ci/run` on machines that lack something: played with programs of our own first on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.distribution import ROOT

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed: the two commands are not tested"),
]

CANDIDATES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")
WITHOUT_VENV = f"""#!/bin/bash
case "$*" in *ensurepip*) exit 1;; esac
exec {sys.executable} "$@"
"""


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o755)


def run(command: list[str], tree: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tree)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tree, env=environment, timeout=30)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def programs(tree: Path) -> Path:
    """A user who is not root and whose every Python is too old."""
    folder = tree / "programs"
    for name in CANDIDATES:
        program(folder, name, "#!/bin/bash\nexit 1\n")
    program(folder, "id", "#!/bin/bash\necho 1000\n")
    return folder


def test_no_python_is_said(tree: Path, programs: Path) -> None:
    done = run(["make", "demo"], tree, programs)
    assert done.returncode == 2
    assert "Python >= 3.11 with venv is needed" in done.stderr
    assert not (tree / ".venv").exists()


def test_a_missing_venv_module_is_said_with_its_package(tree: Path, programs: Path) -> None:
    program(programs, "python3", WITHOUT_VENV)
    done = run(["make", "test"], tree, programs)
    major, minor = sys.version_info[:2]
    assert done.returncode == 2
    assert f"apt-get install python{major}.{minor}-venv" in done.stderr


def test_root_installs_the_venv_module_by_apt(tree: Path, programs: Path) -> None:
    program(programs, "id", "#!/bin/bash\necho 0\n")
    program(programs, "python3", WITHOUT_VENV)
    program(programs, "python3-after-apt", f'#!/bin/bash\n[ "$2" = venv ] && exit 3\nexec {sys.executable} "$@"\n')
    program(
        programs,
        "apt-get",
        f'#!/bin/bash\necho "$*" >> apt.log\n[ "$1" = install ] && cp {programs}/python3-after-apt {programs}/python3\n'
        "exit 0\n",
    )
    run(["make", "test"], tree, programs)
    major, minor = sys.version_info[:2]
    asked = (tree / "apt.log").read_text("utf-8").splitlines()
    assert asked == ["update -qq", f"install -qq -y python{major}.{minor}-venv"]


def test_make_alone_explains_the_commands(tree: Path, programs: Path) -> None:
    done = run(["make"], tree, programs)
    assert done.returncode == 0
    assert "make demo" in done.stdout
    assert "make test" in done.stdout


@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        ("== pytest\n===== 12 passed in 3.45s =====\n", 0, "===== 12 passed in 3.45s ====="),
        ("===== 1 failed, 11 passed in 61.20s (0:01:01) =====\nmake: *** [test] Error 1\n", 2, "===== 1 failed, 11"),
        ("error: no compiler found\n", 2, ".ci/run: pytest printed no summary"),
    ],
)
def test_the_last_line_is_the_summary_of_pytest(tree: Path, said: str, status: int, last: str) -> None:
    (tree / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tree / ".ci" / "run")
    (tree / "said").write_text(said, encoding="utf-8")
    program(tree / "programs", "make", f'#!/bin/bash\n[ "$1" = test ] && cat said && exit {status}\n')
    done = run([".ci/run"], tree, tree / "programs")
    assert done.returncode == status
    assert done.stdout.startswith(said)
    assert done.stdout.splitlines()[-1].startswith(last)
