"""Conninfo, URLs, keywords and option files as MySQL Connector means them, with ours among them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mysql.connector
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mysql.connector import aio
from mysql.connector.abstracts import MySQLConnectionAbstract

import aurora_actors
from aurora_actors import ConfigurationError
from aurora_actors.drivers import mysql as adapter
from aurora_actors.drivers.mysql import MysqlDriver
from aurora_actors.drivers.mysql_reading import failure_of
from aurora_actors.model.faults import Fault, fault_of

DRIVER = MysqlDriver()


@pytest.mark.parametrize(
    ("conninfo", "keywords", "expected"),
    [
        ("host=h database=d", {"user": "u"}, {"host": "h", "database": "d", "user": "u"}),
        ("host=h plugins='a, b' password='a b'", {}, {"host": "h", "password": "a b", "plugins": "a, b"}),
        (r"host = h password=it\'s\ b", {}, {"host": "h", "password": "it's b"}),
        ('password="it\'s" user=""', {}, {"password": "it's", "user": ""}),
        ("host=h port=33 raw=off", {"plugins": None}, {"host": "h", "port": 33, "raw": False}),
        ("username=u passwd=p db=d", {}, {"user": "u", "password": "p", "database": "d"}),
        ("connect_timeout=3 autocommit=True", {}, {"connection_timeout": 3, "autocommit": True}),
        ("host=h", {"passwd": "k", "host": "g"}, {"host": "g", "password": "k"}),
        (
            "mysql://u:p%40ss@h:33/d?plugins=failover&use_pure=true",
            {},
            {
                "user": "u", "password": "p@ss", "host": "h", "port": 33, "database": "d", "plugins": "failover",
                "use_pure": True,
            },
        ),
        ("mariadb://h", {}, {"host": "h"}),
        ("init_command='SET @a = ''://'''", {}, None),
        ("", {}, {}),
    ],
)  # fmt: skip
def test_parameters(conninfo: str, keywords: dict[str, Any], expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigurationError):
            DRIVER.parameters(conninfo, keywords)
    else:
        assert DRIVER.parameters(conninfo, keywords) == expected


@pytest.mark.parametrize(
    ("conninfo", "message"),
    [
        ("host=h password=s3cret and more", "character 24"),
        ("host=h port=many", "whole number"),
        ("host=h autocommit=perhaps", "true or false"),
        ("mysql://h:many/d", "port"),
        ("mysql://u:s3cret#x@h/d", "percent-encoded"),
        ("mysql://u:s3cret/x@h/d", "percent-encoded"),
        ("mysql://u:s3cret@[h/d", "percent-encoded"),
    ],
)
def test_text_that_cannot_be_read_is_an_error_that_shows_no_secret(conninfo: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        DRIVER.parameters(conninfo, {})
    assert "s3cret" not in str(caught.value)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\\ \t=&+%@:/?#[]"), min_size=1, max_size=8)
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@untimed
@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["db.example.com", "[::1]"]), st.sampled_from(["", "[]:@+"]))
def test_a_url_is_read_as_it_was_written(user: str, password: str, database: str, host: str, bare: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe=bare)}"
    text = f"mysql://{login}@{host}:33/{quote(database, safe='')}?init_command={quote(password, safe='')}"
    expected = {"user": user, "password": password, "host": host.strip("[]"), "port": 33, "database": database}
    assert DRIVER.parameters(text, {}) == {**expected, "init_command": password}


@untimed
@given(st.sampled_from(["", "mysql://", "mysql://u:S3CRET", "host=h password=S3CRET"]), TEXTS, TEXTS)
def test_any_text_is_read_or_refused_without_showing_it(head: str, text: str, rest: str) -> None:
    refused: BaseException | None = None
    try:
        DRIVER.parameters(f"{head}{text}@{rest}", {})
    except ConfigurationError as error:
        refused = error
    assert "S3CRET" not in "".join(traceback.format_exception(refused) if refused else "")


def test_option_files_count(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nhost=from-file\nport=6000\npassword=123\n")
    found = DRIVER.parameters(f"option_files={file} user=u", {"port": 7000})
    assert found == {"host": "from-file", "port": 7000, "password": "123", "user": "u"}


def test_seeds() -> None:
    assert list(DRIVER.seeds({})) == [("127.0.0.1", 3306)]
    assert list(DRIVER.seeds({"host": "h", "port": "33"})) == [("h", 33)]
    assert list(DRIVER.seeds({"unix_socket": "/run/m.sock"})) == [("/run/m.sock", 3306)]
    servers = [{"host": "a", "port": 1}, {"host": "b"}]
    assert list(DRIVER.seeds({"failover": servers, "port": 2})) == [("a", 1), ("b", 2)]


def test_targets() -> None:
    class Own(mysql.connector.MySQLConnection):
        pass

    targets: tuple[Any, ...] = (mysql.connector.connect, mysql.connector.Connect, mysql.connector.MySQLConnection, Own)
    for target in targets:
        assert DRIVER.accepts(target)
        assert not DRIVER.is_async(target)
    targets = (aio.connect, aio.connection.MySQLConnection)
    for target in targets:
        assert DRIVER.accepts(target)
        assert DRIVER.is_async(target)
    assert not DRIVER.accepts(print)


@pytest.mark.parametrize(
    ("target", "parameters", "message"),
    [
        (aio.connect, {}, r"aio.connect\(\)"),
        (mysql.connector.connect, {"failover_timeot_sec": 3}, "failover_timeout_sec"),
        (mysql.connector.connect, {"wrapper_dialect": "aurora-mysq"}, "aurora-mysql"),
        (mysql.connector.connect, {"plugins": "failovr"}, "failover"),
    ],
)
def test_bad_input_is_one_clear_error_before_anything_starts(
    target: Any, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        aurora_actors.connect(target, "host=127.0.0.1 port=1 user=x", **parameters)


def test_a_release_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql.connector, "__version_info__", (9, 1, 0, "", 1))
    with pytest.raises(ConfigurationError, match=r"9\.1\.0 is too old: 9\.7\.0 or newer"):
        aurora_actors.connect(mysql.connector.connect, "host=127.0.0.1 port=1 user=x")


def test_the_driver_s_own_parameters_are_its_own_to_refuse() -> None:
    with pytest.raises(AttributeError, match="Unsupported argument 'colour'"):
        aurora_actors.connect(mysql.connector.connect, "host=127.0.0.1 port=1 user=x", plugins="", use_pure=True, colour=1)


def _wrapped(error: Exception) -> Exception:
    made = mysql.connector.ProgrammingError("Failed processing pyformat-parameters")
    made.__cause__ = error
    return made


FAULTS = {
    "lost while reading": (mysql.connector.InterfaceError(errno=2013), Fault.CONNECTION_LOST),
    "lost while sending": (mysql.connector.OperationalError(errno=2055, values=("h", "e")), Fault.CONNECTION_LOST),
    "gone": (mysql.connector.OperationalError("MySQL Connection not available"), Fault.CONNECTION_LOST),
    "a ping": (mysql.connector.InterfaceError("Connection to MySQL is not available"), Fault.CONNECTION_LOST),
    "raw": (ConnectionResetError(104, "reset"), Fault.CONNECTION_LOST),
    "shutdown": (mysql.connector.OperationalError("x", errno=1053, sqlstate="08S01"), Fault.CONNECTION_LOST),
    "killed": (mysql.connector.DatabaseError("x", errno=1927), Fault.SESSION_ENDED),
    "idle": (mysql.connector.DatabaseError("x", errno=4031), Fault.SESSION_ENDED),
    "wrapped": (_wrapped(mysql.connector.InterfaceError(errno=2013)), Fault.CONNECTION_LOST),
    "too many": (mysql.connector.DatabaseError("x", errno=1040), Fault.LOGIN),
    "denied": (mysql.connector.ProgrammingError("x", errno=1045, sqlstate="28000"), Fault.LOGIN),
    "read-only": (
        mysql.connector.DatabaseError("running with the --read-only option", errno=1290), Fault.READ_ONLY,
    ),
    "another option": (mysql.connector.DatabaseError("the --secure-file-priv option", errno=1290), Fault.NONE),
    "read-only mode": (mysql.connector.DatabaseError("Running in read-only mode", errno=1836), Fault.READ_ONLY),
    "a constraint": (mysql.connector.IntegrityError("x", errno=1062, sqlstate="23000"), Fault.NONE),
    "a read timeout": (mysql.connector.errors.ReadTimeoutError(errno=3024), Fault.NONE),
    "not connected": (mysql.connector.ProgrammingError("Cursor is not connected"), Fault.NONE),
    "unread": (mysql.connector.InternalError("Unread result found"), Fault.NONE),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_an_error_says_goes_by_its_number(name: str) -> None:
    from aurora_actors.dialects.mysql import Mysql

    error, fault = FAULTS[name]
    failure = failure_of(error)
    assert fault_of(failure.sqlstate, failure.lost, Mysql.faults) is fault


def test_the_extension_that_does_not_load_is_spoken_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from aurora_actors.drivers import mysql_opening

    monkeypatch.setattr(mysql_opening, "_said", [])
    monkeypatch.setattr(mysql.connector, "HAVE_CEXT", False)
    for parameters in ({}, {}, {"use_pure": True}):
        mysql_opening._mind_the_extension(mysql.connector.connect, parameters)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "use_pure=True" in caplog.text
    assert adapter.MysqlDriver.name == "mysql"


@pytest.mark.parametrize("pool", [{}, {"pool_name": "p"}], ids=["alone", "pool"])
def test_a_resolver_is_not_passed_by_where_c_checks_the_name(
    pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfC(MySQLConnectionAbstract):
        """Stands for the extension's class where that does not load."""

    monkeypatch.setattr(mysql.connector, "CMySQLConnection", OfC, raising=False)
    with pytest.raises(ConfigurationError, match="use_pure=True"):
        aurora_actors.connect(
            mysql.connector.connect,
            "host=db.invalid user=u",
            ssl_verify_identity=True,
            resolve=lambda host, port: [("127.0.0.1", 1)],
            **pool,
        )
