"""Where the lab keeps what it need not make twice: templates of data directories, readable copies of servers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_directory", "locked", "prune"]

KEPT_ENTRIES = 8
"""A template takes about 30 MB; eight cover the versions and flavours that one person works with."""
UNTOUCHABLE_SECONDS = 3600.0
"""An entry used within the last hour may be being copied by another lab."""


def cache_directory() -> Path:
    """Return the cache directory, made if it is not there.

    ``$AURORA_LAB_CACHE``, else for root ``/var/cache/aurora-actors`` (servers of another user have to reach it),
    else the platform's cache directory of the user (``$XDG_CACHE_HOME``, ``~/.cache``, ``~/Library/Caches``).
    """
    given = os.environ.get("AURORA_LAB_CACHE")
    if given:
        directory = Path(given).expanduser().absolute()
    elif os.geteuid() == 0:
        directory = Path("/var/cache/aurora-actors")
    elif sys.platform == "darwin":
        directory = Path.home() / "Library" / "Caches" / "aurora-actors"
    else:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aurora-actors"
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    return directory


@contextlib.contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the lock of one cache entry against other processes, and yield the entry's path."""
    entry = cache_directory() / name
    with open(entry.with_name(entry.name + ".lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield entry


def prune(prefix: str) -> None:
    """Remove the entries with that prefix that were used longest ago, beyond the number kept."""
    entries = [entry for entry in cache_directory().glob(prefix + "*") if entry.is_dir()]
    entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[KEPT_ENTRIES:]:
        if time.time() - entry.stat().st_mtime > UNTOUCHABLE_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
