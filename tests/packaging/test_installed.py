"""The wheel in an environment of its own, used from outside the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.packaging.distribution import PROJECT, Installed

pytestmark = pytest.mark.packaging

ENTRY_POINTS = [(group, name) for group, points in PROJECT["entry-points"].items() for name in points]


def test_both_packages_are_imported_from_the_environment(installed: Installed) -> None:
    printed = installed.python(
        "import aurora_actors, aurora_actors_plugins; print(aurora_actors.__file__, aurora_actors_plugins.__file__)"
    )
    for path in printed.split():
        assert Path(path).is_relative_to(installed.prefix)


def test_the_folder_name_is_not_installed(installed: Installed) -> None:
    done = installed.run(["python", "-c", "import plugins"])
    assert "No module named 'plugins'" in done.stderr


@pytest.mark.parametrize(("group", "name"), ENTRY_POINTS)
def test_every_entry_point_loads(installed: Installed, group: str, name: str) -> None:
    module = PROJECT["entry-points"][group][name].partition(":")[0]
    printed = installed.python(
        "import importlib.metadata, sys\n"
        f"(point,) = importlib.metadata.entry_points(group={group!r}, name={name!r})\n"
        f"point.load(); print(sys.modules[{module!r}].__file__)"
    )
    assert Path(printed).is_relative_to(installed.prefix)


def test_the_version_is_told(installed: Installed) -> None:
    done = installed.run(["aurora-actors", "--version"])
    assert (done.returncode, done.stdout.strip()) == (0, PROJECT["version"]), done.stderr


@pytest.mark.parametrize("arguments", [["aurora-actors", "--help"], ["python", "-m", "aurora_actors.cli", "--help"]])
def test_the_command_explains_itself(installed: Installed, arguments: list[str]) -> None:
    done = installed.run(arguments)
    assert done.returncode == 0, done.stderr
    assert {"demo", "lab", "plugins"} <= set(done.stdout.split())


def test_pytest_finds_the_fixture(installed: Installed) -> None:
    done = installed.run(["python", "-m", "pytest", "--fixtures", "-q", "--collect-only"])
    assert "aurora_lab" in done.stdout


AWS_DEFAULTS = "initial_connection,aurora_connection_tracker,failover_v2,host_monitoring_v2"

CONNECT = """
import aurora_actors, psycopg

NAMES = {names!r}
with aurora_actors.connect(
        psycopg.Connection.connect, {conninfo!r}, plugins={plugins!r}, autocommit=True,
        resolve=lambda host, port: NAMES[host]) as conn:
    print(conn.execute("SELECT aurora_db_instance_identifier()").fetchone()[0])
"""


def connected(installed: Installed, lab: Any, plugins: str) -> str:
    """What a program prints that connects with the installed wheel: the host it is on."""
    endpoints = [lab.writer_endpoint, lab.reader_endpoint, *(lab.endpoint(host) for host in lab.hosts)]
    names = {name: lab.resolve(name, 5432) for name in endpoints}
    return installed.python(CONNECT.format(names=names, conninfo=lab.conninfo(), plugins=plugins))


@pytest.mark.parametrize("plugins", [AWS_DEFAULTS, "failover", ""])
def test_the_installed_wheel_connects(installed: Installed, aurora_lab: Any, plugins: str) -> None:
    assert connected(installed, aurora_lab, plugins) == aurora_lab.writer
