"""Blocked calls on MySQL are ended through a second descriptor, and nothing but that session is hurt."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mysql.connector
import pytest

import aurora_actors
from aurora_actors.drivers.mysql import MysqlDriver
from aurora_actors.drivers.mysql_session import Handle, handle_of
from aurora_actors.lab import MysqlLab
from tests.failover.mysql_faces import BOUND_SECONDS, FACES, Face

DRIVER = MysqlDriver()
AT_ONCE = 40
THREADS = [each for each in FACES if each.id != "aio"]


def connect(lab: MysqlLab, face: Face, **parameters: Any) -> Any:
    given = {"plugins": "", "autocommit": True, "use_pure": face.name == "pure", **parameters}
    return aurora_actors.connect(mysql.connector.connect, lab.conninfo(), **given)


@pytest.mark.aurora_mysql_lab(flavour="plain")
@pytest.mark.parametrize("face", THREADS)
def test_the_descriptor_is_that_of_the_session(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    """Opened by many threads at once: each has its own, by the word of the server, which knows the port of its client."""
    with ThreadPoolExecutor(8) as pool:
        conns = list(pool.map(lambda _: connect(aurora_mysql_lab, face), range(24)))
    watching = conns[0].cursor()
    watching.execute("SELECT id, host FROM information_schema.processlist")
    ports = {int(number): host.rpartition(":")[2] for number, host in watching.fetchall()}
    found = []
    for conn in conns:
        handle = handle_of(conn)
        assert handle is not None
        with socket.socket(fileno=os.dup(handle.descriptor)) as duplicate:
            found.append((conn.connection_id, duplicate.getsockname()[1]))
    assert len({port for _, port in found}) == len(conns)
    assert found == [(number, int(ports[number])) for number, _ in found]
    for conn in conns:
        conn.close()


@pytest.mark.parametrize("face", THREADS)
def test_many_calls_are_ended_while_their_owners_close(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    conns = [connect(aurora_mysql_lab, face) for _ in range(AT_ONCE)]
    lines = [DRIVER.line(conn) for conn in conns]
    errors: list[Any] = []
    waiting = threading.Barrier(AT_ONCE + 1)

    def use(conn: Any) -> None:
        cursor = conn.cursor()
        waiting.wait(BOUND_SECONDS)
        try:
            cursor.execute("SELECT SLEEP(3600)")
        except mysql.connector.Error as error:
            errors.append(error.errno)
        conn.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [pool.submit(use, conn) for conn in conns]
        waiting.wait(BOUND_SECONDS)
        aurora_mysql_lab.freeze(aurora_mysql_lab.writer)
        for line in lines:
            assert line is not None
            line.sever()
        for call in calls:
            call.result(BOUND_SECONDS)
    assert set(errors) <= {2013, 2055}
    assert len(errors) == AT_ONCE


@pytest.mark.parametrize("face", THREADS)
def test_a_number_that_is_somebody_else_s_by_now_is_left_alone(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    conn = connect(aurora_mysql_lab, face)
    number = conn._aa_handle.descriptor
    conn.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        taken = number in (ours.fileno(), theirs.fileno())
        if not taken:
            os.dup2(ours.fileno(), number)
        assert DRIVER.line(conn) is None
        DRIVER.discard(conn)
        theirs.send(b"still here")
        assert ours.recv(16) == b"still here"
        if not taken:
            os.close(number)


@pytest.mark.parametrize("face", THREADS)
def test_where_there_is_no_descriptor_it_is_said_once(
    aurora_mysql_lab: MysqlLab, face: Face, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aurora_actors.drivers.mysql._said", [])
    with connect(aurora_mysql_lab, face) as conn:
        conn._aa_handle = None
        assert DRIVER.line(conn) is None
        conn._aa_handle = Handle(-1, 0, None)
        assert DRIVER.line(conn) is None
        assert conn.is_connected()
    assert caplog.text.count("its calls are not ended for it") == 1
