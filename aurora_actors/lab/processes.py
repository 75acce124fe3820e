"""What the servers of both engines have in common: a process, and a log that it writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["ServerProcess"]

TAIL_CHARACTERS = 800
"""Of a log, enough to hold the last error of a server that did not start."""


class ServerProcess:
    """The process of one host's server, if it runs."""

    directory: Path
    process: subprocess.Popen[bytes] | None

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
