"""MySQL Connector's own tests, out of its source distribution, on its connections and on ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import mysql.connector

from aurora_actors.lab import MysqlLab
from tests.drivers import c_extension
from tests.foreign.reports import HERE, outcomes

DRIVERS = ("mysql", "mysql_c")
"""Pure Python and asyncio in the release that is installed; all three variants in the one whose C extension loads."""
# What talks to a server, or to sockets of the suite's own; left out is what needs Oracle's cloud, Kerberos or Django.
TESTS = (
    *("test_abstracts", "test_aio_authentication", "test_aio_connection", "test_aio_cursor", "test_aio_pooling"),
    *("test_authentication", "test_bugs", "test_connection", "test_conversion", "test_cursor", "test_data_integrity"),
    *("test_errors", "test_examples", "test_multibyte_charset", "test_mysql_datatypes", "test_network", "test_optionfiles"),
    *("test_pep249", "test_pooling", "test_protocol", "cext", "issues", "qa"),
)
# The longest test sleeps for half a minute.
TEST_SECONDS = 120
# Of a server on loopback that lives as long as the run.
PASSWORD = "pwd"
PREPARATIONS = (
    f"CREATE USER root@'%' IDENTIFIED BY '{PASSWORD}'",
    "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION",
    # As in the option file of the suite's own server.
    "SET GLOBAL sql_mode = '', GLOBAL local_infile = 1, GLOBAL max_allowed_packet = 636870912",
)
_FAKED = "the test fakes a lost connection, and ours goes on elsewhere"
REASONS = {
    "MySQLConnectionTests::test_cmd_statistics": _FAKED,
    "MySQLConnectionAioTests::test_cmd_statistics": _FAKED,
    "CMySQLConnectionTests::test_cmd_query": "the first statement alone is told that the session is new, and it is ours",
    "BugOra13435186::test_connection": "closing the last connection to a cluster leaves a timer, which counts as an object",
}
"""Tests by the end of their names, and why transparency and failover contradict each other there."""


def fetched(directory: Path, release: str) -> Path:
    """The unpacked suite."""
    suite = directory / f"mysql_connector_python-{release}"
    if not suite.exists():
        directory.mkdir(parents=True, exist_ok=True)
        name = "mysql-connector-python"
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
        subprocess.run([*pip, "--no-binary", name, "--dest", str(directory), f"{name}=={release}"], check=True)
        with tarfile.open(directory / f"{suite.name}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return suite


def ran(suite: Path, lab: MysqlLab, python: Path, driver: str, connections: str, rest: list[str]) -> dict[str, str]:
    """How each test ended, by name."""
    report = suite.parent / f"{driver}-{connections}.txt"
    report.unlink(missing_ok=True)
    server = lab.cluster.host(lab.writer).server
    server.query("DROP DATABASE IF EXISTS myconnpy")
    server.query("CREATE DATABASE myconnpy CHARACTER SET utf8mb4")
    ((version,),) = server.query("SELECT VERSION()")
    address, port = lab.address(lab.writer)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(suite), str(HERE))),
        "FOREIGN_CONNECTIONS": connections,
        "FOREIGN_ADDRESS": f"{address}:{port}",
        "FOREIGN_PATTERN": f"?.{lab.writer_endpoint.partition('.')[2].removeprefix('cluster-')}:{port}",
        "FOREIGN_PASSWORD": PASSWORD,
        "FOREIGN_VERSION": str(version).partition("-")[0],
        "FOREIGN_REPORT": str(report),
    }
    quiet = ["-q", "-q", "--tb=short", "-r", "N", f"--timeout={TEST_SECONDS}", "-p", "recorded", "-p", "swapped_mysql"]
    command = [str(python), "-m", "pytest", *quiet, "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    usual = [str(path) for name in TESTS for path in (suite / "tests").glob(f"{name}*") if "__pycache__" not in path.parts]
    with (suite.parent / f"{driver}-{connections}.log").open("w") as log:
        subprocess.run([*command, *(rest or usual)], cwd=suite, env=environment, stdout=log, stderr=log, check=False)
    return outcomes(report)


def compared(directory: Path, driver: str, tests: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """How the tests end on the driver's connections, and on ours."""
    of_c = driver == "mysql_c"
    suite = fetched(directory, c_extension.RELEASE if of_c else mysql.connector.__version__)
    python = c_extension.interpreter() if of_c else Path(sys.executable)
    # A Multi-AZ cluster needs no front, so that the server is the genuine one, with TLS and all.
    with MysqlLab(hosts=1, server="mysql", flavour="multi-az", tls=True) as lab:
        for statement in PREPARATIONS:
            lab.cluster.host(lab.writer).server.query(statement)
        raw, ours = (ran(suite, lab, python, driver, each, tests) for each in ("raw", "ours"))
    return raw, ours
