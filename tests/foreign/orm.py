"""SQLAlchemy's own tests for PostgreSQL, out of its source distribution, on psycopg's connections and on ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import psycopg

from aurora_actors.lab import PostgresLab
from tests.foreign.reports import HERE, outcomes

RELEASE = "2.1.9"
# What talks to a server through the driver; the rest of the suite compiles SQL, and takes an hour.
TESTS = (
    "test/dialect/postgresql/test_async_pg.py",
    "test/dialect/postgresql/test_dialect.py",
    "test/dialect/postgresql/test_on_conflict.py",
    "test/dialect/postgresql/test_query.py",
    "test/engine/test_execute.py",
    "test/engine/test_reconnect.py",
    "test/engine/test_transaction.py",
    "test/sql/test_query.py",
    "test/sql/test_resultset.py",
    "test/sql/test_returning.py",
)
DRIVERS = ("psycopg", "psycopg_async")
# What SQLAlchemy's README.unittests.rst asks of a database.
PREPARATIONS = (
    "GRANT ALL ON DATABASE {database} TO {user}",
    "ALTER DATABASE {database} SET default_text_search_config = 'pg_catalog.english'",
)


def fetched(directory: Path) -> Path:
    """The unpacked suite, and beside it what it needs to run."""
    suite = directory / f"sqlalchemy-{RELEASE}"
    if not suite.exists():
        directory.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        wanted = f"sqlalchemy=={RELEASE}"
        subprocess.run([*pip, "install", "--target", str(directory / "site"), wanted, "greenlet"], check=True)
        source = ["--no-deps", "--no-binary", "sqlalchemy", "--no-build-isolation", "--dest", str(directory)]
        subprocess.run([*pip, "download", *source, wanted], check=True)
        with tarfile.open(directory / f"{suite.name}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
        # The lab's server has no contrib; tests that need one of its extensions skip themselves.
        provision = suite / "lib/sqlalchemy/dialects/postgresql/provision.py"
        text = provision.read_text(encoding="utf-8")
        provision.write_text(text.replace("CREATE EXTENSION IF NOT EXISTS", "SELECT 1 --"), encoding="utf-8")
    return suite


def ran(suite: Path, lab: PostgresLab, driver: str, connections: str, rest: list[str]) -> dict[str, str]:
    """How each test ended, by name."""
    report = suite.parent / f"{driver}-{connections}.txt"
    report.unlink(missing_ok=True)
    address, port = lab.address(lab.writer)
    login = lab.login
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(HERE), str(suite.parent / "site"))),
        "FOREIGN_CONNECTIONS": connections,
        "FOREIGN_ENDPOINT": lab.writer_endpoint,
        "FOREIGN_ADDRESS": f"{address}:{port}",
        "FOREIGN_REPORT": str(report),
    }
    uri = f"postgresql+{driver}://{login.user}:{login.password}@{address}:{port}/{login.database}"
    quiet = ["-q", "-q", "--tb=short", "-r", "N", "--maxfail=100000", "-p", "recorded", "-p", "swapped"]
    command = [sys.executable, "-m", "pytest", *quiet, "--dburi", uri, *(rest or TESTS)]
    with (suite.parent / f"{driver}-{connections}.log").open("w") as log:
        subprocess.run(command, cwd=suite, env=environment, stdout=log, stderr=log, check=False)
    return outcomes(report)


def compared(directory: Path, driver: str, tests: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """How the tests end on psycopg's connections, and on ours."""
    suite = fetched(directory)
    with PostgresLab(hosts=1) as lab:
        server = lab.cluster.host(lab.writer).server
        for statement in PREPARATIONS:
            server.query(statement.format(user=lab.login.user, database=lab.login.database))
        address, port = lab.address(lab.writer)
        with psycopg.connect(lab.conninfo(hostaddr=address, port=port), autocommit=True) as conn:
            conn.execute("CREATE SCHEMA IF NOT EXISTS test_schema")
            conn.execute("CREATE SCHEMA IF NOT EXISTS test_schema_2")
        return ran(suite, lab, driver, "raw", tests), ran(suite, lab, driver, "ours", tests)
