"""`aurora-actors plugins`: what is installed, from where, and what can be used."""

from __future__ import annotations

import re

import pytest

from tests.plugins.conftest import MONITORS, PLUGINS, SELECTORS, Install

typer = pytest.importorskip("typer")

PLUGIN = "from aurora_actors.plugin import Plugin\nclass Good(Plugin):\n    name = 'good'\n"


def listed(*arguments: str) -> list[list[str]]:
    """The rows of the list, each as its columns."""
    from typer.testing import CliRunner

    from aurora_actors.cli import build

    done = CliRunner().invoke(build(), ["plugins", *arguments])
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output, "without a terminal it is plain text"
    return [re.split(r" {2,}", line) for line in done.output.splitlines()]


def test_the_bundled_ones_are_listed_with_their_distribution() -> None:
    head, *rows = listed()
    assert head == ["name", "group", "distribution", "status"]
    groups = {"plugin", "monitor", "host selector", "identity provider", "dialect", "driver"}
    assert {group for _, group, *_ in rows} == groups
    assert all(distribution.startswith("aurora-actors ") for _, _, distribution, _ in rows)
    assert ["failover", "plugin"] in [row[:2] for row in rows]


def test_each_status_is_told_with_its_reason(install: Install) -> None:
    install(PLUGINS, PLUGIN, {"good": "Good"})
    install(MONITORS, "raise RuntimeError('two\\nlines')", {"broken": "Broken"}, distribution="broken-extras")
    install(SELECTORS, "bad = 3", {"useless": "bad"}, distribution="useless-extras", version="0.1")
    rows = listed()
    assert ["good", "plugin", "acme-extras 1.2", "loaded"] in rows
    assert ["broken", "monitor", "broken-extras 1.2", "load error: RuntimeError: two lines"] in rows
    assert ["useless", "host selector", "useless-extras 0.1", "unusable: it is no function"] in rows
    assert [row[0] for row in listed("--problems")[1:]] == ["broken", "useless"]


def test_a_name_that_two_claim_is_listed_for_each(install: Install) -> None:
    install(PLUGINS, PLUGIN, {"twice": "Good"})
    install(PLUGINS, PLUGIN, {"twice": "Good"}, distribution="other-extras")
    status = "unusable: acme-extras 1.2 and other-extras 1.2 both claim the name twice: uninstall one"
    rows = [row for row in listed() if row[0] == "twice"]
    assert sorted(rows) == [["twice", "plugin", f"{owner} 1.2", status] for owner in ("acme-extras", "other-extras")]


def test_nothing_is_loaded_without_being_asked_for(install: Install) -> None:
    install(PLUGINS, "raise RuntimeError('loaded')", {"found": "Found"})
    assert ["found", "plugin", "acme-extras 1.2", "found"] in listed("--no-load")


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from aurora_actors.cli.plugins import plugins

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    plugins(load=True, problems=False)
    assert "\x1b[" in capsys.readouterr().out
