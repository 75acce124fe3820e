"""Conninfo and keywords as libpq means them, with ours among them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import aurora_actors
from aurora_actors.drivers.psycopg import PsycopgDriver

DRIVER = PsycopgDriver()
untimed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


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


@pytest.mark.parametrize(("text", "expected"), [
    ("host=x\n[others]\nhost=y\n[orders]\n  # no\n\n\thost=a b \r\nport=6000\nhost=c\n[orders]\nhost=d", [("a b", 6000)]),
    ("[DEFAULT]\nport=1\n[orders] and more\nhost=%(x)s\n", [("%(x)s", 5432)]),
    ("[orders\nhost=x\n", [("", 5432)]),
    ("[orders]\nhost=a\nnonsense=1\n", [("", 5432)]),
    ("[orders]\nHOST=a\n", [("", 5432)]),
    ("[orders]\nhost=a\nhost: b\n", [("", 5432)]),
    ("[orders]\nhost=a\nservice=others\n", [("", 5432)]),
    ("[orders]\nldap://directory/dc=x\n", [("", 5432)]),
    ("\udcff[orders]\nhost=x\n", [("", 5432)]),
])  # fmt: skip
def test_a_service_file_is_read_as_libpq_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: list[tuple[str, int]]
) -> None:
    """What libpq complains of is left to it: there is nothing in it for us."""
    file = tmp_path / "services"
    file.write_text(text, "utf-8", errors="surrogateescape", newline="")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    for name in ("PGHOST", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    assert list(DRIVER.seeds({"service": "orders"})) == expected


@pytest.mark.parametrize("ours", [{}, {"resolve": lambda host, port: [(host, port)]}], ids=["driver", "resolver"])
@pytest.mark.parametrize("text", ["[orders\nhost=x\n", "[orders]\nhost\n", "[orders]\nport=x:\nHost=y\n", "\xff"])
def test_a_malformed_service_file_is_the_driver_s_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, ours: dict[str, Any]
) -> None:
    file = tmp_path / "services"
    file.write_text(text, "latin-1")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with pytest.raises(psycopg.OperationalError) as raw:
        psycopg.connect("service=orders")
    with pytest.raises(type(raw.value)) as caught:
        aurora_actors.connect(psycopg.Connection.connect, "service=orders", **ours)
    assert str(caught.value) == str(raw.value)


@pytest.mark.parametrize("ours", [{}, {"resolve": lambda host, port: [(host, port)]}], ids=["driver", "resolver"])
@pytest.mark.parametrize(("host", "port"), [("127.0.0.1,127.0.0.2", "1,2,3"), ("127.0.0.1", "1,2")])
def test_ports_that_do_not_match_the_hosts_are_the_driver_s_error(host: str, port: str, ours: dict[str, Any]) -> None:
    with pytest.raises(psycopg.OperationalError) as raw:
        psycopg.connect(host=host, port=port)
    with pytest.raises(psycopg.OperationalError) as caught:
        aurora_actors.connect(psycopg.Connection.connect, host=host, port=port, **ours)
    assert str(caught.value) == str(raw.value)


# Whatever is written, the driver gets what libpq reads in it, ours taken out

SPACE = " \t\n\r\f\v"
SIGNS = "'\\ \t=&+%@:/?#[]"
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from(SIGNS), max_size=8)
OWN = st.dictionaries(st.sampled_from(["user", "password", "dbname", "application_name", "options", "sslrootcert"]), TEXTS)
OURS = st.dictionaries(st.sampled_from(["cluster_id", "monitoring-password"]), TEXTS.map("x{}x".format))
Written = tuple[str, list[str]]


def written_pair(key: str, value: str, draw: Any) -> str:
    """`key=value`, quoted or with backslashes, as tightly or as loosely as is allowed."""
    blanks = draw(st.text(SPACE, max_size=2))
    if draw(st.booleans()) or not value:
        quoted = "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"
    else:
        quoted = re.sub(rf"(^'|[{SPACE}\\])", r"\\\1", value)
    return f"{blanks}{key}{blanks}={blanks}{quoted}"


def part(text: str, bare: str, draw: Any) -> str:
    return quote(text, safe=draw(st.sampled_from(["", bare])))


def pairs_of(given: dict[str, str], draw: Any) -> Written:
    return "", [written_pair(key, value, draw) for key, value in given.items()]


def url_of(given: dict[str, str], draw: Any) -> Written:
    """A URL with as many or as few percent signs as is allowed."""
    rest, login, path = dict(given), "", ""
    if rest.get("user") and draw(st.booleans()):
        login = part(rest.pop("user"), "?#[]+'&=", draw)
        if rest.get("password") and draw(st.booleans()):
            login += ":" + part(rest.pop("password"), "?#[]+'&=:", draw)
        login += "@"
    place = draw(st.sampled_from(["db.example.com", "[::1]:5433", "a:1,b:2", ""]))
    if rest.get("dbname") and draw(st.booleans()):
        path = "/" + part(rest.pop("dbname"), "#+'=&:", draw)
    scheme = draw(st.sampled_from(["postgresql", "postgres"]))
    return f"{scheme}://{login}{place}{path}", [f"{k}={part(v, '?#[]+:', draw)}" for k, v in rest.items()]


def joined(head: str, parts: list[str]) -> str:
    return f"{head}?{'&'.join(parts)}" if head and parts else head or " ".join(parts)


@untimed
@given(st.data(), OWN, OURS, OWN, st.sampled_from([pairs_of, url_of]))
def test_what_reaches_the_driver_is_what_libpq_reads(
    data: st.DataObject,
    own: dict[str, str],
    ours: dict[str, str],
    keywords: dict[str, str],
    write: Callable[[dict[str, str], Any], Written],
) -> None:
    head, parts = write(own, data.draw)
    plain = joined(head, parts)
    text = joined(head, data.draw(st.permutations([*parts, *write(ours, data.draw)[1]])))
    reached: list[dict[str, Any]] = []

    def connect(_: str, **parameters: Any) -> None:
        reached.append(parameters)
        raise psycopg.OperationalError("no server is needed to see that")

    with pytest.raises(psycopg.OperationalError, match="no server"):
        aurora_actors.connect(connect, text, plugins="", **keywords)
    assert conninfo_to_dict(make_conninfo("", **reached[0])) == conninfo_to_dict(make_conninfo(plain, **keywords))
    assert {key: value for key, value in DRIVER.parameters(text, {}).items() if key in ours} == ours


WORDS = [*SIGNS, *"ab4\xa0", "host=", "port=", "user", "postgresql://", "ssl="]
MANGLED = st.lists(st.sampled_from(WORDS)).map("".join)


@untimed
@given(st.sampled_from(["", "postgresql://", "host=h "]), MANGLED)
def test_text_of_libpq_s_alone_is_left_to_it(head: str, text: str) -> None:
    try:
        expected = conninfo_to_dict(head + text)
    except (psycopg.Error, UnicodeDecodeError) as error:
        # What only libpq's keys are missing for is not known to be wrong until the keys have been looked at.
        with suppress(type(error)):
            assert not DRIVER.keys.issuperset(DRIVER.parameters(head + text, {}))
    else:
        assert DRIVER.parameters(head + text, {}) == expected


@pytest.mark.parametrize("port", ["many", [1], object()])
def test_a_port_that_is_none_is_said(port: object) -> None:
    with pytest.raises(aurora_actors.ConfigurationError, match="port="):
        aurora_actors.connect(psycopg.connect, "host=127.0.0.1", port=port)


@pytest.mark.parametrize("conninfo", [5, None, b"host=127.0.0.1"])
def test_a_conninfo_that_is_no_text_is_said(conninfo: Any) -> None:
    with pytest.raises(aurora_actors.ConfigurationError, match="the conninfo is text"):
        aurora_actors.connect(psycopg.connect, conninfo)
