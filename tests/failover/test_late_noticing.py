"""Connections that notice a loss long after it happened, or several losses at once."""

from __future__ import annotations

import os
import socket
from typing import Any

import psycopg
import pytest
from psycopg import waiting

from aurora_actors import FailoverSuccessError, TransactionResolutionUnknownError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import Noted, connect, connections, server_log, wait_until_nobody_looks, where


def test_a_writer_that_was_found_and_died_unnoticed_is_not_insisted_on(aurora_lab: PostgresLab) -> None:
    """From A to B to C: one connection notices only when B, which the cluster is known to have moved to, is gone."""
    _, second, third = aurora_lab.hosts
    with (
        connect(aurora_lab, failover_timeout_sec=10) as early,
        connect(aurora_lab, failover_timeout_sec=10) as late,
        connect(aurora_lab, failover_timeout_sec=10) as busy,
    ):
        busy.autocommit = False
        busy.execute("SELECT 1")
        aurora_lab.failover(second)
        with pytest.raises(FailoverSuccessError):
            early.execute("SELECT 1")
        assert where(early) == second
        # Nobody looks at the readers any more, so that nobody sees the next promotion.
        wait_until_nobody_looks(aurora_lab, third)
        aurora_lab.failover(third)
        with pytest.raises(TransactionResolutionUnknownError) as caught:
            busy.execute("SELECT 1")
        assert [attempt.host.partition(" ")[0] for attempt in caught.value.attempts] == [second]
        assert where(busy) == where(late) == third


def test_who_notices_late_causes_no_new_search(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    with connections(aurora_lab, 10) as (first, *others):
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError):
            first.execute("SELECT 1")
        aurora_lab.wait_ready()
        wait_until_nobody_looks(aurora_lab, *aurora_lab.readers)
        with server_log(aurora_lab) as log:
            for conn in others:
                assert where(conn) == aurora_lab.writer
            assert log.sessions() == {"application": len(others)}
        assert len(signals_noted.of("failover_started")) == 1


def test_an_end_that_the_driver_sees_and_libpq_does_not(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is reset just while it is polled: psycopg gives up on it, and libpq takes it for open."""

    def given_up(gen: Any, fd: int, *_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        next(gen)
        with socket.socket(fileno=os.dup(fd)) as other:
            other.shutdown(socket.SHUT_RDWR)
        raise psycopg.OperationalError("connection socket closed")

    with connect(aurora_lab) as conn:
        where(conn)
        monkeypatch.setattr(waiting, "wait", given_up)
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert str(caught.value.__cause__) == "connection socket closed"
        assert where(conn) == aurora_lab.writer


def test_a_driver_that_gives_up_on_a_healthy_session_is_believed(
    aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = psycopg.OperationalError("something else")

    def given_up(gen: Any, *_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        next(gen)
        raise error

    with connect(aurora_lab) as conn:
        monkeypatch.setattr(waiting, "wait", given_up)
        with pytest.raises(psycopg.OperationalError) as caught:
            conn.execute("SELECT pg_sleep(60)")
        conn.close()
        assert caught.value is error


def test_to_another_host_and_back(aurora_lab: PostgresLab, signals_noted: Noted) -> None:
    """From A to B and back to A, on a connection that sees both moves and on one that sees neither in time."""
    first, second, _ = aurora_lab.hosts
    with connect(aurora_lab) as awake, connect(aurora_lab) as asleep:
        for target in (second, first):
            aurora_lab.failover(target, how="planned")
            with pytest.raises(FailoverSuccessError):
                awake.execute("SELECT 1")
            assert where(awake) == target
            aurora_lab.wait_ready()
        with pytest.raises(FailoverSuccessError):
            asleep.execute("SELECT 1")
        assert where(asleep) == first
    assert [event.new.writer.id for event in signals_noted.of("writer_changed")] == [second, first]
