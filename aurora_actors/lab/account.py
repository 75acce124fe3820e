"""The unprivileged account under which servers run when the lab itself runs as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Account", "server_account"]


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group; ``switch`` tells whether a child process has to change to it."""

    uid: int
    gid: int
    switch: bool

    def popen(self) -> dict[str, Any]:
        """Keyword arguments of :class:`subprocess.Popen` that start a child under this account."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Make the account the owner of *path*."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def directory(self, path: Path) -> Path:
        """Create a private directory of the account."""
        path.mkdir(mode=0o700)
        self.own(path)
        return path

    def write(self, path: Path, text: str) -> None:
        """Replace a file of the account in one step, so that a server never reads half of it."""
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        self.own(fresh)
        fresh.replace(path)


def server_account() -> Account:
    """Return this process's own account, or for root ``postgres`` if it exists and ``nobody`` otherwise.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, switch=True)
    return Account(65534, 65534, switch=True)
