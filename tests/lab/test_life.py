"""The lab's own life: it leaves nothing behind, however it ends, and says what it lacks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aurora_actors.lab import LabError, PostgresLab, ServerUnavailable, addresses, packet_filter, reaping
from aurora_actors.lab.account import server_account
from aurora_actors.lab.binaries import find_binaries
from aurora_actors.lab.pytest_plugin import LabPool
from tests.lab.sessions import connect, eventually, rows

ROOT = Path(__file__).resolve().parent.parent.parent


def process_ids(lab: PostgresLab) -> set[int]:
    found: set[int] = set()
    for host in lab.cluster.hosts.values():
        assert host.server.process is not None
        postmaster = psutil.Process(host.server.process.pid)
        found |= {postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))}
    return found


def segments(directory: Path) -> set[str]:
    """System V segments of the lab's servers."""
    return {path.read_text().splitlines()[6].split()[1] for path in directory.glob("*/data/postmaster.pid")}


def existing_segments() -> set[str]:
    table = Path("/proc/sysvipc/shm")
    return {line.split()[1] for line in table.read_text().splitlines()[1:]} if table.exists() else set()


def test_stopping_leaves_no_process_file_or_segment() -> None:
    with PostgresLab(hosts=2) as lab:
        lab.failover(rejoin=False)
        lab.freeze("database-2")
        directory, ids = lab.directory, process_ids_of_running(lab)
        shared = segments(directory)
        assert shared
    assert not directory.exists()
    assert not {id_ for id_ in ids if psutil.pid_exists(id_)}
    assert not shared & existing_segments()
    with pytest.raises(LabError, match="not running"):
        lab.status()


def process_ids_of_running(lab: PostgresLab) -> set[int]:
    running = [host.server.process for host in lab.cluster.hosts.values() if host.server.is_running]
    return {child.pid for process in running if process for child in psutil.Process(process.pid).children(recursive=True)}


