"""The wheel in an environment of its own, used from outside the checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging.distribution import PROJECT, ROOT, Installed

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
    assert {"demo", "lab"} <= set(done.stdout.split())


def test_pytest_finds_the_fixture(installed: Installed) -> None:
    done = installed.run(["python", "-m", "pytest", "--fixtures", "-q", "--collect-only"])
    assert "aurora_lab" in done.stdout


def test_the_plugin_of_the_documentation_installs_and_loads(installed: Installed, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "plugins.md").read_text("utf-8")
    files = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    for name, content in files:
        (tmp_path / name).write_text(content, encoding="utf-8")
    installed.install(str(tmp_path))
    printed = installed.python(
        "from aurora_actors.flow.discovery import found, ordered, plugin_classes\n"
        "(record,) = [one for one in found('aurora_actors.plugins') if one.name == 'slow_statements']\n"
        "order = ordered(plugin_classes(['slow_statements', 'failover']))\n"
        "print(record.distribution, *(plugin.name for plugin in order), sep=', ')"
    )
    assert printed == "aurora-actors-slow-statements 1.0, failover, slow_statements"
