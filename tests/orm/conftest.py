"""What the tests of ORMs share: each ends with no cluster known to the process, and engines of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failover.applications import forget_clusters
from tests.orm.engines import ENGINES, Engines

__all__ = ["engines", "no_cluster_left"]


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    forget_clusters()


@pytest.fixture(params=ENGINES)
def engines(request: pytest.FixtureRequest) -> Engines:
    """Each kind of engine in turn, with its lab."""
    fixture = "aurora_mysql_lab" if request.param == "mysql" else "aurora_lab"
    return Engines(request.param, request.getfixturevalue(fixture))
