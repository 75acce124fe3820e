"""The lab's DNS, without a server."""

from __future__ import annotations

import socket

import pytest

from aurora_actors.lab.names import DnsView, Place, Zone, answer

PLACES = tuple(
    Place(host, f"127.9.9.{number}", 5433) for number, host in enumerate(("database-1", "database-2", "Database-3"), 1)
)
DOMAIN = "xyz.us-east-1.rds.amazonaws.com"
WRITER, READER = f"database.cluster-{DOMAIN}", f"database.cluster-ro-{DOMAIN}"
FIRST = DnsView(100.0, "database-1", ("database-2", "Database-3"))
SECOND = DnsView(200.0, "database-2", ("Database-3",))
ALONE = DnsView(300.0, "database-2", ())


def look_up(
    name: str, *, port: int = 5432, now: float = 1000.0, lag: float = 0.0, turn: int = 0,
    views: tuple[DnsView, ...] = (FIRST,),
) -> list[tuple[str, int]]:
    return answer(Zone("database", DOMAIN, PLACES, lag), views, name, port, now=now, turn=turn)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (WRITER, "127.9.9.1"),
        (WRITER.upper(), "127.9.9.1"),
        (WRITER + ".", "127.9.9.1"),
        (f"database-2.{DOMAIN}", "127.9.9.2"),
        (f"database-3.{DOMAIN}", "127.9.9.3"),
    ],
)
def test_a_name_of_the_cluster_leads_to_its_host(name: str, address: str) -> None:
    assert look_up(name) == [(address, 5433)]


def test_the_reader_endpoint_takes_readers_in_turn() -> None:
    assert [look_up(READER, turn=turn)[0][0] for turn in range(3)] == ["127.9.9.2", "127.9.9.3", "127.9.9.2"]


def test_the_reader_endpoint_leads_to_the_writer_where_there_is_no_reader() -> None:
    assert look_up(READER, views=(ALONE,)) == [("127.9.9.2", 5433)]


@pytest.mark.parametrize(
    ("now", "address"), [(150.0, "127.9.9.1"), (200.0, "127.9.9.1"), (204.9, "127.9.9.1"), (205.0, "127.9.9.2")]
)
def test_a_change_lags(now: float, address: str) -> None:
    assert look_up(WRITER, now=now, lag=5.0, views=(FIRST, SECOND))[0][0] == address


def test_before_any_lag_has_passed_the_first_view_holds() -> None:
    assert look_up(WRITER, now=101.0, lag=60.0, views=(FIRST, SECOND))[0][0] == "127.9.9.1"


@pytest.mark.parametrize(("asked", "given"), [(5432, 5433), (5433, 5433), (6000, 6000)])
def test_the_port_of_the_host_is_given_for_its_own_and_for_the_usual_one(asked: int, given: int) -> None:
    assert look_up(WRITER, port=asked) == [("127.9.9.1", given)]


@pytest.mark.parametrize(
    ("name", "address"),
    [("10.1.2.3", "10.1.2.3"), ("::1", "::1"), ("[::1]", "::1"), ("localhost", "127.0.0.1")],
)
def test_addresses_pass_through(name: str, address: str) -> None:
    assert look_up(name) == [(address, 5432)]


STRANGERS = ("example.com", f"other.{DOMAIN}", f"database-4.{DOMAIN}", "", f"database.cluster-custom-{DOMAIN}")


@pytest.mark.parametrize("name", STRANGERS)
def test_no_other_name_is_known(name: str) -> None:
    with pytest.raises(socket.gaierror, match="no name of the lab's cluster"):
        look_up(name)
