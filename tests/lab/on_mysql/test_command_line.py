"""`aurora-actors lab --engine mysql`, and the fixture, as a project that knows nothing else of us has them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mysql.connector
import pytest

from aurora_actors.lab import ServerUnavailable, resolver_from
from aurora_actors.lab.account import server_account
from aurora_actors.lab.mysql_binaries import find_mysql
from aurora_actors.lab.values import ServerKind

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture
def server(aurora_mysql_lab_server: ServerKind) -> ServerKind:
    """A server that is there."""
    try:
        find_mysql(aurora_mysql_lab_server, server_account())
    except ServerUnavailable as unavailable:
        pytest.skip(str(unavailable))
    return aurora_mysql_lab_server


class CommandLine:
    """Commands with a runtime directory of their own."""

    def __init__(self, runtime: Path) -> None:
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aurora_actors.cli", "lab", *arguments, "--name", "shop"],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[CommandLine]:
    pytest.importorskip("typer")
    command = CommandLine(tmp_path)
    yield command
    command("down")


def test_a_round_trip(lab: CommandLine, server: ServerKind) -> None:
    up = lab("up", "--detach", "--hosts", "2", "--engine", "mysql", "--server", server)
    assert up.returncode == 0, up.stderr
    variables = dict(
        line.removeprefix("export ").split("=", 1) for line in lab("env").stdout.splitlines() if line.startswith("export")
    )
    resolve = resolver_from(variables["AURORA_LAB_STATE"])
    words = (word.split("=", 1) for word in variables["AURORA_LAB_CONNINFO"].strip("'").split())
    login = {key: value for key, value in words if key in {"user", "password", "database"}}
    ((address, port),) = resolve(variables["AURORA_LAB_WRITER"], 3306)
    session = mysql.connector.connect(host=address, port=port, use_pure=True, **login)
    with session, session.cursor() as cursor:
        cursor.execute("SELECT @@aurora_server_id")
        assert cursor.fetchall() == [("shop-1",)]
        assert lab("kill-session", "shop-1", str(session.connection_id)).returncode == 0
    assert "first_commit" in lab("failover", "--to", "shop-2").stdout
    assert resolve(variables["AURORA_LAB_WRITER"], 3306) != [(address, port)]
    assert lab("down").returncode == 0


def test_what_belongs_to_the_other_engine_is_said(lab: CommandLine) -> None:
    for arguments in (["--engine", "mysql", "--version", "18"], ["--server", "mysql"]):
        done = lab("up", *arguments)
        assert done.returncode == 1
        assert "--version is PostgreSQL's, --server is MySQL's" in done.stderr


PROJECT = """
import sys
import pytest

assert not {"mysql", "psutil", "aurora_actors.lab.mysql"} & set(sys.modules), "loaded before use"

@pytest.mark.aurora_mysql_lab(hosts=1, name="shop", server="SERVER")
def test_a_lab(aurora_mysql_lab):
    assert aurora_mysql_lab.hosts == ("shop-1",)
    import aurora_actors
    before = aurora_actors.set_resolver(None)
    aurora_actors.set_resolver(before)
    assert before == aurora_mysql_lab.resolve
"""


def run(tmp_path: Path, server: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_project.py").write_text(PROJECT.replace("SERVER", server), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-W", "error", "-rs", "."],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400", **environment},
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_a_project_gets_a_lab_whose_names_resolve(tmp_path: Path, server: ServerKind) -> None:
    done = run(tmp_path, server)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_a_server_the_test_is_skipped_with_a_reason(tmp_path: Path) -> None:
    done = run(tmp_path, "mariadb", AURORA_LAB_MARIADBD=str(tmp_path))
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert "apt-get install mariadb-server-core" in done.stdout
