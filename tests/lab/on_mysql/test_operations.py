"""What can be done to one host."""

from __future__ import annotations

import shutil
import socket
import threading

import mysql.connector
import pytest

from aurora_actors.lab import LabError, MysqlLab, black_holes
from tests.lab.on_mysql.sessions import LOST, connect, execute, rows
from tests.lab.sessions import eventually, in_background

SILENCE_SECONDS = 0.3
"""A server on the same machine answers within a few milliseconds."""
FLAVOURS = [
    pytest.param("aurora", marks=pytest.mark.aurora_mysql_lab(flavour="aurora")),
    pytest.param("plain", marks=pytest.mark.aurora_mysql_lab(flavour="plain")),
]


def state_of(lab: MysqlLab, host: str) -> str:
    return next(status.state for status in lab.status() if status.id == host)


def answers(lab: MysqlLab, host: str) -> bool:
    """Whether a new connection to the host gets a greeting out of it."""
    try:
        with socket.create_connection(lab.address(host), SILENCE_SECONDS) as connection:
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


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_crashed_reader_stops_no_commit_and_comes_back(aurora_mysql_lab: MysqlLab, flavour: str) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session, connect(lab, "database-2") as lost:
        execute(session, "CREATE TABLE orders (id int)")
        lab.crash("database-2")
        execute(session, "INSERT INTO orders VALUES (1)")
        with pytest.raises(mysql.connector.Error) as error:
            execute(lost, "SELECT 1")
        assert error.value.errno in LOST
    with pytest.raises(ConnectionRefusedError):
        answers(lab, "database-2")
    assert lab.readers == ("database-3",)
    assert {lab.resolve(lab.reader_endpoint, 3306)[0] for _ in range(4)} == {lab.address("database-3")}
    lab.restart("database-2")
    lab.wait_ready()
    eventually(lambda: rows(lab, "database-2", "SELECT id FROM orders") == [(1,)])


def test_a_client_that_waits_learns_of_a_crash_at_once(aurora_mysql_lab: MysqlLab) -> None:
    lost: list[int | None] = []

    def wait() -> None:
        try:
            execute(session, "SELECT SLEEP(100)")
        except mysql.connector.Error as error:
            lost.append(error.errno)

    with connect(aurora_mysql_lab) as session:
        with in_background(wait):
            eventually(lambda: bool(rows(aurora_mysql_lab, "writer", SLEEPERS)))
            aurora_mysql_lab.crash("database-1")
        assert lost[0] in LOST


SLEEPERS = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'"


