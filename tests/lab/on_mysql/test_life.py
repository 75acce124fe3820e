"""The MySQL lab's own life: it leaves nothing behind, however it ends, and says what it lacks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aurora_actors.lab import LabError, MysqlLab, ServerUnavailable, addresses, mysql_fetching
from aurora_actors.lab.account import server_account
from aurora_actors.lab.mysql_binaries import find_mysql
from aurora_actors.lab.pytest_plugin import LabPool
from aurora_actors.lab.values import ServerKind
from tests.lab.on_mysql.sessions import connect, execute, rows
from tests.lab.sessions import eventually

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture
def server(aurora_mysql_lab_server: ServerKind) -> ServerKind:
    """A server that is there."""
    try:
        find_mysql(aurora_mysql_lab_server, server_account())
    except ServerUnavailable as unavailable:
        pytest.skip(str(unavailable))
    return aurora_mysql_lab_server


def processes_of(directory: Path) -> list[psutil.Process]:
    """Whatever runs with a file of the lab as an argument, but for the program that watches over it."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(f"{directory}/" in word for word in command):
            found.append(process)
    return found


@pytest.mark.parametrize("flavour", ["aurora", "plain"])
def test_stopping_leaves_no_process_and_no_file(server: ServerKind, flavour: str) -> None:
    with MysqlLab(hosts=2, server=server, flavour=flavour) as lab:  # type: ignore[arg-type]
        lab.failover(rejoin=False)
        lab.freeze("database-2")
        directory = lab.directory
        assert len(processes_of(directory)) == (2 if flavour == "aurora" else 1)
    assert not directory.exists()
    assert processes_of(directory) == []
    with pytest.raises(LabError, match="not running"):
        lab.status()


DYING = """
import sys
from aurora_actors.lab import MysqlLab
lab = MysqlLab(hosts=2, server=sys.argv[1], flavour=sys.argv[2])
lab.start()
lab.crash("database-2")
lab.restart("database-2")
print(lab.directory, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("flavour", ["aurora", "plain"])
def test_nothing_is_left_when_the_process_is_killed(server: ServerKind, flavour: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DYING, server, flavour],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert directory.is_dir()
        assert len(processes_of(directory)) == (4 if flavour == "aurora" else 2)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not directory.exists())
    eventually(lambda: processes_of(directory) == [])


def test_two_labs_do_not_meet(server: ServerKind) -> None:
    with MysqlLab(hosts=1, server=server) as one, MysqlLab(hosts=1, server=server, name="other") as other:
        assert rows(one, "writer", "SELECT @@aurora_server_id") == [("database-1",)]
        assert rows(other, "writer", "SELECT @@aurora_server_id") == [("other-1",)]


def test_one_address_serves_where_there_is_only_one(server: ServerKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_can_bind", lambda places: all(place[0] == "127.0.0.1" for place in places))
    with MysqlLab(hosts=2, server=server) as lab:
        places = [lab.address(host) for host in lab.hosts]
        assert [address for address, _ in places] == ["127.0.0.1"] * 2
        lab.failover()
        assert rows(lab, "writer", "SELECT @@aurora_server_id") == [("database-2",)]
        lab.wait_ready()
        lab.black_hole("database-1")
        assert rows(lab, "writer", "SELECT 1") == [(1,)]
        lab.heal("database-1")
        lab.wait_ready()


def test_a_pool_gives_the_same_cluster_again_in_good_health(server: ServerKind) -> None:
    pool = LabPool("MysqlLab")
    try:
        lab = pool.take({"hosts": 2, "server": server})
        assert isinstance(lab, MysqlLab)
        with connect(lab) as session:
            execute(session, "CREATE TABLE orders (id int)")
        lab.crash("database-1")
        assert pool.take({"hosts": 2, "server": server}) is lab
        assert lab.writer == "database-1"
        assert rows(lab, "writer", "SHOW TABLES") == []
        assert pool.take({"hosts": 1, "server": server}) is not lab
    finally:
        pool.close()


def test_a_machine_without_a_server_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AURORA_LAB_MARIADBD", str(tmp_path / "mariadbd"))
    monkeypatch.setenv("AURORA_LAB_MYSQLD", str(tmp_path / "mysqld"))
    with pytest.raises(ServerUnavailable, match=r"apt-get install mariadb-server-core.*AURORA_LAB_MARIADBD"):
        MysqlLab(server="mariadb").start()
    with pytest.raises(ServerUnavailable, match=r"aurora_actors\.lab\.mysql_fetching.*AURORA_LAB_MYSQLD"):
        MysqlLab(server="mysql").start()


def test_a_machine_without_apt_is_told_that_mysql_cannot_be_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AURORA_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LabError, match="on Debian only"):
        mysql_fetching.fetch_mysql()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hosts": 0}, "at least one host"),
        ({"habit": "sing"}, "habit is"),
        ({"flavour": "sour"}, "flavour is"),
        ({"server": "oracle"}, "server is"),
    ],
)
def test_wrong_arguments_are_said_at_once(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message):
        MysqlLab(**arguments)  # type: ignore[arg-type]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own are private."""
    directory = Path(tempfile.mkdtemp(prefix="aurora-lab-test-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


UNPRIVILEGED = """
from aurora_actors.lab import MysqlLab
with MysqlLab(hosts=2) as lab:
    lab.failover()
    lab.wait_ready()
    lab.black_hole(lab.readers[0])
    lab.heal("database-1")
    lab.wait_ready()
    print(lab.writer)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs unprivileged already")
def test_the_lab_needs_no_root(open_directory: Path) -> None:
    try:
        find_mysql("mariadb", server_account())
    except ServerUnavailable as unavailable:
        pytest.skip(str(unavailable))
    nobody = pwd.getpwnam("nobody")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]),
        "AURORA_LAB_CACHE": str(open_directory),
    }
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin") or sys.executable
    for python in (sys.executable, system):
        command = [python, "-c", "import mysql.connector, psutil, aurora_actors"]
        try:
            subprocess.run(
                command, env=environment, cwd="/", check=True, capture_output=True,
                user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        done = subprocess.run(
            [python, "-c", UNPRIVILEGED], env=environment, cwd="/", capture_output=True, text=True, timeout=90, check=False,
            user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
        )  # fmt: skip
        assert done.stdout == "database-2\n", done.stderr
        return
    pytest.skip("no Python here can be run by another user than root")
