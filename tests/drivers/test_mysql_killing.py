"""Whom a KILL may meet: only a session that its server shows to be the one that waits."""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aurora_actors.dialects.mysql import AuroraMysql, Mysql
from aurora_actors.drivers.mysql_deadline import Alarm
from aurora_actors.drivers.mysql_killing import Killing
from aurora_actors.drivers.mysql_session import Handle
from aurora_actors.model.hosts import Host

OWN, SEEN = ("10.0.0.7", 40000), "10.0.0.7:40000"
AGE_SECONDS = 100.0
NUMBER, SIDE = 41, 50


class Side:
    """A session at a server that answers so."""

    connection_id = SIDE

    def __init__(self, *, number: int = SIDE, seen: str | None = SEEN, host: str = "database-1", uptime: int = 200) -> None:
        self._answers: dict[str, list[Any]] = {
            "CONNECTION_ID": [(str(number), seen)] if seen is not None else [],
            "aurora_server_id": [(host, "0", None, None, None, None)],
            "Uptime": [("Uptime", str(uptime))],
        }
        self._rows: list[Any] = []

    def cmd_query(self, sql: str) -> None:
        (self._rows,) = (rows for word, rows in self._answers.items() if word in sql)

    def get_rows(self, *, raw: bool) -> tuple[list[Any], None]:
        assert raw
        return [tuple(None if value is None else value.encode() for value in row) for row in self._rows], None


def killing(dialect: Any = None, own: tuple[str, int] = OWN) -> Killing:
    host = Host("database-1", "database-1.xyz.us-east-1.rds.amazonaws.com", 3306)
    proxy = SimpleNamespace(access=None, dialect=dialect, host=host, opened=monotonic() - AGE_SECONDS)
    return Killing(cast("Any", proxy), Handle(3, 4, ("10.0.0.1", 3306), own, NUMBER), alone=True)


@pytest.mark.parametrize("dialect", [None, Mysql(), AuroraMysql()], ids=["unknown", "plain", "aurora"])
def test_it_is_ours_where_the_server_sees_our_end_of_it(dialect: Any) -> None:
    assert killing(dialect)._is_ours(Side())


def test_a_loopback_address_may_have_been_looked_up() -> None:
    local = killing(own=("127.0.0.1", 40000))
    assert local._is_ours(Side(seen="localhost:40000"))
    assert not local._is_ours(Side(seen="localhost"))


def test_it_is_ours_where_the_same_host_says_so_that_has_not_started_since() -> None:
    assert killing(AuroraMysql())._is_ours(Side(seen="10.0.0.2:7"))


@pytest.mark.parametrize(
    ("dialect", "side"),
    [
        (AuroraMysql(), Side(seen=None)),
        (AuroraMysql(), Side(number=SIDE + 1)),
        (AuroraMysql(), Side(seen="10.0.0.2:7", host="database-2")),
        (AuroraMysql(), Side(seen="10.0.0.2:7", uptime=int(AGE_SECONDS))),
        (Mysql(), Side(seen="10.0.0.7:40001")),
        (None, Side(seen="localhost:40000")),
    ],
    ids=["at rest, or another user's", "a proxy's number", "another host", "started since", "behind something", "nobody"],
)
def test_it_is_not_ours(dialect: Any, side: Side) -> None:
    assert not killing(dialect)._is_ours(side)


def test_a_call_that_has_come_back_is_not_killed() -> None:
    ended = killing()
    assert not ended.is_sent()
    assert not ended._turn.set_result(None)


@pytest.mark.parametrize("settled", [False, True])
def test_a_kill_that_nobody_waited_for_meets_no_other_statement(settled: bool) -> None:
    """As where Ctrl-C comes meanwhile: the C extension would go on with the session."""
    alarm, done = Alarm(), list[str]()
    sent = killing()
    assert sent._turn.set_result(None)
    alarm._line = cast("Any", SimpleNamespace(sever=lambda: done.append("shut"), close=lambda: done.append("forgotten")))
    alarm._killing = sent
    alarm.off(settled=settled)
    alarm.off()
    assert done == (["forgotten"] if settled else ["shut", "forgotten"])
