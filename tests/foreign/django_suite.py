"""`make foreign`, its second half: Django's own tests on its backend for PostgreSQL and on ours, compared test by test.

Exit status 1: some test ends otherwise on ours. The suite is Django's source distribution, kept in ``--directory``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir

from aurora_actors.lab import PostgresLab
from tests.foreign.run import _counted as counted
from tests.foreign.run import say

# What talks to a server.
LABELS = (
    *("backends", "transactions", "transaction_hooks", "basic", "queries", "bulk_create", "select_for_update"),
    *("delete", "get_or_create", "update", "atomic", "custom_pk", "lookup", "raw_query", "cursor", "dbshell"),
)
ENDED = re.compile(
    r"^(test\w+ \([\w.]+\)).*?\.\.\. (ok|FAIL|ERROR|skipped|expected failure|unexpected success)",
    re.MULTILINE | re.DOTALL,
)
HERE = Path(__file__).parent


def fetched(directory: Path) -> Path:
    """The unpacked suite of the release that is installed."""
    release = version("django")
    suite = directory / f"django-{release}"
    if not suite.exists():
        directory.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
        source = ["--no-binary", "django", "--no-build-isolation", "--dest", str(directory), f"django=={release}"]
        subprocess.run([*pip, *source], check=True)
        with tarfile.open(directory / f"{suite.name}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return suite


def ran(suite: Path, lab: PostgresLab, connections: str, labels: list[str]) -> dict[str, str]:
    """How each test ended, by name."""
    address, port = lab.address(lab.writer)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(HERE), str(suite))),
        "FOREIGN_CONNECTIONS": connections,
        "FOREIGN_ENDPOINT": lab.writer_endpoint,
        "FOREIGN_ADDRESS": f"{address}:{port}",
        "FOREIGN_LOGIN": f"{lab.login.user}:{lab.login.password}:{lab.login.database}",
    }
    options = ["--settings", "django_settings", "-v", "2", "--noinput", "--keepdb", "--parallel", "1"]
    command = [sys.executable, "runtests.py", *options, *labels]
    with (suite.parent / f"django-{connections}.log").open("w+") as log:
        subprocess.run(command, cwd=suite / "tests", env=environment, stdout=log, stderr=log, check=False)
        log.seek(0)
        return dict(ENDED.findall(log.read()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make foreign", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(gettempdir()) / "aurora_actors-foreign")
    parser.add_argument("labels", nargs="*", help="instead of the usual selection")
    given = parser.parse_args()
    suite = fetched(given.directory)
    labels = given.labels or [label for label in LABELS if (suite / "tests" / label).is_dir()]
    with PostgresLab(hosts=1) as lab:
        lab.cluster.host(lab.writer).server.query(f"ALTER ROLE {lab.login.user} CREATEDB")
        raw, ours = (ran(suite, lab, each, labels) for each in ("raw", "ours"))
    for name, found in (("raw", raw), ("ours", ours)):
        say(f"django, {name}:", counted(found))
    different = [test for test in sorted(raw.keys() | ours.keys()) if raw.get(test) != ours.get(test)]
    for test in different:
        say(f"  {test}: {raw.get(test)} on Django's, {ours.get(test)} on ours")
    say(f"logs: {given.directory}")
    return 1 if different or not raw else 0


if __name__ == "__main__":
    sys.exit(main())
