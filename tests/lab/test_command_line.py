"""`aurora-actors lab`, as one types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aurora_actors.lab import LabError, resolver_from

ROOT = Path(__file__).resolve().parent.parent.parent
WRITER = "shop.cluster-xyz.us-east-1.rds.amazonaws.com"


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


def test_a_round_trip(lab: CommandLine, tmp_path: Path) -> None:
    up = lab("up", "--detach", "--hosts", "2", "--habit", "drop")
    assert up.returncode == 0, up.stderr
    assert f"{WRITER} is up" in up.stdout
    again = lab("up", "--detach")
    assert again.returncode == 1
    assert "is up already" in again.stderr

    variables = dict(
        line.removeprefix("export ").split("=", 1) for line in lab("env").stdout.splitlines() if line.startswith("export")
    )
    state = Path(variables["AURORA_LAB_STATE"])
    assert state.stat().st_mode & 0o077 == 0, "it holds the application's password"
    resolve = resolver_from(state)
    ((address, port),) = resolve(variables["AURORA_LAB_WRITER"], 5432)
    with psycopg.connect(variables["AURORA_LAB_CONNINFO"].strip("'"), hostaddr=address, port=port) as session:
        assert session.execute("SELECT aurora_db_instance_identifier()").fetchall() == [("shop-1",)]

    failover = lab("failover", "--how", "planned", "--to", "shop-2")
    assert "first_commit" in failover.stdout, failover.stderr
    assert resolve(WRITER, 5432) != [(address, port)]
    wrong = lab("freeze", "shop-9")
    assert wrong.returncode == 1
    assert wrong.stderr == "aurora-actors lab: there is no host 'shop-9'; the hosts are shop-1, shop-2\n"
    assert lab("kill-session", "shop-2", "1").returncode == 1
    assert "refuses logins" in lab("refuse-logins", "shop-2").stdout
    assert "available, refuses logins, 5 ms late" in lab("slow", "shop-2", "5").stdout
    assert "sessions_dropped" in lab("drop-sessions").stdout
    assert "claims to write" in lab("claim-writer", "shop-1", "--updated-seconds-ago", "5").stdout
    assert "claims to write" not in lab("claim-writer", "shop-1", "--off").stdout
    assert "writer_hidden" in lab("claim-nobody").stdout
    assert "is no former writer" in lab("resurrect", "shop-1").stderr
    assert "frozen" in lab("freeze", "shop-1").stdout
    assert "added" in lab("add-reader").stdout
    assert "shop-9" in lab("rename", "shop-3", "shop-9").stdout
    assert resolve(WRITER.replace("shop.cluster-", "shop-9."), 5432)
    assert "removed" in lab("remove-reader", "shop-9").stdout
    assert "shop-9" not in lab("status").stdout

    assert lab("down").returncode == 0
    assert not state.exists()
    assert lab("status").returncode == 1
    with pytest.raises(LabError, match="no lab has left its state"):
        resolve(WRITER, 5432)


def test_a_lab_that_cannot_start_says_why(lab: CommandLine, tmp_path: Path) -> None:
    lab.environment["AURORA_LAB_PG_BIN"] = str(tmp_path)
    for arguments in (["up"], ["up", "--detach"]):
        done = lab(*arguments)
        assert done.returncode == 1
        assert "no PostgreSQL server" in done.stderr
        assert "Traceback" not in done.stderr
