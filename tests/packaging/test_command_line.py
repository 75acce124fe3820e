"""`aurora-actors` where something it needs is not installed."""

from __future__ import annotations

import sys

import pytest

from aurora_actors import cli

pytestmark = pytest.mark.packaging


@pytest.mark.parametrize("missing", ["typer", "rich", "jinja2"])
def test_a_missing_package_is_one_clear_line(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"typer", "rich"} or name.startswith("aurora_actors.cli."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # makes `import` fail as if it were not there
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    message = str(stopped.value)
    assert message == f"aurora-actors: the module {missing!r} is not installed: pip install 'aurora-actors[cli,lab]'"
    assert "\n" not in message


def test_a_defect_of_our_own_is_not_called_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'aurora_actors.nothing'", name="aurora_actors.nothing")

    monkeypatch.setattr(cli, "build", broken)
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        cli.main()
