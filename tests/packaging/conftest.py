"""The distribution as a user gets it: built once per run from a copy of the tree, then installed by itself."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.distribution import ROOT, Built, Installed, checked

SOURCES = ("aurora_actors", "plugins", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    return _build(tree, out)


@pytest.fixture(scope="session")
def built_examples(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The distribution of docs/examples."""
    tree = tmp_path_factory.mktemp("examples") / "acme-aurora"
    shutil.copytree(ROOT / "docs" / "examples", tree, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return _build(tree, tmp_path_factory.mktemp("dist-examples"))


def _build(tree: Path, out: Path) -> Built:
    checked([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)], cwd=tree)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(sdist, wheel)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return _environment(tmp_path_factory, built.wheel)


@pytest.fixture(scope="session")
def installed_with_examples(
    built: Built, built_examples: Built, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """A fresh environment with both wheels side by side."""
    return _environment(tmp_path_factory, built.wheel, built_examples.wheel)


def _environment(tmp_path_factory: pytest.TempPathFactory, *wheels: Path) -> Installed:
    prefix, elsewhere = tmp_path_factory.mktemp("prefix"), tmp_path_factory.mktemp("elsewhere")
    checked([sys.executable, "-m", "venv", "--without-pip", str(prefix)], cwd=elsewhere)
    environment = Installed(prefix, elsewhere)
    for wheel in wheels:
        environment.install(str(wheel))
    (packages,) = (prefix / "lib").glob("python*/site-packages")
    # A path file names the folder of the dependencies; the editable install in there does not come along, because
    # path files are not read from a folder that a path file has added.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment
