"""Data directories ready to be copied: initdb, roles, database, Aurora's functions; made once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from .account import Account
from .aurora_sql import LAB_SQL
from .binaries import Binaries
from .cache import locked, prune
from .flavours import FLAVOUR_SQL
from .values import Flavour, LabError, Login

__all__ = ["OWNER", "REPLICATOR", "Template", "make_template"]

OWNER = "rdsadmin"
"""The superuser, named as on RDS. It logs in over the lab's private Unix sockets alone."""
REPLICATOR = "rdsrepladmin"
INITDB_SECONDS = 120.0
COPY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Template:
    """A cleanly stopped data directory, and the password of the replication role in it."""

    data: Path
    replication_password: str

    def __repr__(self) -> str:
        return f"Template({str(self.data)!r})"

    def copy_to(self, target: Path, account: Account) -> None:
        """Copy the directory as *account*."""
        _run(["cp", "-a", str(self.data), str(target)], account, COPY_SECONDS)


def _run(command: list[str], account: Account, seconds: float, text: str | None = None) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    answer = subprocess.run(
        command, input=text, stdin=None if text is not None else subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds, env=environment, cwd="/", check=False, **account.popen(),
    )  # fmt: skip
    if answer.returncode != 0:
        raise LabError(f"{Path(command[0]).name} ended with code {answer.returncode}: {answer.stderr.strip()[-800:]}")


def make_template(binaries: Binaries, account: Account, flavour: Flavour, login: Login) -> Template:
    """Return the template for these settings, from the cache or made now (about half a second)."""
    who = (login.user, login.password, login.database, login.token_user, str(account.uid))
    parts = (binaries.banner, flavour, *who, FLAVOUR_SQL[flavour], LAB_SQL)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    with locked(f"template-{key}") as entry:
        template = entry / "data"
        if not template.is_dir():
            _build(entry, binaries, account, flavour, login)
        os.utime(entry)
        password = (entry / "replication-password").read_text(encoding="utf-8")
    prune("template-")
    return Template(template, password)


def _build(entry: Path, binaries: Binaries, account: Account, flavour: Flavour, login: Login) -> None:
    shutil.rmtree(entry, ignore_errors=True)
    account.directory(entry)
    password = secrets.token_urlsafe(24)
    fresh = entry / "making"
    initdb = ["--no-sync", "--wal-segsize=1", "--auth=reject", f"--username={OWNER}", "--locale=C", "--encoding=UTF8"]
    _run([binaries.program("initdb"), "-D", str(fresh), *initdb], account, INITDB_SECONDS)
    # The server's single-user mode takes a statement to end at a semicolon and an empty line (-j).
    single = [binaries.program("postgres"), "--single", "-j", "-D", str(fresh), "-c", "exit_on_error=on",
              "-c", "fsync=off", "-c", "allow_system_table_mods=on", "-c", "rds.extensions=none"]  # fmt: skip
    _run([*single, "template1"], account, INITDB_SECONDS, _cluster_sql(flavour, login, password))
    _run([*single, "postgres"], account, INITDB_SECONDS, LAB_SQL + "\n")
    account.write(entry / "replication-password", password)
    fresh.rename(entry / "data")


def _token_user(login: Login) -> list[sql.Composed]:
    if not login.token_user:
        return []
    who = sql.Identifier(login.token_user)
    grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(login.user), who)
    return [sql.SQL("CREATE ROLE {} LOGIN").format(who), grant]


def _cluster_sql(flavour: Flavour, login: Login, replication_password: str) -> str:
    user, database = sql.Identifier(login.user), sql.Identifier(login.database)
    statements = [
        sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(
            sql.Identifier(REPLICATOR), sql.Literal(replication_password)
        ),
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, sql.Literal(login.password)),
        *_token_user(login),
        sql.SQL("DROP DATABASE postgres"),
        sql.SQL("CREATE DATABASE postgres TEMPLATE template1"),
    ]
    if login.database != "postgres":
        statements.append(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template1").format(database, user))
    text = "".join(statement.as_string(None) + ";\n\n" for statement in statements)
    return FLAVOUR_SQL[flavour] + "\n" + text
