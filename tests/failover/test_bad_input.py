"""Bad input: one clear error each, naming the nearest right thing, before any thread starts and any byte is sent."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import aurora_actors
from aurora_actors import ConfigurationError
from aurora_actors.lab import PostgresLab
from tests.failover.applications import connect, our_threads

NOWHERE = "host=127.0.0.1 port=1 user=x dbname=x"


@pytest.fixture(autouse=True)
def no_socket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever opens a socket in spite of bad input fails the test; those that need servers are left alone."""
    if "aurora_lab" in request.fixturenames or "listening" in request.fixturenames:
        yield
        return

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(psycopg.Connection, "connect", classmethod(refuse))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt parameter": ({"failover_timeot_sec": 3}, "did you mean failover_timeout_sec"),
    "a misspelt parameter with hyphens": ({"failover-timeot-sec": 3}, "failover_timeout_sec"),
    "a misspelt prefixed parameter": ({"monitoring-conect_timeout": 3}, "connect_timeout"),
    "a misspelt plugin": ({"plugins": "failovr"}, "did you mean 'failover"),
    "one misspelt plugin of several": ({"plugins": "failover, initial_conection"}, "initial_connection"),
    "an unknown plugin": ({"plugins": "zzz"}, "installed are: .*failover"),
    "a misspelt dialect": ({"wrapper_dialect": "aurora-pgg"}, "did you mean aurora-pg"),
    "a dialect that this version lacks": ({"wrapper_dialect": "global-aurora-mysql"}, "not in this version"),
    "a misspelt mode": ({"failover_mode": "strict-writter"}, "did you mean strict_writer"),
    "a misspelt strategy": ({"failover_reader_host_selector_strategy": "round-robbin"}, "round_robin"),
    "a misspelt strategy of the first connect": (
        {"initial_connection_host_selector_strategy": "highest"},
        "highest_weight",
    ),
    "text for a number": ({"failover_timeout_sec": "soon"}, "expected a number of seconds"),
    "a number with its unit": ({"topology_refresh_ms": "30s"}, "expected a whole number of milliseconds"),
    "text for a truth value": ({"enable_failover": "maybe"}, "expected true or false"),
    "a negative duration": ({"failover_timeout_sec": -1}, "from 0.01"),
    "too large a duration": ({"monitor_disposal_time_ms": 10**12}, "to 86400000"),
    "not a number": ({"failover_timeout_sec": float("nan")}, "expected a number"),
    "a fraction of a whole": ({"topology_refresh_ms": 0.5}, "whole number"),
    "a pattern without the question mark": ({"cluster_instance_host_pattern": "db.example.com"}, r"exactly one `\?`"),
    "a pattern of a proxy": (
        {"cluster_instance_host_pattern": "?.proxy-abc.eu-west-1.rds.amazonaws.com"},
        "RDS Proxy",
    ),
    "weights that are none": ({"round_robin_host_weight_pairs": "db-1:heavy"}, "db-1"),
    "a resolver that cannot be called": ({"resolve": "dns"}, "resolve"),
    "an alias and its parameter with two values": ({"plugins": "failover", "wrapper_plugins": "efm"}, "two values"),
    "failover off and wanted": (
        {"enable_failover": False, "enable_connect_failover": True},
        "contradicts enable_failover=false",
    ),
    "two roles at once": (
        {"endpoint_substitution_role": "reader", "verify_opened_connection_type": "writer"},
        "ask for one role",
    ),
    "a pause longer than its limit": (
        {"open_connection_retry_interval_ms": 5000, "open_connection_retry_timeout_ms": 1000},
        "longer than open_connection_retry_timeout_ms",
    ),
    "a fast rate slower than the slow one": (
        {"cluster_topology_high_refresh_rate_ms": 2000, "topology_refresh_ms": 1000},
        "slower than topology_refresh_ms",
    ),
    "keepalive off and set": ({"tcp_keepalive": False, "tcp_keepalive_time": 5}, "contradicts tcp_keepalive=false"),
    "a parameter whose function is missing": ({"bg_id": "1"}, "lacks its function"),
    "a parameter of a plugin that is not named": ({"iam_region": "eu-west-1"}, "plugin iam, which plugins= does not name"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_parameter(name: str) -> None:
    parameters, message = CASES[name]
    with pytest.raises(ConfigurationError, match=message) as caught:
        aurora_actors.connect(psycopg.Connection.connect, NOWHERE, **parameters)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in CASES if all(isinstance(v, str) for v in CASES[name][0].values())])
def test_the_same_in_a_conninfo(name: str) -> None:
    parameters, message = CASES[name]
    text = " ".join(f"{key}='{value}'" for key, value in parameters.items())
    with pytest.raises(ConfigurationError, match=message):
        aurora_actors.connect(psycopg.Connection.connect, f"{NOWHERE} {text}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (42, "the driver's connect or a URL, not int"),
        ("no url", "a URL is needed"),
        ("oracle://h/d", "oracle"),
        (dict.fromkeys, "no connect of a driver that is known"),
    ],
)
def test_a_wrong_target(target: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        aurora_actors.connect(target)


def test_a_url_and_a_conninfo() -> None:
    with pytest.raises(ConfigurationError, match="or a URL alone"):
        aurora_actors.connect("postgresql://h/d", "host=h")


def test_an_asyncio_target_in_a_thread() -> None:
    with pytest.raises(ConfigurationError, match="aio"):
        aurora_actors.connect(psycopg.AsyncConnection.connect, NOWHERE)


def test_a_parameter_that_nobody_knows_is_the_driver_s_error(listening: tuple[str, int]) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="zzz"):
        aurora_actors.connect(psycopg.Connection.connect, NOWHERE, zzz=1)


def test_a_missing_driver_is_said_with_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import aurora_actors, threading\n"
        "try:\n"
        "    aurora_actors.connect('postgresql://h/d')\n"
        "except aurora_actors.ConfigurationError as error:\n"
        "    print(threading.active_count(), error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("1 ")
    assert "pip install 'aurora-actors[psycopg]'" in done.stdout


# What only a server, or its absence, can tell is the driver's own error, and never a hang.


@pytest.fixture
def listening() -> Iterator[tuple[str, int]]:
    """A port on which nothing is ever answered."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        yield "127.0.0.1", deaf.getsockname()[1]


def test_a_wrong_password(aurora_lab: PostgresLab) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
        connect(aurora_lab, password="wrong")
    assert type(caught.value).__module__.startswith("psycopg")
    assert not [thread for thread in our_threads() if "topology" in thread or "failover" in thread]


def test_a_missing_database(aurora_lab: PostgresLab) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(aurora_lab, dbname="nowhere")


def test_a_name_that_nobody_knows(aurora_lab: PostgresLab) -> None:
    unknown = "other.cluster-abc.us-east-1.rds.amazonaws.com"
    with pytest.raises(OSError, match="no name of the lab's cluster"):
        connect(aurora_lab, host=unknown)


def test_a_port_where_nobody_listens(listening: tuple[str, int], aurora_lab: PostgresLab) -> None:
    aurora_lab.crash(aurora_lab.writer)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(aurora_lab)


def test_a_server_that_never_answers(listening: tuple[str, int]) -> None:
    host, port = listening
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        aurora_actors.connect(
            psycopg.connect, f"host={host} port={port} user=x connect_timeout=2", plugins="failover"
        )


def test_a_host_that_drops_packets(aurora_lab: PostgresLab) -> None:
    aurora_lab.black_hole(aurora_lab.writer)
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        connect(aurora_lab, connect_timeout=2)
