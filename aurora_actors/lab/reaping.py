"""End servers for good, with all their children, shared memory and files.

The file is also a program: the lab starts it beside itself and hands it a pipe. When the pipe closes or the lab's
process is gone, however it died, the program sweeps the lab's directory. It uses nothing else of this package, so that
it starts fast and runs by its path.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["PREFIX", "claimed", "forget_shared_memory", "freeze_tree", "kill_tree", "sweep", "sweep_orphans", "thaw_tree"]

PREFIX = "aurora-lab-"
"""How the names of labs' directories begin."""
OWNER = "owner"
"""A file that the process of a running lab holds locked; a process id would mean another process in another container."""

IPC_RMID = 0
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
SHARED_MEMORY_LINE = 6
"""Line of postmaster.pid (from 0) that holds the key and the id of the server's System V segment."""
DEATH_SECONDS = 10.0
"""SIGKILL needs milliseconds; on a machine that swaps, seconds."""
_adopting = threading.Lock()
"""Adoption is a matter of the whole process: two labs in it take turns."""
PACKET_FILTER_MARK = "packet-filter"
"""Files of the lab's directory whose names begin so hold a command that removes a packet filter, one word a line."""


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            process.send_signal(number)


def _stopped_tree(pid: int) -> list[psutil.Process]:
    """Stop the postmaster first: a stopped one cannot fork, so the list of its children is complete.

    It may be the child of a front, which is stopped before it.
    """
    try:
        postmaster = psutil.Process(pid)
        postmaster.send_signal(signal.SIGSTOP)
        _signal(postmaster.children(), signal.SIGSTOP)
        return [postmaster, *postmaster.children(recursive=True)]
    except (psutil.NoSuchProcess, ProcessLookupError):
        return []


def kill_tree(pid: int) -> None:
    """SIGKILL a postmaster and all its children, frozen or not, and wait until none of them runs."""
    tree = _stopped_tree(pid)
    with _adopting_orphans():
        # The postmaster last: children that outlive it by a moment would say goodbye to their clients.
        _signal(reversed(tree), signal.SIGKILL)
        deadline = time.monotonic() + DEATH_SECONDS
        while any(map(_is_alive, tree[:1])) and time.monotonic() < deadline:
            time.sleep(0.0005)
        left = tree[1:]
        while left and time.monotonic() < deadline:
            left = [process for process in left if not _collected(process)]
            if left:
                time.sleep(0.0005)


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Be the one that collects a killed postmaster's children, for as long as this takes.

    In a container process 1 is often no init: the dead children would stay zombies for ever.
    """
    if sys.platform != "linux":
        yield
        return
    library = ctypes.CDLL(None)
    before = ctypes.c_int(0)
    with _adopting:
        library.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            yield
        finally:
            library.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _collected(process: psutil.Process) -> bool:
    try:
        collected, _ = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return not _is_alive(process)
    return collected != 0


def _serves(pid: int, data: Path) -> bool:
    # The file outlives its server, and the system gives process ids out again.
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _mysql_servers(directory: Path) -> list[int]:
    """MySQL's servers and their fronts: each names the option file of its host, from its first moment on."""
    mark = f"--defaults-file={directory}/"
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(word.startswith(mark) for word in process.cmdline()):
                found.append(process.pid)
    return found


def _is_alive(process: psutil.Process) -> bool:
    # A zombie holds no socket and no memory; whoever started it collects it.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def freeze_tree(pid: int) -> None:
    """SIGSTOP a postmaster and all its children."""
    _signal(_stopped_tree(pid)[1:], signal.SIGSTOP)


def thaw_tree(pid: int) -> None:
    """SIGCONT all children of a postmaster, then the postmaster."""
    with suppress(psutil.NoSuchProcess):
        postmaster = psutil.Process(pid)
        _signal([*postmaster.children(recursive=True), postmaster], signal.SIGCONT)


def forget_shared_memory(data: Path) -> None:
    """Remove the System V segment that a killed server leaves behind (PostgreSQL removes it at its next start)."""
    try:
        line = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[SHARED_MEMORY_LINE]
        segment = int(line.split()[1])
    except (OSError, IndexError, ValueError):
        return
    ctypes.CDLL(None).shmctl(segment, IPC_RMID, None)


def sweep(directory: Path) -> None:
    """End every server whose data directory lies in *directory*, and remove the directory."""
    if not directory.is_dir():
        return
    for mark in directory.glob(PACKET_FILTER_MARK + "*"):
        subprocess.run(mark.read_text(encoding="utf-8").split("\n"), capture_output=True, timeout=10, check=False)
    for pid in _mysql_servers(directory):
        kill_tree(pid)
    for pid_file in directory.glob("*/data/postmaster.pid"):
        with suppress(OSError, ValueError, IndexError):
            pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
            if _serves(pid, pid_file.parent):
                kill_tree(pid)
        forget_shared_memory(pid_file.parent)
    for _ in range(5):
        # A copy that was under way may still create files for a moment.
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


def claimed(directory: Path) -> int:
    """Mark *directory* as that of a running lab until the descriptor is closed, or this process is gone."""
    fresh = directory / f"{OWNER}.new"
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Nobody sees it before it is locked.
    fresh.replace(directory / OWNER)
    return descriptor


def sweep_orphans(parent: Path) -> None:
    """Sweep the directories of this user's labs in *parent* whose process and keeper were both killed.

    The kernel does so when memory is short. A directory without a mark is left alone: it may be about to get one.
    """
    for directory in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = directory.lstat()
            # Others may write to *parent* too, and what is swept is also carried out.
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            descriptor = os.open(directory / OWNER, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sweep(directory)
            finally:
                os.close(descriptor)


def _wait_for_parent(parent: int) -> None:
    """Return when standard input is closed, or when the parent is gone though a forked child holds the pipe open."""
    waiting: list[int] = [sys.stdin.fileno()]
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):
            waiting.append(os.pidfd_open(parent))
    while True:
        ready, _, _ = select.select(waiting, [], [], 5.0)
        if ready or os.getppid() != parent:
            return


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _wait_for_parent(int(sys.argv[2]))
    sweep(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
