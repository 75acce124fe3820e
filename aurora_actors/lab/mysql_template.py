"""Data directories of MySQL and MariaDB ready to be copied; made once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from .account import Account
from .cache import locked, prune
from .mysql_binaries import MysqlBinaries
from .mysql_session import log_in
from .mysql_settings import common_settings, option_file
from .mysql_sql import OWNER, cluster_statements, literal
from .values import Flavour, LabError, Login
from .waiting import until

__all__ = ["MysqlTemplate", "make_mysql_template"]

BOOTSTRAP_SECONDS = 120.0
START_SECONDS = 60.0
COPY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class MysqlTemplate:
    """A cleanly stopped data directory without history, and the lab's own passwords in it."""

    data: Path
    owner_password: str
    replication_password: str

    def __repr__(self) -> str:
        return f"MysqlTemplate({str(self.data)!r})"

    def copy_to(self, target: Path, account: Account) -> None:
        """Copy the directory as *account*."""
        answer = subprocess.run(
            ["cp", "-a", "--reflink=auto", str(self.data), str(target)],  # noqa: S607 - the system's own cp
            capture_output=True, text=True, timeout=COPY_SECONDS, cwd="/", check=False, **account.popen(),
        )  # fmt: skip
        if answer.returncode != 0:
            raise LabError(f"the template could not be copied: {answer.stderr.strip()[-400:]}")


def make_mysql_template(binaries: MysqlBinaries, account: Account, flavour: Flavour, login: Login) -> MysqlTemplate:
    """Return the template for these settings, from the cache or made now (one to three seconds)."""
    statements = cluster_statements(binaries, flavour, login, "")
    settings = option_file(common_settings(binaries, Path("/")))
    key = "\0".join((binaries.banner, *binaries.command, settings, *statements, str(account.uid)))
    with locked(f"mysql-template-{hashlib.sha256(key.encode()).hexdigest()[:20]}") as entry:
        if not (entry / "data").is_dir():
            _build(entry, binaries, account, flavour, login)
        os.utime(entry)
        owner, replicator = (entry / "passwords").read_text(encoding="utf-8").split()
    prune("mysql-template-")
    return MysqlTemplate(entry / "data", owner, replicator)


def _build(entry: Path, binaries: MysqlBinaries, account: Account, flavour: Flavour, login: Login) -> None:
    shutil.rmtree(entry, ignore_errors=True)
    account.directory(entry)
    owner, replicator = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    making = account.directory(entry / "making")
    settings = common_settings(binaries, making) | {"server_id": "1", "skip_networking": "ON"}
    account.write(making / "my.cnf", option_file(settings))
    command = [*binaries.command, f"--defaults-file={making / 'my.cnf'}"]
    if binaries.is_mariadb:
        account.directory(making / "data")
        _bootstrap([*command, "--bootstrap"], account, _first_statements(binaries, owner))
        sessions = []
    else:
        _bootstrap([*command, "--initialize-insecure"], account, None)
        sessions = [("root", "", _owner(owner))]
    forget = "RESET MASTER" if binaries.is_mariadb else "RESET BINARY LOGS AND GTIDS"
    sessions.append((OWNER, owner, [*cluster_statements(binaries, flavour, login, replicator), forget]))
    _fill(command, account, making, sessions)
    (making / "data" / "auto.cnf").unlink(missing_ok=True)
    account.write(entry / "passwords", f"{owner} {replicator}")
    (making / "data").rename(entry / "data")
    shutil.rmtree(making, ignore_errors=True)


def _first_statements(binaries: MysqlBinaries, password: str) -> str:
    files = [
        next(iter(sorted(binaries.share.glob(f"*_{name}.sql"))), None)
        for name in ("system_tables", "performance_tables")
    ]
    if files[0] is None:
        raise LabError(f"{binaries.share} lacks the statements that make MariaDB's system tables")
    text = "".join(file.read_text(encoding="utf-8", errors="surrogateescape") for file in files if file is not None)
    rights = '{"access":18446744073709551615,"plugin":"mysql_native_password","authentication_string":""}'
    return (
        f"CREATE DATABASE mysql;\nUSE mysql;\n{text}\n"
        f"INSERT INTO global_priv VALUES ('localhost', '{OWNER}', '{rights}');\nFLUSH PRIVILEGES;\n"
        f"SET PASSWORD FOR '{OWNER}'@'localhost' = PASSWORD({literal(password)});\n"
    )


def _owner(password: str) -> list[str]:
    return [
        f"CREATE USER '{OWNER}'@'localhost' IDENTIFIED BY {literal(password)}",
        f"GRANT ALL PRIVILEGES ON *.* TO '{OWNER}'@'localhost' WITH GRANT OPTION",
        "DROP USER 'root'@'localhost'",
    ]


def _bootstrap(command: list[str], account: Account, text: str | None) -> None:
    answer = subprocess.run(
        command, input=text.encode("utf-8", "surrogateescape") if text else b"", capture_output=True,
        timeout=BOOTSTRAP_SECONDS, cwd="/", check=False, env={"LC_ALL": "C"}, **account.popen(),
    )  # fmt: skip
    errors = [line for line in answer.stderr.decode(errors="replace").splitlines() if "ERROR" in line]
    if answer.returncode != 0 or errors:
        raise LabError(f"{Path(command[0]).name} could not make a data directory: {' '.join(errors)[-800:]}")


def _fill(
    command: list[str], account: Account, making: Path, sessions: list[tuple[str, str, list[str]]]
) -> None:
    with open(making / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env={"LC_ALL": "C"}, **account.popen()
        )
    socket = making / "mysql.sock"
    try:
        until(lambda: socket.exists() or process.poll() is not None, "the server for the template has started",
              seconds=START_SECONDS, stopping=threading.Event())  # fmt: skip
        if process.poll() is not None:
            text = (making / "server.log").read_text(encoding="utf-8", errors="replace")
            raise LabError(f"the server for the template did not start: {text.strip()[-800:]}")
        for user, password, statements in sessions:
            session = log_in(socket, user, password)
            cursor = session.cursor()
            for statement in statements:
                cursor.execute(statement)
            session.close()
    finally:
        process.terminate()
        process.wait(START_SECONDS)
