"""What statements of MySQL and MariaDB commit, and what they leave in their session, as far as their text tells."""

from __future__ import annotations

import pytest

from aurora_actors.model.mysql_statements import commits, effects_of, is_alone, leaves_nothing, may_be_killed, used_database
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


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("SET time_zone = '+00:00'", ["time_zone"]),
        ("set @@session.sql_mode='', LOCAL wait_timeout = 5;", ["sql_mode", "wait_timeout"]),
        ("SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'", ["names"]),
        ("SET CHARACTER SET latin1", ["names"]),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ["transaction_isolation"]),
        ("SET SESSION TRANSACTION READ ONLY", ["transaction_read_only"]),
        ("SET sql_mode = DEFAULT", ["sql_mode"]),
        ("SET ROLE ALL", ["role"]),
    ],
)
def test_a_setting_can_be_replayed(text: str, keys: list[str]) -> None:
    effects = effects_of(text)
    assert effects is not None
    assert [effect.key for effect in effects] == keys


@pytest.mark.parametrize(
    "text",
    [
        "SET @a = 1",
        "SET x = @y",
        "SET GLOBAL x = 1",
        "SET @@global.x = 1",
        "SET a = 1, GLOBAL b = 2",
        "SET a = %s",
        "SET a = b + 1",
        "SET a = 1; SET b = 2",
        "SET TRANSACTION READ ONLY",
        "SET PASSWORD = 'x'",
        "SET DEFAULT ROLE x TO y",
        "SET insert_id = 4",
        "/*! SET a = 1 */",
        "SELECT 1",
    ],
)
def test_what_is_not_fully_understood_is_not_replayed(text: str) -> None:
    assert effects_of(text) is None


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT 1;", "/* why */ UPDATE t SET v = 1 -- done", "LOAD DATA INFILE 'f'"])
def test_one_statement_is_done_as_a_whole_or_not_at_all(text: str) -> None:
    assert is_alone(text)
    assert may_be_killed(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "SELECT 1; SELECT 2", "CALL p()", "ALTER TABLE t ADD w int", "BEGIN", "SELECT ';'", "/*!50000 SELECT */ 1"),
        f"INSERT INTO t VALUES ('{'x' * LONGEST_TEXT}')",
    ],
)
def test_what_may_be_done_by_half_is_not_alone(text: str) -> None:
    assert not is_alone(text)


@pytest.mark.parametrize(
    "text",
    [
        *("COMMIT", "SELECT 1; commit", "/*!50000COMMIT*/", "XA COMMIT 'x'", "xa prepare 'x'", "SET autocommit = 1"),
        f"{' ' * LONGEST_TEXT}COMMIT",
    ],
)
def test_a_commit_is_not_killed(text: str) -> None:
    assert not may_be_killed(text)
