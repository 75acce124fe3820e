"""What the servers of both engines have in common: a process, a front where it needs one, and a log that they write."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .front import Task
from .names import Place
from .reaping import kill_tree
from .values import LabError

__all__ = ["ServerProcess"]

PACKAGES = str(Path(__file__).parent.parent.parent)
"""Where a front finds this package: it runs without site packages."""
FRONT_SECONDS = 20.0

TAIL_CHARACTERS = 800
"""Of a log, enough to hold the last error of a server that did not start."""


class ServerProcess:
    """The process of one host's server, or of the front that is its parent, if it runs."""

    place: Place
    directory: Path
    process: subprocess.Popen[bytes] | None
    _front: socket.socket | None = None

    def log_tail(self) -> str:
        """The end of the server's log."""
        try:
            return (self.directory / "server.log").read_text(encoding="utf-8", errors="replace")[-TAIL_CHARACTERS:]
        except OSError:
            return ""

    @property
    def is_running(self) -> bool:
        """Whether the process exists, frozen or not."""
        return self.process is not None and self.process.poll() is None

    def end_session(self) -> None:
        """Close the lab's own session."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL every process of the server, and its front, at once; the kernel closes their sockets."""
        if self.process is not None:
            kill_tree(self.process.pid)
        self.collect()
        self.end_session()

    def collect(self) -> None:
        """Forget processes that are dead."""
        if self.process is not None:
            self.process.wait()
        self.process = None
        self._close_front()

    def _start_behind_front(self, task: Task, command: Sequence[str]) -> None:
        """Start the server as the child of a front: what ends, stops or silences the one does so to the other."""
        ours, theirs = socket.socketpair()
        with theirs, open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen[bytes](
                [sys.executable, "-P", "-S", "-m", "aurora_actors.lab.front", task.text(), *command],
                stdin=theirs.fileno(), stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"LC_ALL": "C", "PYTHONPATH": PACKAGES},
            )  # fmt: skip
        self._close_front()
        self._front = ours
        ours.settimeout(FRONT_SECONDS)

    def _open_front(self) -> None:
        """Let clients in."""
        if self._front is None:
            return
        try:
            self._front.sendall(b"o")
            answer = self._front.recv(1)
        except OSError as error:
            raise LabError(f"the front of {self.place.id} does not answer: {error}") from None
        if answer != b"o":
            raise LabError(f"the front of {self.place.id} could not listen: {self.log_tail()}")

    def _close_front(self) -> None:
        if self._front is not None:
            self._front.close()
        self._front = None
