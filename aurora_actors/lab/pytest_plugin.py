"""The pytest fixture ``aurora_lab``: a running cluster of real servers, in good health at the start of every test.

    @pytest.mark.aurora_lab(hosts=2, habit="drop")      # optional: any argument of PostgresLab
    def test_orders_survive(aurora_lab):
        with aurora_actors.connect("host=" + aurora_lab.writer_endpoint + " ...") as connection:
            aurora_lab.failover()

Names of the cluster are resolved by the lab for the whole process while the test runs. Clusters are kept between tests
that want the same, and set back: the first host writes, the database is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .postgres import PostgresLab

MARKER = "aurora_lab(hosts=3, habit='keep', ...): arguments of aurora_actors.lab.PostgresLab for the fixture aurora_lab"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


class LabPool:
    """The cluster that the last test used, kept for the next one that wants the same."""

    def __init__(self) -> None:
        self._lab: PostgresLab | None = None
        self._options: Mapping[str, Any] = {}

    def take(self, options: Mapping[str, Any]) -> PostgresLab:
        """Return a healthy cluster with these options."""
        from .postgres import PostgresLab
        from .values import LabError

        if self._lab is not None and self._options == options:
            try:
                self._lab.reset()
            except LabError:
                # Whatever the last test did to it, a new one is healthy.
                self.close()
            else:
                return self._lab
        self.close()
        lab = PostgresLab(**options)
        lab.start()
        self._lab, self._options = lab, dict(options)
        return lab

    def close(self) -> None:
        """Stop the cluster."""
        if self._lab is not None:
            self._lab.stop()
        self._lab = None


@pytest.fixture(scope="session")
def aurora_lab_pool() -> Iterator[LabPool]:
    """Clusters of this test session; use ``aurora_lab`` instead."""
    pool = LabPool()
    yield pool
    pool.close()


@pytest.fixture
def aurora_lab(request: pytest.FixtureRequest, aurora_lab_pool: LabPool) -> Iterator[PostgresLab]:
    """A healthy :class:`aurora_actors.lab.PostgresLab`, whose names this process resolves."""
    marker = request.node.get_closest_marker("aurora_lab")
    lab = _take(aurora_lab_pool, dict(marker.kwargs) if marker else {})
    import aurora_actors

    set_resolver = getattr(aurora_actors, "set_resolver", None)
    before = set_resolver(lab.resolve) if set_resolver else None
    try:
        yield lab
    finally:
        if set_resolver:
            set_resolver(before)


def _take(pool: LabPool, options: Mapping[str, Any]) -> PostgresLab:
    from .values import ServerUnavailable

    try:
        return pool.take(options)
    except ModuleNotFoundError as missing:
        if missing.name not in {"psutil", "psycopg"}:
            raise
        pytest.skip(f"aurora_lab needs the module {missing.name!r}: pip install 'aurora-actors[lab]'")
    except ServerUnavailable as unavailable:
        pytest.skip(f"aurora_lab: {unavailable}")
