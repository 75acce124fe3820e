"""What statements of MySQL and MariaDB commit, and what they leave in their session, as far as their text tells."""

from __future__ import annotations

import pytest

from aurora_actors.model.mysql_statements import commits, leaves_nothing, used_database
from aurora_actors.model.session import LONGEST_TEXT


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "( select 1 );",
        "/* route=/orders */ SELECT 1 -- done",
        "# why\nINSERT INTO t VALUES (1)",
        "REPLACE INTO t VALUES (1); DELETE FROM t",
        "SELECT @@aurora_server_id",
        "SELECT 'john@example.com'",
        "INSERT INTO t VALUES ('john@example.com', \"@\")",
        "START TRANSACTION READ ONLY",
        "BEGIN; SELECT 1; COMMIT",
        "CREATE TABLE t (id int)",
        "DROP TABLE temporary_t",
        "SELECT lock_date FROM t FOR UPDATE",
        "SHOW VARIABLES LIKE 'x'",
        "DO SLEEP(1)",
        "",
        " ; ",
    ],
)
def test_nothing_is_left_by(text: str) -> None:
    assert leaves_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        "SET time_zone = '+00:00'",
        "SET @a = 1",
        "SELECT @a",
        "SELECT id INTO @a FROM t",
        "SELECT @b := 2",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "USE other",
        "CREATE TEMPORARY TABLE t (id int)",
        "CREATE OR REPLACE TEMPORARY TABLE t (id int)",
        "DROP TEMPORARY TABLE t",
        "LOCK TABLES t WRITE",
        "UNLOCK TABLES",
        "FLUSH TABLES WITH READ LOCK",
        "SELECT GET_LOCK('a', 1)",
        "DO RELEASE_LOCK('a')",
        "PREPARE p FROM 'SELECT 1'",
        "EXECUTE p",
        "CALL anything()",
        "HANDLER t OPEN",
        "XA START 'x'",
        "BEGIN NOT ATOMIC SET @a = 1; END",
        "SELECT LAST_INSERT_ID()",
        "SELECT SQL_CALC_FOUND_ROWS * FROM t",
        "COMMIT AND CHAIN",
        "SELECT 1; SET NAMES latin1",
        "/*!50000 SET @@sql_mode = '' */",
        "SELECT 1 /*M!100000 , @a */",
        "SELECT '" + "x" * LONGEST_TEXT + "'",
    ],
)
def test_something_may_be_left_by(text: str) -> None:
    assert not leaves_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1)",
        "select 1",
        "UPDATE t SET a = 'commit'",
        "SAVEPOINT a; ROLLBACK TO a",
        "CREATE TEMPORARY TABLE t (id int)",
        "DROP TEMPORARY TABLE t",
        "SET NAMES utf8mb4",
        "USE other",
    ],
)
def test_a_transaction_goes_on_after(text: str) -> None:
    assert not commits(text, in_transaction=True)


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT",
        "/* x */ commit work",
        "INSERT INTO t VALUES (1); COMMIT",
        "ALTER TABLE t ADD b int",
        "CREATE TABLE t (id int)",
        "DROP TABLE t",
        "TRUNCATE t",
        "GRANT SELECT ON t TO a",
        "LOCK TABLES t WRITE",
        "SET autocommit = 1",
        "BEGIN",
        "START TRANSACTION",
        "CALL anything()",
        "EXECUTE p",
        "XA COMMIT 'x'",
        "ROLLBACK AND CHAIN; COMMIT",
        "/*! COMMIT */",
    ],
)
def test_a_transaction_may_be_over_after(text: str) -> None:
    assert commits(text, in_transaction=True)


def test_what_begins_a_transaction_commits_nothing_where_none_is_open() -> None:
    assert not commits("BEGIN", in_transaction=False)
    assert not commits("START TRANSACTION; INSERT INTO t VALUES (1)", in_transaction=False)
    assert commits("CREATE TABLE t (id int)", in_transaction=False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("USE other", "other"),
        ("  use `odd``name` ; ", "odd`name"),
        ("/* x */ USE a$1", "a$1"),
        ("USE a; SELECT 1", None),
        ("SELECT 1", None),
        ("USED", None),
    ],
)
def test_the_database_that_is_used(text: str, name: str | None) -> None:
    assert used_database(text) == name