def test_a_client_that_leaves_ends_its_session(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as watcher:
        with connect(aurora_mysql_lab) as session:
            (id_,) = execute(session, "SELECT CONNECTION_ID()")[0]
            sessions = f"SELECT ID FROM information_schema.PROCESSLIST WHERE ID = {id_}"
            assert execute(watcher, sessions) == [(id_,)]
            session.shutdown()
        eventually(lambda: execute(watcher, sessions) == [])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_writer_restarted_in_place_goes_on_as_the_writer(aurora_mysql_lab: MysqlLab, flavour: str) -> None:
    with connect(aurora_mysql_lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
        aurora_mysql_lab.restart("database-1")
        with pytest.raises(mysql.connector.Error):
            execute(session, "SELECT 1")
    assert aurora_mysql_lab.writer == "database-1"
    with connect(aurora_mysql_lab) as session:
        execute(session, "INSERT INTO orders VALUES (1)")
    aurora_mysql_lab.failover()
    assert rows(aurora_mysql_lab, "writer", "SELECT id FROM orders") == [(1,)]


def test_a_crashed_writer_can_be_restarted_or_replaced(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.crash("database-1")
    aurora_mysql_lab.restart("database-1")
    aurora_mysql_lab.crash("database-1")
    aurora_mysql_lab.failover()
    assert aurora_mysql_lab.writer != "database-1"
    aurora_mysql_lab.wait_ready()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_a_frozen_host_is_silent_and_thaws(aurora_mysql_lab: MysqlLab, host: str, flavour: str) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session, connect(lab, host) as frozen:
        execute(session, "CREATE TABLE orders (id int)")
        lab.freeze(host)
        assert state_of(lab, host) == "frozen"
        assert not answers(lab, host)
        if host != lab.writer:
            execute(session, "INSERT INTO orders VALUES (1)")
        lab.thaw(host)
        execute(frozen, "SELECT 1")
        execute(session, "INSERT INTO orders VALUES (2)")
    lab.wait_ready()


@pytest.mark.parametrize("host", ["database-1", "database-2"])
def test_packets_of_a_black_holed_host_vanish(aurora_mysql_lab: MysqlLab, host: str, black_hole_kind: str) -> None:
    lab = aurora_mysql_lab
    with connect(lab) as session, connect(lab, host) as cut:
        execute(session, "CREATE TABLE orders (id int)")
        lab.black_hole(host)
        assert lab.black_hole_kind == black_hole_kind
        with pytest.raises(TimeoutError):
            socket.create_connection(lab.address(host), SILENCE_SECONDS)
        if host != lab.writer:
            execute(session, "INSERT INTO orders VALUES (1)")
        with in_background(lambda: execute(cut, "SELECT 1")) as waiting:
            waiting.join(SILENCE_SECONDS)
            assert waiting.is_alive()
            lab.heal(host)
        execute(session, "INSERT INTO orders VALUES (2)")
    lab.wait_ready()


@pytest.mark.parametrize(("silence", "end"), [("freeze", "thaw"), ("black_hole", "heal")])
def test_a_deposed_writer_acknowledges_nothing_and_comes_back_as_a_reader(
    aurora_mysql_lab: MysqlLab, silence: str, end: str
) -> None:
    lab = aurora_mysql_lab
    outcome: list[BaseException | None] = []
    refused = threading.Event()

    def insert() -> None:
        try:
            execute(session, "INSERT INTO orders VALUES (1)")
            outcome.append(None)
        except mysql.connector.Error as error:
            outcome.append(error)
        refused.set()

    with connect(lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
        getattr(lab, silence)("database-1")
        with in_background(insert):
            record = lab.failover()
            assert record.happened("abandoned")
            assert not record.happened("killed")
            assert not refused.is_set()
            getattr(lab, end)("database-1")
    (error,) = outcome
    assert isinstance(error, mysql.connector.Error)
    lab.wait_ready()
    assert next(status.role for status in lab.status() if status.id == "database-1") == "READER"
    assert rows(lab, "writer", "SELECT count(*) FROM orders") == [(0,)]


def test_refused_logins_leave_sessions_alone(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab

    def refusal(host: str) -> tuple[int | None, str | None] | None:
        try:
            rows(lab, host, "SELECT 1")
        except mysql.connector.Error as error:
            return error.errno, error.sqlstate
        return None

    with connect(lab) as session:
        lab.refuse_logins("database-1")
        assert refusal("database-1") == (1045, "28000")
        assert refusal("database-2") is None
        execute(session, "SELECT 1")
        assert lab.status()[0].refuses_logins
        lab.restart("database-1")
        assert refusal("database-1") == (1045, "28000")
        lab.refuse_logins("database-1", on=False)
        assert refusal("database-1") is None


def test_a_frozen_host_refuses_logins_when_it_thaws(aurora_mysql_lab: MysqlLab) -> None:
    aurora_mysql_lab.freeze("database-2")
    aurora_mysql_lab.refuse_logins("database-2")
    aurora_mysql_lab.thaw("database-2")
    with pytest.raises(mysql.connector.Error) as refused:
        rows(aurora_mysql_lab, "database-2", "SELECT 1")
    assert refused.value.sqlstate == "28000"


def test_one_session_can_be_killed(aurora_mysql_lab: MysqlLab) -> None:
    with connect(aurora_mysql_lab) as session, connect(aurora_mysql_lab) as other:
        number = session.connection_id
        assert aurora_mysql_lab.kill_session("database-1", number)
        with pytest.raises(mysql.connector.Error) as lost:
            execute(session, "SELECT 1")
        assert lost.value.errno in LOST | {1927}
        execute(other, "SELECT 1")
    eventually(lambda: not aurora_mysql_lab.kill_session("database-1", number))


@pytest.mark.parametrize(
    ("operation", "message"),
    [("thaw", "is not frozen but available"), ("heal", "is not black-holed but available"), ("crash", "there is no host")],
)
def test_what_cannot_be_done_is_said(aurora_mysql_lab: MysqlLab, operation: str, message: str) -> None:
    host = "nobody" if operation == "crash" else "database-2"
    with pytest.raises(LabError, match=message):
        getattr(aurora_mysql_lab, operation)(host)


def test_everything_can_be_set_back(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    lab.freeze("database-1")
    lab.failover("database-2")
    with connect(lab) as session:
        execute(session, "CREATE TABLE orders (id int)")
    lab.crash("database-3")
    lab.refuse_logins("database-2")
    lab.reset()
    assert [(status.role, status.state) for status in lab.status()] == [
        ("WRITER", "available"), ("READER", "available"), ("READER", "available")
    ]  # fmt: skip
    assert lab.events == ()
    for host in lab.hosts:
        assert rows(lab, host, "SHOW TABLES") == []
