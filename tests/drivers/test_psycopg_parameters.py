"""Conninfo and keywords as libpq means them, with ours among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_actors.drivers.psycopg import PsycopgDriver

DRIVER = PsycopgDriver()


@pytest.mark.parametrize(
    ("conninfo", "keywords", "expected"),
    [
        ("host=h dbname=d", {"user": "u"}, {"host": "h", "dbname": "d", "user": "u"}),
        ("host=h plugins='a, b' password='a b'", {}, {"host": "h", "password": "a b", "plugins": "a, b"}),
        ("host = h plugins=failover", {}, {"host": "h", "plugins": "failover"}),
        (
            "postgresql://u:p%40ss@h:5433/d",
            {},
            {"user": "u", "password": "p@ss", "host": "h", "port": "5433", "dbname": "d"},
        ),
        ("postgresql://h/d?plugins=failover", {}, {"host": "h", "dbname": "d", "plugins": "failover"}),
        ("host=h database=d", {}, {"host": "h", "dbname": "d"}),
        (r"host=h password='it\'s'", {"plugins": None}, {"host": "h", "password": "it's"}),
    ],
)
def test_parameters(conninfo: str, keywords: dict[str, Any], expected: dict[str, Any]) -> None:
    assert DRIVER.parameters(conninfo, keywords) == expected


def test_several_hosts_are_seeds() -> None:
    assert list(DRIVER.seeds({"host": "a,b", "port": "1,2"})) == [("a", 1), ("b", 2)]
    assert list(DRIVER.seeds({"host": "a,b"})) == [("a", 5432), ("b", 5432)]


def test_the_environment_and_the_service_file_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGHOST", "from-environment")
    assert list(DRIVER.seeds({})) == [("from-environment", 5432)]
    file = tmp_path / "services"
    file.write_text("[orders]\nhost=from-service\nport=6000\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert list(DRIVER.seeds({"service": "orders"})) == [("from-service", 6000)]
