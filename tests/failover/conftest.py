"""What the tests of failover share: each begins and ends with no cluster known to the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failover.applications import Noted, forget_clusters, noted
from tests.failover.colours import colour

__all__ = ["colour", "no_cluster_left", "signals_noted"]


@pytest.fixture(autouse=True)
def no_cluster_left() -> Iterator[None]:
    yield
    forget_clusters()


@pytest.fixture
def signals_noted() -> Iterator[Noted]:
    """Every signal sent during the test."""
    with noted() as made:
        yield made
