"""The sdist, the wheel and an environment with the wheel in it, as values the tests can ask."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@dataclass(frozen=True, slots=True)
class Built:
    """What `python -m build` made: the sdist, and the wheel built from that sdist."""

    sdist: Path
    wheel: Path

    def names(self) -> frozenset[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return frozenset(archive.namelist())

    def info(self, name: str) -> str:
        """A file of the wheel's ``.dist-info``."""
        with zipfile.ZipFile(self.wheel) as archive:
            (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
            return archive.read(path).decode()

    def metadata(self) -> Message:
        return Parser().parsestr(self.info("METADATA"))


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel, and sees the dependencies of the one that runs the tests."""

    prefix: Path
    elsewhere: Path  # a directory outside the checkout: what is imported there is what was installed

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        program = self.prefix / "bin" / arguments[0]
        command = [str(program), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.elsewhere, timeout=60)

    def install(self, what: str) -> None:
        """Install a wheel or a source folder without its dependencies, and without asking an index."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.prefix / "bin" / "python"), "--quiet"]
        options = ["--disable-pip-version-check", "install", "--no-deps", "--no-index", "--no-build-isolation"]
        checked([*pip, *options, what], cwd=self.elsewhere)

    def python(self, code: str) -> str:
        done = self.run(["python", "-W", "error", "-c", code])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def checked(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=150)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
