"""Each test of the MySQL lab runs on both servers; one after the other, so that a cluster serves many tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", params=["mariadb", "mysql"])
def aurora_mysql_lab_server(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind
