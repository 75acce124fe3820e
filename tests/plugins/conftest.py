"""Distributions of strangers, put on the path as an installer would: modules beside a ``*.dist-info``."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from aurora_actors import signals
from aurora_actors.testing import Recording, recorded

Install: TypeAlias = Callable[..., str]

PLUGINS, MONITORS, SELECTORS = (f"aurora_actors.{group}" for group in ("plugins", "monitors", "host_selectors"))
_numbers = itertools.count(1)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(group, source, names)`` gives the module's name, unlike any other's of this process.

    *names* maps names of entry points to what they lead to in *source*; ``{module}`` in it is the module's name.
    """

    def install(
        group: str, source: str, names: Mapping[str, str], distribution: str = "acme-extras", version: str = "1.2"
    ) -> str:
        module = f"acme_{next(_numbers)}"
        place = tmp_path / module
        info = place / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (place / f"{module}.py").write_text(textwrap.dedent(source).replace("{module}", module), encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = "".join(f"{name} = {module}:{target}\n" for name, target in names.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}".replace("{module}", module))
        monkeypatch.syspath_prepend(str(place))
        return module

    return install


@pytest.fixture
def failures() -> Iterator[Recording[signals.PluginFailed]]:
    """What ``plugin_failed`` says during the test."""
    with recorded(signals.plugin_failed) as events:
        yield events
