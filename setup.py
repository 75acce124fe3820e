"""Which folder is installed under which import name; everything else is in pyproject.toml."""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["aurora_actors", "aurora_actors.*"]), "aurora_actors_plugins"],
    package_dir={"aurora_actors_plugins": "plugins"},
    package_data={"aurora_actors": ["py.typed", "cli/demo/report.html"], "aurora_actors_plugins": ["py.typed"]},
)
