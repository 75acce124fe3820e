"""Bring the servers that the MySQL lab runs to a machine with apt-get: ``python -m aurora_actors.lab.mysql_fetching``.

MariaDB is installed where it is missing and the process is root. A current MySQL is in no stable Debian release;
it is unpacked from Debian's unstable one, with the libraries and the loader it needs, into the lab's cache, as any
user. Nothing outside the cache changes for that.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_directory, locked
from .values import LabError, ServerKind

__all__ = ["NAMES", "FetchedServer", "fetch_mysql", "fetched_server", "install_mariadb"]

ENTRY = "mysql-server"
PACKAGE = "mysql-server-core"
SUITE = "sid"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_SECONDS = 600.0
UNPACK_SECONDS = 120.0
NAMES: dict[ServerKind, str] = {"mariadb": "MariaDB", "mysql": "MySQL"}
NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl", "usr/bin", "usr/share/i18n")

# The archive may be a frozen copy, whose unstable release is past its date; signatures are checked all the same.
APT_CONFIGURATION = """\
Dir::State "{apt}";
Dir::State::lists "{apt}/lists";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}";
Dir::Cache::archives "{apt}/archives";
Dir::Etc "{apt}/etc";
Dir::Etc::sourcelist "{apt}/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::parts "-";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "2";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
"""


@dataclass(frozen=True, slots=True)
class FetchedServer:
    """A server in the cache: how to start it, and the folder that has its ``share`` and ``lib``."""

    command: tuple[str, ...]
    prefix: Path


def fetched_server() -> FetchedServer | None:
    """The MySQL server in the cache, if there is one."""
    root = cache_directory() / ENTRY / "root"
    program = root / "usr" / "sbin" / "mysqld"
    loaders = sorted(root.glob("usr/lib*/ld-linux*.so.*"))
    libraries = sorted(root.glob("usr/lib/*-linux-gnu"))
    if not (program.is_file() and loaders and libraries):
        return None
    paths = ":".join(str(path) for path in (*libraries, root / "usr/lib/mysql/private"))
    return FetchedServer((str(loaders[0]), "--library-path", paths, str(program)), root / "usr")


def fetch_mysql() -> FetchedServer:
    """Return the MySQL server in the cache, fetched now if it is not there (60 MB); :class:`LabError` if it cannot be."""
    with locked(ENTRY) as entry:
        found = fetched_server()
        if found is not None:
            return found
        if sys.platform != "linux" or not shutil.which("apt-get") or not Path(KEYRING).is_file():
            raise LabError("MySQL can be fetched on Debian only (apt-get and Debian's archive keyring)")
        shutil.rmtree(entry, ignore_errors=True)
        (entry / "fetching").mkdir(parents=True)
        try:
            _unpack(_download(entry / "fetching"), entry / "fetching" / "root")
            (entry / "fetching" / "root").rename(entry / "root")
        finally:
            shutil.rmtree(entry / "fetching", ignore_errors=True)
        found = fetched_server()
    if found is None:
        raise LabError(f"what was fetched of MySQL has no server for {platform.machine()}; it is in {entry}")
    return found


def _download(apt: Path) -> list[Path]:
    """Download the package and all it depends on, whatever this machine has installed."""
    for folder in ("lists/partial", "archives/partial", "etc"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    mirror = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"]
    ).split()
    if not mirror:
        raise LabError("apt knows no Debian archive; run apt-get update, or install MySQL in another way")
    source = f"deb [signed-by={KEYRING}] {mirror[0]} {SUITE} main\n"
    (apt / "etc" / "sources.list").write_text(source, encoding="utf-8")
    (apt / "apt.conf").write_text(APT_CONFIGURATION.format(apt=apt), encoding="utf-8")
    private = {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "update", "-qq"], private)
    _run(["apt-get", "install", "-qq", "-y", "--download-only", PACKAGE], private)
    return sorted((apt / "archives").glob("*.deb"))


def _unpack(packages: Sequence[Path], root: Path) -> None:
    root.mkdir()
    for package in packages:
        if not package.name.startswith(("perl", "libperl")):
            _run(["dpkg-deb", "-x", str(package), str(root)], seconds=UNPACK_SECONDS)
    for folder in NEEDLESS:
        shutil.rmtree(root / folder, ignore_errors=True)
    # Servers run as another user than the one that fetched them.
    for path in (root, *root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def install_mariadb() -> None:
    """Install MariaDB's server program with apt-get, as root; it brings no service that would be started."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError("apt-get install mariadb-server-core needs root, on Debian or Ubuntu")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "mariadb-server-core"]
    try:
        _run(install, environment)
    except LabError:
        _run(["apt-get", "update", "-qq"], environment)
        _run(install, environment)


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None, seconds: float = APT_SECONDS) -> str:
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False,
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
    )  # fmt: skip
    if answer.returncode != 0:
        text = (answer.stderr or answer.stdout).strip()[-400:]
        raise LabError(f"{' '.join(command[:2])} ended with code {answer.returncode}: {text}")
    return answer.stdout


def main() -> int:
    """Bring what is missing; say what could not be brought. Exit code 0 where both servers can be had."""
    from .account import server_account
    from .mysql_binaries import find_mysql

    missing = 0
    account = server_account()
    ways: dict[ServerKind, Callable[[], object]] = {"mariadb": install_mariadb, "mysql": fetch_mysql}
    for kind, bring in ways.items():
        try:
            try:
                find_mysql(kind, account)
            except LabError:
                bring()
                find_mysql(kind, account)
        except (LabError, OSError, subprocess.TimeoutExpired) as error:
            missing += 1
            print(f"without a {NAMES[kind]} server, tests and labs on it are left out: {error}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
