"""A secret, whatever it is and however it is given, shows in no log record, error, note, repr or signal."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import mysql.connector
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import MysqlLab, PostgresLab
from tests.failover.applications import forget_clusters, noted
from tests.failover.colours import Colour

MARK = "S3CR3T"
EXAMPLES = 25
"""Each is two logins and a failover on real servers."""
SECRETS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=4).map(f"{MARK}{{}}{MARK}".format)
WAYS = st.sampled_from(["keyword", "text", "url", "query", "callable"])
MONITORS = st.sampled_from(["right", "wrong", "none"])
on_servers = settings(
    deadline=None,
    max_examples=EXAMPLES,
    phases=[Phase.generate],  # what fails on servers is not made smaller: that would take minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
Given = tuple[str, dict[str, Any]]
QUICK: dict[str, Any] = {"plugins": "failover,efm", "failover_timeout_sec": 20}


def written(scheme: str, way: str, secret: str, own: Mapping[str, Any]) -> Given:
    """Conninfo and keywords that give a password in one *way* of many."""
    bare = " ".join(f"{key}={value}" for key, value in own.items())
    encoded, place = quote(secret, safe=""), f"{own['host']}:{own['port']}/{own['database']}"
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    ways: dict[str, Given] = {
        "keyword": (bare, {"password": secret}),
        "callable": (bare, {"password": lambda: secret}),
        "text": (f"{bare} password='{escaped}'", {}),
        "url": (f"{scheme}://{own['user']}:{encoded}@{place}", {}),
        "query": (f"{scheme}://{own['user']}@{place}?password={encoded}", {}),
    }
    return ways[way]


def monitoring(login: str, user: str, secret: str) -> dict[str, str]:
    """What monitors log in with: as the application, or with a password of their own, which is right or wrong."""
    password = {"right": secret, "wrong": f"{secret}{MARK}"}.get(login)
    return {"monitoring-user": user, "monitoring-password": password} if password is not None else {}


@contextmanager
def nothing_shown(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """What is put into the list is looked at, too: objects by their repr, errors with all that comes with them."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    looked_at: list[Any] = []
    with noted() as signals_noted:
        try:
            yield looked_at
        finally:
            forget_clusters()
    shown = [caplog.text, *(repr(record.__dict__) for record in caplog.records)]
    shown += [repr(event) for name in aurora_actors.signals.namespace for event in signals_noted.of(name)]
    for each in looked_at:
        shown.append(repr(each))
        if isinstance(each, FailoverSuccessError):
            shown.append(repr((each.host, each.attempts, each.ledger)))
        if isinstance(each, BaseException):
            shown += traceback.format_exception(each)
    assert not [text for text in shown if MARK in text]


def parts_of(conn: Any) -> list[Any]:
    """The connection and what of ours belongs to it."""
    proxy = conn._aa_link.proxy
    return [repr(conn), repr(proxy), repr(proxy.control), repr(proxy.access), repr(proxy.settings), repr(system)]


@on_servers
@given(secret=SECRETS, way=WAYS, right=st.booleans(), monitor=MONITORS)
def test_postgres(
    aurora_lab: PostgresLab,
    colour: Colour,
    caplog: pytest.LogCaptureFixture,
    secret: str,
    way: str,
    right: bool,
    monitor: str,
) -> None:
    own = {**conninfo_to_dict(aurora_lab.conninfo()), "database": aurora_lab.login.database}
    own = {key: own[key] for key in ("host", "port", "user", "database")}
    conninfo, keywords = written("postgresql", way, secret if right else secret + MARK, own)
    keywords |= {"autocommit": True, **QUICK, **monitoring(monitor, str(own["user"]), secret)}
    change = sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format
    host, port = aurora_lab.address(aurora_lab.writer)
    with psycopg.connect(aurora_lab.conninfo(host=host, port=port), autocommit=True) as admin:
        admin.execute(change(secret))
        try:
            with nothing_shown(caplog) as shown:
                if not right:
                    with pytest.raises(psycopg.OperationalError) as refused:
                        colour.open(conninfo, **keywords)
                    shown.append(refused.value)
                    return
                with colour.open(conninfo, **keywords) as conn:
                    conn.execute(sql.SQL("SET application_name = {}").format(secret))
                    shown.extend(parts_of(colour.plain(conn)))
                    if monitor == "wrong":
                        return  # nobody could find a writer
                    admin.execute("SELECT pg_terminate_backend(%s, 10000)", [conn.info.backend_pid])
                    with pytest.raises(FailoverSuccessError) as caught:
                        conn.execute(sql.SQL("SELECT {}, pg_sleep(0)").format(secret))
                    shown.extend([caught.value, *parts_of(colour.plain(conn))])
        finally:
            admin.execute(change(aurora_lab.login.password))


@on_servers
@given(secret=SECRETS, way=WAYS, right=st.booleans(), monitor=MONITORS)
def test_mysql(
    aurora_mysql_lab: MysqlLab, caplog: pytest.LogCaptureFixture, secret: str, way: str, right: bool, monitor: str
) -> None:
    parameters = aurora_mysql_lab.parameters()
    own = {key: value for key, value in parameters.items() if key != "password"}
    conninfo, keywords = written("mysql", way, secret if right else secret + MARK, own)
    keywords |= {"use_pure": True, "autocommit": True, **QUICK, **monitoring(monitor, str(own["user"]), secret)}
    host, port = aurora_mysql_lab.address(aurora_mysql_lab.writer)
    with mysql.connector.connect(**{**parameters, "host": host, "port": port}) as admin, admin.cursor() as change:
        change.execute("SET PASSWORD = PASSWORD(%s)", [secret])
        try:
            with nothing_shown(caplog) as shown:
                if not right:
                    with pytest.raises(mysql.connector.Error) as refused:
                        aurora_actors.connect(mysql.connector.connect, conninfo, **keywords)
                    shown.append(refused.value)
                    return
                with aurora_actors.connect(mysql.connector.connect, conninfo, **keywords) as conn, conn.cursor() as cursor:
                    cursor.execute("SET @a = %s", [secret])
                    shown.extend(parts_of(conn))
                    if monitor == "wrong":
                        return
                    assert aurora_mysql_lab.kill_session(aurora_mysql_lab.writer, conn.connection_id)
                    with pytest.raises(FailoverSuccessError) as caught:
                        cursor.execute("SELECT %s", [secret])
                    shown.extend([caught.value, *parts_of(conn)])
        finally:
            change.execute("SET PASSWORD = PASSWORD(%s)", [aurora_mysql_lab.login.password])
