"""The relay sees what a client sends, whole messages at a time, and how often it had to wait for the server."""

from __future__ import annotations

import psycopg
import pytest

from aurora_actors.lab import PostgresLab
from tests.benchmarks.harness import Spread, differences
from tests.benchmarks.relay import PATIENCE_SECONDS, Relay, Talk
from tests.benchmarks.servers import parsed


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + (len(body) + 4).to_bytes(4, "big") + body


STARTUP = message("", (196608).to_bytes(4, "big") + b"user\0john\0application_name\0app\0\0")
TLS_PLEASE = message("", (80877103).to_bytes(4, "big"))


@pytest.mark.parametrize("size", [1, 7, 10_000], ids="in pieces of {}".format)
def test_messages_are_read_whatever_pieces_they_come_in(size: int) -> None:
    talk = Talk()
    sent = TLS_PLEASE + STARTUP + message("Q", b"SELECT 1\0") + message("P", b"name\0SELECT 2\0\0\0") + message("X", b"")
    for start in range(0, len(sent), size):
        talk.from_client(sent[start : start + size])
    assert [kind for kind, _ in talk.messages] == ["", "", "Q", "P", "X"]
    assert talk.statements == ["SELECT 1", "SELECT 2"]
    assert talk.application == "app"
    assert talk.sent == len(sent)


def test_a_round_trip_begins_when_the_client_speaks_after_the_server() -> None:
    talk = Talk()
    talk.from_client(TLS_PLEASE)
    talk.from_server(b"N")
    talk.from_client(STARTUP[:4])
    talk.from_client(STARTUP[4:])
    talk.from_server(b"R")
    talk.from_server(b"Z")
    assert talk.trips == 2


def test_a_session_of_psycopg_passes_through(aurora_lab: PostgresLab) -> None:
    with Relay(aurora_lab.address(aurora_lab.writer)) as relay:
        host, port = relay.address
        with psycopg.connect(aurora_lab.conninfo("writer", hostaddr=host, port=port), autocommit=True) as conn:
            assert conn.execute("SELECT 7").fetchone() == (7,)
        [talk] = relay.talks
        assert talk.ended.wait(PATIENCE_SECONDS)
    assert talk.statements == ["SELECT 7"]
    assert talk.messages[-1] == ("X", b"")


def test_lines_of_a_server_tell_whose_they_are() -> None:
    text = (
        "2026-11-25 08:00:00.250 UTC [7] app@db/aurora_actors-monitor LOG:  statement: SELECT 1\n"
        "2026-11-25 08:00:00.500 UTC [8] app@db/[unknown] LOG:  connection authorized: user=app database=db\n"
        "2026-11-25 08:00:01.000 UTC [3] @/ LOG:  archive recovery complete\n"
        "\tcontinued\n"
    )
    asked, session, own = parsed("host-1", text, ahead=0.0)
    assert (asked.user, asked.is_monitor, asked.is_session) == ("app", True, False)
    assert (session.pid, session.is_monitor, session.is_session) == (8, False, True)
    assert (own.user, own.text) == ("", "LOG:  archive recovery complete")
    assert session.at - asked.at == pytest.approx(0.25, abs=1e-6)


def test_a_spread_tells_the_middle_and_the_edges() -> None:
    spread = Spread.of([3.0, 1.0, 2.0, -0.001], "ms", digits=0)
    assert spread is not None
    assert str(spread) == "2 (0 to 3)"
    assert Spread.of([]) is None
    assert differences({"one": [2.0, 3.0], "other": [1.0, 1.0]}, "one", "other") == [1.0, 2.0]