DYING = """
import os, sys
from aurora_actors.lab import PostgresLab
lab = PostgresLab(hosts=2)
lab.start()
if os.fork() == 0:
    sys.exit()  # atexit runs here, in a child that does not own the lab
os.wait()
lab.crash("database-2")
lab.restart("database-2")
lab.slow("database-1", 20)
lab.cut_flow("database-1")
pids = (host.server.process.pid for host in lab.cluster.hosts.values())
print(lab.directory, lab.address("database-1")[0], *pids, flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_when_the_process_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DYING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        directory, address, *ids = process.stdout.readline().split()
        assert Path(directory).is_dir()
        assert packet_filter.is_possible() is (address in packet_filters())
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not Path(directory).exists())
    eventually(lambda: not any(is_running(int(id_)) for id_ in ids))
    assert Path(directory).name.replace("-", "_") not in packet_filters()
    assert address not in packet_filters()


def test_what_a_killed_lab_and_its_killed_keeper_left_goes_with_the_next_start() -> None:
    parent = Path(tempfile.mkdtemp(prefix="aurora-test-"))
    parent.chmod(0o755)
    owning = (
        "import pathlib, sys; from aurora_actors.lab import reaping\n"
        "claim = reaping.claimed(pathlib.Path(sys.argv[1])); print(claim, flush=True); sys.stdin.read()"
    )
    try:
        orphan, unmarked, link = (parent / f"{reaping.PREFIX}{name}" for name in ("orphan", "unmarked", "link"))
        for directory in (orphan, unmarked, parent / "elsewhere"):
            directory.mkdir()
        (parent / "elsewhere" / reaping.OWNER).touch()
        link.symlink_to(parent / "elsewhere")
        owner = subprocess.Popen(
            [sys.executable, "-c", owning, str(orphan)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with owner:
            assert owner.stdout is not None
            assert owner.stdout.readline()
            with PostgresLab(hosts=1, directory=parent) as lab:
                reaping.sweep_orphans(parent)
                assert lab.directory.is_dir()
                assert orphan.is_dir()
            owner.send_signal(signal.SIGKILL)
        with PostgresLab(hosts=1, directory=parent):
            assert not orphan.exists()
        assert {path.name for path in parent.iterdir()} == {unmarked.name, link.name, "elsewhere"}
        assert (link / reaping.OWNER).exists()
    finally:
        shutil.rmtree(parent)


def packet_filters() -> str:
    """All that the kernel does to packets, as far as this process may know."""
    commands = (["nft", "list", "ruleset"], ["iptables", "-t", "raw", "-S"])
    there = [command for command in commands if shutil.which(command[0])]
    return "".join(subprocess.run(each, capture_output=True, text=True, check=False).stdout for each in there)


def is_running(id_: int) -> bool:
    # Nobody but process 1 can collect them now, and in a container it may not.
    try:
        return psutil.Process(id_).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_two_labs_do_not_meet() -> None:
    with PostgresLab(hosts=1) as one, PostgresLab(hosts=1, name="other") as other:
        assert one.address("database-1") != other.address("other-1")
        assert rows(one, "writer", "SELECT aurora_db_instance_identifier()") == [("database-1",)]
        assert rows(other, "writer", "SELECT aurora_db_instance_identifier()") == [("other-1",)]


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lab = PostgresLab(hosts=1, address_block="127.0.0", port=port, directory=tmp_path)
        with pytest.raises(LabError, match=f"not free on port {port}"):
            lab.start()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_postgresql_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AURORA_LAB_PG_BIN", str(tmp_path))
    with pytest.raises(ServerUnavailable, match=r"aurora-actors\[lab\].*AURORA_LAB_PG_BIN"):
        PostgresLab().start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"hosts": 0}, "at least one host"), ({"habit": "sing"}, "habit is"), ({"flavour": "sour"}, "flavour is")],
)
def test_wrong_arguments_are_said_at_once(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message):
        PostgresLab(**arguments)  # type: ignore[arg-type]


def test_one_address_serves_where_there_is_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_can_bind", lambda places: all(place[0] == "127.0.0.1" for place in places))
    with PostgresLab(hosts=2) as lab:
        places = [lab.address(host) for host in lab.hosts]
        assert [address for address, _ in places] == ["127.0.0.1"] * 2
        assert len({port for _, port in places}) == 2
        lab.failover()
        assert rows(lab, "writer", "SELECT aurora_db_instance_identifier()") == [("database-2",)]
        lab.wait_ready()
        lab.black_hole("database-1")
        assert rows(lab, "writer", "SELECT 1") == [(1,)]
        lab.heal("database-1")
        lab.wait_ready()


def test_a_pool_gives_the_same_cluster_again_in_good_health() -> None:
    pool = LabPool()
    try:
        lab = pool.take({"hosts": 2})
        assert isinstance(lab, PostgresLab)
        with connect(lab) as session:
            session.execute("CREATE TABLE orders (id int)")
        lab.crash("database-1")
        assert pool.take({"hosts": 2}) is lab
        assert lab.writer == "database-1"
        assert rows(lab, "writer", "SELECT to_regclass('orders')") == [(None,)]
        assert pool.take({"hosts": 1}) is not lab
    finally:
        pool.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own are private."""
    directory = Path(tempfile.mkdtemp(prefix="aurora-lab-test-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_servers_in_a_private_folder_are_copied_to_where_their_user_can_read_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, open_directory: Path
) -> None:
    account = server_account()
    original = find_binaries(18, account)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    install = original.folder.parent
    (private / install.parent.name).mkdir()
    (private / install.parent.name / install.name).symlink_to(install)
    shutil.copytree(install, private / install.parent.name / "copy", symlinks=True)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        (private / libraries.name).symlink_to(libraries)
    monkeypatch.setenv("AURORA_LAB_PG_BIN", str(private / install.parent.name / "copy" / "bin"))
    monkeypatch.setenv("AURORA_LAB_CACHE", str(open_directory))
    copied = find_binaries(18, account)
    assert open_directory in copied.folder.parents
    assert copied.banner == original.banner


UNPRIVILEGED = """
from aurora_actors.lab import PostgresLab
with PostgresLab(hosts=2) as lab:
    lab.failover()
    lab.wait_ready()
    lab.black_hole(lab.readers[0])
    lab.heal("database-1")
    lab.wait_ready()
    lab.cut_flow("database-2")
    lab.slow("database-2", 20)
    lab.reset()
    lab.failover()
    print(lab.writer)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs unprivileged already")
def test_the_lab_needs_no_root(open_directory: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]),
        "AURORA_LAB_CACHE": str(open_directory),
    }
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin") or sys.executable
    for python in (sys.executable, system):
        command = [python, "-c", "import psycopg, psutil, aurora_actors"]
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
