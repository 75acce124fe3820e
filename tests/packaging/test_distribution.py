"""What is in the sdist and the wheel, and what their metadata says."""

from __future__ import annotations

import re
import tarfile
from configparser import ConfigParser

import pytest

from tests.packaging.distribution import PROJECT, ROOT, Built

pytestmark = pytest.mark.packaging

EXTRAS = {"psycopg", "mysql", "aws", "sqlalchemy", "django", "otel", "lab", "bench", "cli", "all", "dev"}


def test_the_wheel_has_two_packages_and_nothing_else(built: Built) -> None:
    tops = {name.partition("/")[0] for name in built.names()}
    assert tops == {"aurora_actors", "aurora_actors_plugins", f"aurora_actors-{PROJECT['version']}.dist-info"}


@pytest.mark.parametrize(
    ("folder", "package"), [("aurora_actors", "aurora_actors"), ("plugins", "aurora_actors_plugins")]
)
def test_every_file_of_the_packages_is_in_the_wheel(built: Built, folder: str, package: str) -> None:
    files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
    expected = {f"{package}/{path.as_posix()}" for path in files if "__pycache__" not in path.parts}
    assert expected <= built.names()
    assert f"{package}/py.typed" in expected


def test_the_wheel_is_for_every_machine(built: Built) -> None:
    assert built.wheel.name.endswith("-py3-none-any.whl")


def test_the_sdist_can_be_read_and_built(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py", "plugins/__init__.py"} <= names
    assert not {name for name in names if name.startswith(("tests/", "aurora_actors_plugins/"))}


def test_the_metadata(built: Built) -> None:
    metadata = built.metadata()
    assert metadata["Name"] == "aurora-actors"
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert str(metadata.get_payload()).startswith("# aurora_actors")


def test_the_core_needs_two_packages(built: Built) -> None:
    requirements = built.metadata().get_all("Requires-Dist", [])
    core = {re.sub(r"\s", "", one) for one in requirements if "extra ==" not in one}
    assert core == {"pykka>=4.5", "blinker>=1.9"}


def test_the_extras(built: Built) -> None:
    metadata = built.metadata()
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    used = {match[1] for one in metadata.get_all("Requires-Dist", []) if (match := re.search(r"extra == .(\w+).", one))}
    assert used == EXTRAS


def test_all_is_every_extra_that_an_application_may_use() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = set(everything.partition("[")[2].rstrip("]").split(","))
    assert named == EXTRAS - {"all", "bench", "dev"}


def test_the_entry_points_are_those_of_the_project(built: Built) -> None:
    parser = ConfigParser(delimiters=["="])
    parser.read_string(built.info("entry_points.txt"))
    found = {section: dict(parser.items(section)) for section in parser.sections()}
    assert found == {**PROJECT["entry-points"], "console_scripts": PROJECT["scripts"]}


def test_the_default_plugins_of_the_aws_wrapper_are_known() -> None:
    plugins = PROJECT["entry-points"]["aurora_actors.plugins"]
    assert {"initial_connection", "aurora_connection_tracker", "failover_v2", "host_monitoring_v2"} <= set(plugins)
    assert len({plugins[name] for name in ("failover", "failover_v2", "failover2")}) == 1
    assert len({plugins[name] for name in ("efm", "efm2", "host_monitoring", "host_monitoring_v2")}) == 1
