"""What the front of the MySQL lab does to bytes, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_actors.lab.front_mysql import Greeting, Scanner, greeting_of, rewritten, rewritten_packet

HOST, VERSION = "database-1", "3.10.0"
VIEW = b"aurora_lab.replica_host_status"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (b"SELECT @@aurora_server_id", b"SELECT 'database-1' AS `@@aurora_server_id`"),
        (
            b"select @@aurora_server_id, @@AURORA_SERVER_ID",
            b"select 'database-1' AS `@@aurora_server_id`, 'database-1' AS `@@AURORA_SERVER_ID`",
        ),
        (b"SELECT @@aurora_server_id AS host", b"SELECT 'database-1' AS host"),
        (b"SELECT @@aurora_server_id LIMIT 1", b"SELECT 'database-1' AS `@@aurora_server_id` LIMIT 1"),
        (b"SELECT @@global.aurora_version;", b"SELECT '3.10.0' AS `@@global.aurora_version`;"),
        (b"SELECT CONCAT(@@aurora_server_id, 1)", b"SELECT CONCAT('database-1', 1)"),
        (b"SELECT AURORA_VERSION()", b"SELECT '3.10.0' AS `AURORA_VERSION()`"),
        (b"SELECT @@innodb_read_only", b"SELECT @@global.read_only AS `@@innodb_read_only`"),
        (
            b"SELECT SERVER_ID FROM information_schema.replica_host_status WHERE SERVER_ID = @@aurora_server_id",
            b"SELECT SERVER_ID FROM " + VIEW + b" WHERE SERVER_ID = 'database-1'",
        ),
        (b"SELECT 1 FROM `INFORMATION_SCHEMA` . `REPLICA_HOST_STATUS`", b"SELECT 1 FROM " + VIEW),
        (b"SELECT 1 FROM replica_host_status", b"SELECT 1 FROM " + VIEW),
    ],
)
def test_what_is_rewritten(statement: bytes, expected: bytes) -> None:
    assert rewritten(statement, HOST, VERSION) == expected


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT 1",
        b"SELECT '@@aurora_server_id'",
        b'SELECT "@@aurora_server_id"',
        b"SELECT 'it''s \\' @@aurora_version'",
        b"SELECT 1 /* @@aurora_version */",
        b"SELECT 1 -- @@aurora_version",
        b"SELECT 1 # @@aurora_version",
        b"SELECT * FROM shop.replica_host_status",
        b"SELECT * FROM my_replica_host_status",
        b"SELECT * FROM replica_host_status_log",
        b"SELECT @@aurora_server_identity",
        b"SELECT aurora_version FROM releases",
        b"SHOW VARIABLES LIKE 'version_comment'",
        b"\xff\x00 aurora",
    ],
)
def test_what_is_left_alone(statement: bytes) -> None:
    assert rewritten(statement, HOST, VERSION) is statement


@pytest.mark.parametrize(
    "statement",
    [b"SHOW VARIABLES LIKE 'aurora_version'", b" show global variables where Variable_name = 'aurora_version' ; "],
)
def test_variables_are_shown_from_a_table(statement: bytes) -> None:
    shown = rewritten(statement, HOST, VERSION)
    assert shown.startswith(b"SELECT Variable_name, Value FROM (SELECT ")
    assert b"'3.10.0' AS Value" in shown
    assert shown.endswith((b"WHERE Variable_name LIKE 'aurora_version'", b"where Variable_name = 'aurora_version'"))


def packet(payload: bytes, number: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def rewrite(payload: bytes) -> bytes:
    return rewritten_packet(payload, HOST, VERSION)


QUERY = b"SELECT @@aurora_server_id"
ANSWER = b"SELECT 'database-1' AS `@@aurora_server_id`"
COMMANDS = [
    (packet(b"\x85\xa6\x0f\x20 login aurora", 1), None),
    (packet(b"\x03SELECT 1"), None),
    (packet(b"\x03" + QUERY), packet(b"\x03" + ANSWER)),
    (packet(b"\x03\x00\x01" + QUERY), packet(b"\x03\x00\x01" + ANSWER)),
    (packet(b"\x16" + QUERY), packet(b"\x16" + ANSWER)),
    (packet(b"\x02aurora_lab"), None),
    (packet(b"\x0e"), None),
    (packet(b"\x03SELECT '" + b"x" * 70_000 + b"', @@aurora_server_id"), None),
    (packet(b"", 3), None),
    (packet(b"\x03" + QUERY, 2), None),
    (packet(b"\x03" + QUERY, 255) + packet(b"\x03" + QUERY, 0), None),
    (packet(b"\x16SELECT 'aurora'"), None),
]


@given(st.lists(st.sampled_from(COMMANDS), max_size=8), st.data())
def test_it_does_not_matter_how_packets_are_cut(commands: list[tuple[bytes, bytes | None]], data: st.DataObject) -> None:
    sent = b"".join(given for given, _ in commands)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    scanner = Scanner(rewrite)
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert b"".join(map(scanner.feed, pieces)) == b"".join(
        given if expected is None else expected for given, expected in commands
    )


def test_a_short_statement_is_held_until_it_is_whole() -> None:
    scanner = Scanner(rewrite)
    whole = packet(b"\x03" + QUERY)
    assert scanner.feed(whole[:10]) == b""
    assert scanner.feed(whole[10:]) == packet(b"\x03" + ANSWER)


GREETING = packet(
    b"\x0a9.7.4\x00" + b"\x07\x00\x00\x00" + b"abcdefgh\x00" + b"\xff\xff" + b"\xff" + b"\x02\x00" + b"\xff\xdf" + b"\x15"
)


def test_a_greeting_offers_neither_tls_nor_compression() -> None:
    low, high = 0xFFFF & ~(1 << 5) & ~(1 << 11), 0xDFFF & ~(1 << 10)
    changed = greeting_of(GREETING, tls=False)
    assert changed == GREETING.replace(b"\xff\xff", low.to_bytes(2, "little"), 1).replace(
        b"\xff\xdf", high.to_bytes(2, "little"), 1
    )


def test_an_error_in_place_of_a_greeting_passes() -> None:
    refusal = packet(b"\xff\x10\x04Too many connections")
    assert Greeting().feed(refusal) == refusal


@pytest.mark.parametrize("cut", [1, 4, 20, len(GREETING), len(GREETING) + 2])
def test_a_greeting_may_come_in_pieces(cut: int) -> None:
    greeting = Greeting()
    sent = GREETING + b"more"
    assert greeting.feed(sent[:cut]) + greeting.feed(sent[cut:]) == greeting_of(GREETING, tls=False) + b"more"
