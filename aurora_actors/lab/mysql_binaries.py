"""Find a MySQL or MariaDB server program on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .account import Account
from .mysql_fetching import NAMES, fetched_server
from .values import LabError, ServerKind, ServerUnavailable

__all__ = ["MysqlBinaries", "find_mysql"]

VERSION_SECONDS = 20.0
VARIABLE = {"mariadb": "AURORA_LAB_MARIADBD", "mysql": "AURORA_LAB_MYSQLD"}
PROGRAMS = {"mariadb": ("mariadbd", "mysqld"), "mysql": ("mysqld",)}
FOLDERS = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
INSTALL = {
    "mariadb": "apt-get install mariadb-server-core (Debian, Ubuntu), or set AURORA_LAB_MARIADBD to the program mariadbd",
    "mysql": (
        "run 'python -m aurora_actors.lab.mysql_fetching' where there is apt-get (it needs no root), "
        "or set AURORA_LAB_MYSQLD to the program mysqld"
    ),
}


@dataclass(frozen=True, slots=True)
class MysqlBinaries:
    """A server program. ``command`` starts it: the program, or its own loader and the program."""

    kind: ServerKind
    command: tuple[str, ...]
    prefix: Path
    """The folder that has its ``share`` and ``lib``."""
    banner: str

    @property
    def is_mariadb(self) -> bool:
        """Whether it speaks MariaDB's replication."""
        return self.kind == "mariadb"

    @property
    def share(self) -> Path:
        """The folder of error messages and of MariaDB's first statements."""
        for name in ("mysql", "mariadb"):
            if (self.prefix / "share" / name / "english").is_dir():
                return self.prefix / "share" / name
        raise LabError(f"{self.prefix}/share has no messages of the server {self.command[-1]}")

    @property
    def plugins(self) -> Path | None:
        """The folder of loadable plugins, where the server needs some of them for replication."""
        folders = (self.prefix / "lib" / "mysql" / "plugin", self.prefix / "lib" / "plugin")
        return next((folder for folder in folders if (folder / "semisync_source.so").is_file()), None)


def _candidates(kind: ServerKind) -> Iterator[tuple[tuple[str, ...], Path]]:
    given = os.environ.get(VARIABLE[kind])
    if given:
        program = Path(given).expanduser().absolute()
        yield (str(program),), program.resolve().parent.parent
        return
    fetched = fetched_server() if kind == "mysql" else None
    if fetched is not None:
        yield fetched.command, fetched.prefix
    for name in PROGRAMS[kind]:
        found = [shutil.which(name), *(str(Path(folder) / name) for folder in FOLDERS)]
        for path in dict.fromkeys(path for path in found if path and Path(path).is_file()):
            yield (path,), Path(path).resolve().parent.parent


def _banner(command: tuple[str, ...], account: Account) -> str:
    try:
        answer = subprocess.run(
            [*command, "--no-defaults", "--version"],
            capture_output=True, text=True, timeout=VERSION_SECONDS, cwd="/", check=False, **account.popen(),
        )  # fmt: skip
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def find_mysql(kind: ServerKind, account: Account) -> MysqlBinaries:
    """Return a server of that kind which *account* can run; :class:`ServerUnavailable` if there is none.

    Looked for in ``$AURORA_LAB_MARIADBD`` or ``$AURORA_LAB_MYSQLD``, among what was fetched (MySQL), on ``PATH`` and in
    the usual folders of servers.
    """
    for command, prefix in _candidates(kind):
        banner = _banner(command, account)
        if banner and ("mariadb" in banner.lower()) == (kind == "mariadb"):
            return MysqlBinaries(kind, command, prefix, banner)
    raise ServerUnavailable(f"no {NAMES[kind]} server that user id {account.uid} can run was found: {INSTALL[kind]}")
