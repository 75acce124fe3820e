"""Which statements leave something in their session, as far as their text tells."""

from __future__ import annotations

import pytest

from aurora_actors.model.session import LONGEST_TEXT, leaves_nothing


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "select 1;",
        "  \n ( SELECT 1 )",
        "/* route=/orders */ SELECT 1 -- done",
        "-- why\nINSERT INTO t VALUES (1)",
        "WITH x AS (SELECT 1) UPDATE t SET a = 1",
        "BEGIN; SELECT 1; COMMIT",
        "SET LOCAL work_mem = '1GB'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT temp FROM weather",
        "SELECT * INTO kept FROM t",
        "COPY t FROM STDIN",
        "NOTIFY channel",
        "",
        " ; ",
    ],
)
def test_nothing_is_left_by(text: str) -> None:
    assert leaves_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        "SET search_path TO other",
        "set time zone 'UTC'",
        "/* hint */ SET ROLE other",
        "RESET ALL",
        "LISTEN channel",
        "UNLISTEN channel",
        "SET a = %s",
        "SET a = 'it''s; b'",
        "SET transaction_read_only = on",
        "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION SNAPSHOT 'x'",
        "SELECT set_config(%s, 'c', false)",
        "SELECT set_config('a.b', other, false) FROM t",
        "PREPARE p AS SELECT 1",
        "CREATE TABLE t (id int)",
        "CREATE TEMP TABLE t (id int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LOAD 'auto_explain'",
        "DO $$ BEGIN END $$",
        "CALL anything()",
        "SELECT 1; SET a.b = 'c'",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT * INTO TEMP scratch FROM t",
        "SELECT * INTO LOCAL TEMPORARY scratch FROM t",
        "INSERT INTO pg_temp.scratch VALUES (1)",
        "SELECT make_temp_table()",
        "SELECT currval('s')",
        "SELECT dblink_connect('other')",
        "PREPARE TRANSACTION 'x'",
        "COMMIT AND CHAIN",
        "INSERT INTO t VALUES ('a; b')",  # not understood, so not trusted
        "SELECT 1 " + " " * LONGEST_TEXT,
    ],
)
def test_something_may_be_left_by(text: str) -> None:
    assert not leaves_nothing(text)
