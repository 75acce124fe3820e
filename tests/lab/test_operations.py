"""What can be done to one host."""

from __future__ import annotations

import shutil
import socket
import threading

import psycopg
import pytest

from aurora_actors.lab import LabError, PostgresLab, black_holes
from tests.lab.sessions import FACT_SECONDS, connect, eventually, in_background, rows

SILENCE_SECONDS = 0.3
"""A server on the same machine answers within a few milliseconds."""


def state_of(lab: PostgresLab, host: str) -> str:
    return next(status.state for status in lab.status() if status.id == host)


def answers(lab: PostgresLab, host: str) -> bool:
    """Whether a new connection to the host gets a word out of it."""
    try:
        with socket.create_connection(lab.address(host), SILENCE_SECONDS) as connection:
            connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # SSLRequest
            return bool(connection.recv(1))
    except TimeoutError:
        return False


@pytest.fixture(params=["nft", "socket-filter"])
def black_hole_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to drop packets that this machine has."""
    wanted: str = request.param
    possible = black_holes.kind()
    if possible == "none" or (wanted == "nft" and possible != "nft"):
        pytest.skip(f"no {wanted} here: {'nft needs CAP_NET_ADMIN' if shutil.which('nft') else 'apt-get install nftables'}")
    monkeypatch.setattr(black_holes, "kind", lambda: wanted)
    return wanted


def test_a_crashed_reader_stops_no_commit_and_comes_back(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab, "database-2") as lost:
        session.execute("CREATE TABLE orders (id int)")
        aurora_lab.crash("database-2")
        session.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")
    with pytest.raises(ConnectionRefusedError):
        answers(aurora_lab, "database-2")
    assert aurora_lab.readers == ("database-3",)
    assert {aurora_lab.resolve(aurora_lab.reader_endpoint, 5432)[0] for _ in range(4)} == {aurora_lab.address("database-3")}
    aurora_lab.restart("database-2")
    aurora_lab.wait_ready()
    eventually(lambda: rows(aurora_lab, "database-2", "SELECT id FROM orders") == [(1,)])


def test_a_writer_restarted_in_place_goes_on_as_the_writer(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
        aurora_lab.restart("database-1")
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert aurora_lab.writer == "database-1"
    with connect(aurora_lab) as session:
        session.execute("INSERT INTO orders VALUES (1)")


def test_a_crashed_writer_can_be_restarted_or_replaced(aurora_lab: PostgresLab) -> None:
    aurora_lab.crash("database-1")
    aurora_lab.restart("database-1")
    aurora_lab.crash("database-1")
    aurora_lab.failover()
    assert aurora_lab.writer != "database-1"
    aurora_lab.wait_ready()


@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_a_frozen_host_is_silent_and_thaws(aurora_lab: PostgresLab, host: str) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab, host) as frozen:
        session.execute("CREATE TABLE orders (id int)")
        aurora_lab.freeze(host)
        assert state_of(aurora_lab, host) == "frozen"
        assert not answers(aurora_lab, host)
        if host != aurora_lab.writer:
            session.execute("INSERT INTO orders VALUES (1)")
        aurora_lab.thaw(host)
        frozen.execute("SELECT 1")
        session.execute("INSERT INTO orders VALUES (2)")
    aurora_lab.wait_ready()


def test_the_kernel_accepts_connections_for_a_frozen_writer(aurora_lab: PostgresLab) -> None:
    aurora_lab.freeze("database-1")
    with socket.create_connection(aurora_lab.address("database-1"), SILENCE_SECONDS) as accepted:
        accepted.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # SSLRequest
        accepted.settimeout(SILENCE_SECONDS)
        with pytest.raises(TimeoutError):
            accepted.recv(1)
        aurora_lab.thaw("database-1")
        accepted.settimeout(FACT_SECONDS)
        assert accepted.recv(1) == b"N", "what it was asked in its sleep it answers when it wakes"


@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_packets_of_a_black_holed_host_vanish(aurora_lab: PostgresLab, host: str, black_hole_kind: str) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab, host) as cut:
        session.execute("CREATE TABLE orders (id int)")
        aurora_lab.black_hole(host)
        assert aurora_lab.black_hole_kind == black_hole_kind
        with pytest.raises(TimeoutError):
            socket.create_connection(aurora_lab.address(host), SILENCE_SECONDS)
        if host != aurora_lab.writer:
            session.execute("INSERT INTO orders VALUES (1)")
        with in_background(lambda: cut.execute("SELECT 1")) as waiting:
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive()
            aurora_lab.heal(host)
        session.execute("INSERT INTO orders VALUES (2)")
    aurora_lab.wait_ready()


@pytest.mark.parametrize(("silence", "end"), [("freeze", "thaw"), ("black_hole", "heal")])
def test_a_deposed_writer_acknowledges_nothing_and_comes_back_as_a_reader(
    aurora_lab: PostgresLab, silence: str, end: str
) -> None:
    outcome: list[BaseException | None] = []
    refused = threading.Event()

    def insert() -> None:
        try:
            session.execute("INSERT INTO orders VALUES (1)")
            outcome.append(None)
        except psycopg.OperationalError as error:
            outcome.append(error)
        refused.set()

    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
        getattr(aurora_lab, silence)("database-1")
        with in_background(insert):
            record = aurora_lab.failover()
            assert record.happened("abandoned")
            assert not record.happened("killed")
            assert not refused.is_set()
            getattr(aurora_lab, end)("database-1")
    (error,) = outcome
    assert isinstance(error, psycopg.OperationalError)
    aurora_lab.wait_ready()
    assert next(status.role for status in aurora_lab.status() if status.id == "database-1") == "READER"
    assert rows(aurora_lab, "writer", "SELECT count(*) FROM orders") == [(0,)]


def test_refused_logins_leave_sessions_alone(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session:
        aurora_lab.refuse_logins("database-1")

        def refused() -> bool:
            try:
                connect(aurora_lab).close()
            except psycopg.OperationalError as error:
                return "pg_hba.conf rejects connection" in str(error)
            return False

        eventually(refused)
        session.execute("SELECT 1")
        assert aurora_lab.status()[0].refuses_logins
        aurora_lab.refuse_logins("database-1", on=False)
        eventually(lambda: not refused())


def test_one_session_can_be_killed(aurora_lab: PostgresLab) -> None:
    with connect(aurora_lab) as session, connect(aurora_lab) as other:
        assert aurora_lab.kill_session("database-1", session.info.backend_pid)
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
        other.execute("SELECT 1")
    eventually(lambda: not aurora_lab.kill_session("database-1", session.info.backend_pid))


@pytest.mark.parametrize(
    ("operation", "message"),
    [("thaw", "is not frozen but available"), ("heal", "is not black-holed but available"), ("crash", "there is no host")],
)
def test_what_cannot_be_done_is_said(aurora_lab: PostgresLab, operation: str, message: str) -> None:
    host = "nobody" if operation == "crash" else "database-2"
    with pytest.raises(LabError, match=message):
        getattr(aurora_lab, operation)(host)


def test_everything_can_be_set_back(aurora_lab: PostgresLab) -> None:
    aurora_lab.freeze("database-1")
    aurora_lab.failover("database-2")
    with connect(aurora_lab) as session:
        session.execute("CREATE TABLE orders (id int)")
    aurora_lab.crash("database-3")
    aurora_lab.refuse_logins("database-2")
    aurora_lab.reset()
    assert [(status.role, status.state) for status in aurora_lab.status()] == [
        ("WRITER", "available"), ("READER", "available"), ("READER", "available")
    ]  # fmt: skip
    assert aurora_lab.events == ()
    for host in aurora_lab.hosts:
        assert rows(aurora_lab, host, "SELECT to_regclass('orders')") == [(None,)]
