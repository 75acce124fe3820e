"""The pytest fixtures ``aurora_lab`` and ``aurora_mysql_lab``: a running cluster of real servers, in good health.

    @pytest.mark.aurora_lab(hosts=2, habit="drop")      # optional: any argument of PostgresLab
    def test_orders_survive(aurora_lab):
        with aurora_actors.connect("host=" + aurora_lab.writer_endpoint + " ...") as connection:
            aurora_lab.failover()

    @pytest.mark.aurora_mysql_lab(server="mysql")       # optional: any argument of MysqlLab
    def test_orders_survive_on_mysql(aurora_mysql_lab): ...

Names of the cluster are resolved by the lab for the whole process while the test runs. Clusters are kept between tests
that want the same, and set back: the first host writes, the database is empty. What the process knew of the cluster is
forgotten, and its monitors end, unless a connection is left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .lab import Lab
    from .mysql import MysqlLab
    from .postgres import PostgresLab

MARKERS = (
    "aurora_lab(hosts=3, habit='keep', ...): arguments of aurora_actors.lab.PostgresLab for the fixture aurora_lab",
    "aurora_mysql_lab(hosts=3, server='mysql', ...): arguments of aurora_actors.lab.MysqlLab, as for aurora_lab",
)
MODULES = {"psutil": "lab", "psycopg": "lab", "mysql": "mysql,lab", "mysql.connector": "mysql,lab"}
"""What the labs import, and the extras that bring it."""
STOP_SECONDS = 0.5
"""Monitors end at once; one that waits for the held answer of a server is left to end by itself."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


class LabPool:
    """The cluster that the last test used, kept for the next one that wants the same; *kind* names its class."""

    def __init__(self, kind: str = "PostgresLab") -> None:
        self._kind = kind
        self._lab: Lab | None = None
        self._options: Mapping[str, Any] = {}

    def take(self, options: Mapping[str, Any]) -> Lab:
        """Return a healthy cluster with these options."""
        from aurora_actors import lab as labs

        if self._lab is not None and self._options == options:
            try:
                self._lab.reset()
            except labs.LabError:
                # Whatever the last test did to it, a new one is healthy.
                self.close()
            else:
                return self._lab
        self.close()
        lab: Lab = getattr(labs, self._kind)(**options)
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
    pool = LabPool("PostgresLab")
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def aurora_mysql_lab_pool() -> Iterator[LabPool]:
    """Clusters of this test session; use ``aurora_mysql_lab`` instead."""
    pool = LabPool("MysqlLab")
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def aurora_mysql_lab_server() -> str:
    """The server of ``aurora_mysql_lab``, unless the marker names one. Override it, with parameters, to test on both."""
    return "mariadb"


@pytest.fixture
def aurora_lab(request: pytest.FixtureRequest, aurora_lab_pool: LabPool) -> Iterator[PostgresLab]:
    """A healthy :class:`aurora_actors.lab.PostgresLab`, whose names this process resolves."""
    yield from _serve(aurora_lab_pool, _arguments(request, "aurora_lab"))


@pytest.fixture
def aurora_mysql_lab(
    request: pytest.FixtureRequest, aurora_mysql_lab_pool: LabPool, aurora_mysql_lab_server: str
) -> Iterator[MysqlLab]:
    """A healthy :class:`aurora_actors.lab.MysqlLab`, whose names this process resolves."""
    yield from _serve(
        aurora_mysql_lab_pool, {"server": aurora_mysql_lab_server, **_arguments(request, "aurora_mysql_lab")}
    )


def _arguments(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    marker = request.node.get_closest_marker(name)
    return dict(marker.kwargs) if marker else {}


def _serve(pool: LabPool, options: Mapping[str, Any]) -> Iterator[Any]:
    lab = _take(pool, options)
    import aurora_actors

    set_resolver = getattr(aurora_actors, "set_resolver", None)
    before = set_resolver(lab.resolve) if set_resolver else None
    try:
        yield lab
    finally:
        if set_resolver:
            set_resolver(before)
        _forget()


def _forget() -> None:
    from aurora_actors.actors.system import system

    for cluster in system.clusters:
        if not cluster.leases:
            cluster.stop(STOP_SECONDS)
            system.forget(cluster)


def _take(pool: LabPool, options: Mapping[str, Any]) -> Lab:
    from .values import ServerUnavailable

    try:
        return pool.take(options)
    except ModuleNotFoundError as missing:
        if missing.name not in MODULES:
            raise
        pytest.skip(
            f"the lab needs the module {missing.name!r}: pip install 'aurora-actors[{MODULES[missing.name]}]'"
        )
    except ServerUnavailable as unavailable:
        pytest.skip(f"the lab has no server: {unavailable}")
