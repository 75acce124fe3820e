"""Every way to say where the database is: each connects to the lab, and knows what it can know of the cluster."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

import aurora_actors
from aurora_actors import FailoverSuccessError
from aurora_actors.actors.system import system
from aurora_actors.lab import PostgresLab
from aurora_actors.lab.template import OWNER
from tests.failover.applications import connect, where
from tests.failover.colours import Colour

ZONE = "xyz.us-east-1.rds.amazonaws.com"
PROXY = f"app.proxy-{ZONE}"
SECRET = "s3:cr@t/ %?#&'\\"


class Names:
    """A resolver that leads given names wherever a function says at that moment, with their aliases."""

    def __init__(self, leads: Callable[[str], tuple[str, int]], aliases: dict[str, str] | None = None) -> None:
        self.leads = leads
        self.aliases = aliases or {}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        self.asked.append(host)
        return [self.leads(host)]

    def canonical(self, host: str) -> str:
        return self.aliases.get(host, host)


def to_the_writer(lab: PostgresLab) -> Callable[[str], tuple[str, int]]:
    return lambda _: lab.address(lab.writer)


def by_lab(lab: PostgresLab) -> Callable[[str], tuple[str, int]]:
    """The lab's own names as the lab says; any other leads to the writer."""

    def lead(host: str) -> tuple[str, int]:
        try:
            return lab.resolve(host, 5432)[0]
        except socket.gaierror:
            return lab.address(lab.writer)

    return lead


def lose(lab: PostgresLab, conn: Any) -> Any:
    """Lose the session of a connection on a healthy host; the error that says so."""
    assert lab.kill_session(where(conn), conn.info.backend_pid)
    with pytest.raises(FailoverSuccessError) as caught:
        conn.execute("SELECT 1")
    assert conn.execute("SELECT 1").fetchone() == (1,)
    return caught.value


def hosts_known() -> list[str]:
    (cluster,) = system.clusters
    return [host.endpoint for host in cluster.cell.view.topology.hosts]


def test_behind_rds_proxy_recovery_goes_through_it_until_it_says_writer(aurora_lab: PostgresLab) -> None:
    resolve = Names(to_the_writer(aurora_lab))
    with connect(aurora_lab, host=PROXY, resolve=resolve) as conn:
        assert hosts_known() == [PROXY]
        before = where(conn)
        aurora_lab.failover()
        with pytest.raises(FailoverSuccessError) as caught:
            conn.execute("SELECT 1")
        assert caught.value.host is not None
        assert caught.value.host.endpoint == PROXY
        assert where(conn) == aurora_lab.writer != before
    assert set(resolve.asked) == {PROXY}


def test_behind_rds_proxy_a_pattern_names_the_hosts(aurora_lab: PostgresLab) -> None:
    resolve = Names(by_lab(aurora_lab))
    pattern = f"?.{ZONE}"
    with connect(aurora_lab, host=PROXY, resolve=resolve, cluster_instance_host_pattern=pattern) as conn:
        error = lose(aurora_lab, conn)
        assert error.host.endpoint == aurora_lab.endpoint(aurora_lab.writer)
        assert sorted(hosts_known()) == sorted(aurora_lab.endpoint(host) for host in aurora_lab.hosts)


def test_an_address_is_no_cluster_s_unless_something_was_asked_for(aurora_lab: PostgresLab) -> None:
    address, _ = aurora_lab.address(aurora_lab.writer)
    with connect(aurora_lab, host=address) as conn:
        assert system.clusters == ()
        assert aurora_lab.kill_session(where(conn), conn.info.backend_pid)
        with pytest.raises(psycopg.errors.AdminShutdown):
            conn.execute("SELECT 1")
    with connect(aurora_lab, host=address, plugins="failover") as conn:
        assert lose(aurora_lab, conn).host.endpoint == address
        assert hosts_known() == [address]


@pytest.mark.parametrize("endpoint", ["writer", "reader"])
def test_a_name_of_one_s_own_is_what_its_alias_is(aurora_lab: PostgresLab, endpoint: str) -> None:
    own = "orders.example.com"
    lab_names = by_lab(aurora_lab)
    target = aurora_lab.endpoint(endpoint)
    resolve = Names(lambda host: lab_names(target if host == own else host), {own: target})
    with connect(aurora_lab, host=own, resolve=resolve) as conn, connect(aurora_lab, endpoint):
        assert len(system.clusters) == 1
        before = where(conn)
        assert before in {"writer": (aurora_lab.writer,), "reader": aurora_lab.readers}[endpoint]
        assert lose(aurora_lab, conn).host.endpoint.endswith(ZONE)


def test_a_name_of_one_s_own_without_an_alias_is_nobody_s(aurora_lab: PostgresLab) -> None:
    resolve = Names(to_the_writer(aurora_lab))
    with connect(aurora_lab, host="orders.example.com", resolve=resolve) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert system.clusters == ()


def test_an_instance_endpoint_leads_to_the_cluster_it_belongs_to(aurora_lab: PostgresLab) -> None:
    reader = aurora_lab.readers[0]
    with connect(aurora_lab, reader) as conn:
        assert where(conn) == reader
        assert sorted(hosts_known()) == sorted(aurora_lab.endpoint(host) for host in aurora_lab.hosts)


@pytest.mark.parametrize("spelling", [str.upper, lambda name: f"{name}."])
def test_names_are_what_dns_takes_them_for(aurora_lab: PostgresLab, spelling: Callable[[str], str]) -> None:
    with connect(aurora_lab) as one, connect(aurora_lab, host=spelling(aurora_lab.writer_endpoint)) as other:
        assert where(one) == where(other)
        assert len(system.clusters) == 1


# What libpq understands


def test_several_hosts_are_tried_one_after_another(aurora_lab: PostgresLab) -> None:
    dead, alive = aurora_lab.readers[0], aurora_lab.writer
    aurora_lab.crash(dead)
    addresses = [aurora_lab.address(host) for host in (dead, alive)]
    hosts = ",".join(address for address, _ in addresses)
    with connect(aurora_lab, host=hosts, port=",".join(str(port) for _, port in addresses)) as conn:
        assert where(conn) == alive
    endpoints = ",".join(aurora_lab.endpoint(host) for host in (dead, alive))
    with connect(aurora_lab, host=endpoints) as conn:
        assert where(conn) == alive
        assert lose(aurora_lab, conn).host.id == alive


@pytest.mark.parametrize("by", ["address", "endpoint"])
@pytest.mark.parametrize("attributes", ["read-write", "read-only", "prefer-standby"])
def test_a_host_of_the_kind_that_is_asked_for_is_found_behind_a_resolver_too(
    aurora_lab: PostgresLab, colour: Colour, by: str, attributes: str
) -> None:
    reader, writer = aurora_lab.readers[0], aurora_lab.writer
    wanted, other = (writer, reader) if attributes == "read-write" else (reader, writer)
    named = aurora_lab.endpoint if by == "endpoint" else lambda host: aurora_lab.address(host)[0]
    resolve = aurora_lab.resolve if by == "endpoint" else lambda host, port: [(host, port)]
    given: dict[str, Any] = {"target_session_attrs": attributes, "autocommit": True, "resolve": resolve}
    with colour.connect(aurora_lab, host=f"{named(other)},{named(wanted)}", **given) as conn:
        assert where(conn) == wanted
    with pytest.raises(psycopg.OperationalError) if attributes != "prefer-standby" else nullcontext():
        colour.connect(aurora_lab, host=named(other), **given).close()


@contextmanager
def service_file(lab: PostgresLab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    file = folder / "services"
    login = lab.login
    file.write_text(
        f"[orders]\nhost={lab.writer_endpoint}\nport={lab.address(lab.writer)[1]}\n"
        f"dbname={login.database}\nuser={login.user}\npassword={login.password}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    yield


@pytest.mark.parametrize("way", ["conninfo", "keyword", "environment", "url"])
def test_a_service_file(
    aurora_lab: PostgresLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with service_file(aurora_lab, tmp_path, monkeypatch):
        if way == "environment":
            monkeypatch.setenv("PGSERVICE", "orders")
        given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
            "conninfo": ((psycopg.connect, "service=orders"), {}),
            "keyword": ((psycopg.connect,), {"service": "orders"}),
            "environment": ((psycopg.connect,), {}),
            "url": (("postgresql://?service=orders",), {}),
        }
        arguments, keywords = given[way]
        with aurora_actors.connect(*arguments, autocommit=True, **keywords) as conn:
            assert where(conn) == aurora_lab.writer
            assert lose(aurora_lab, conn).host.id == aurora_lab.writer


def test_the_environment(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    login = aurora_lab.login
    values = {
        "PGHOST": aurora_lab.writer_endpoint,
        "PGPORT": str(aurora_lab.address(aurora_lab.writer)[1]),
        "PGDATABASE": login.database,
        "PGUSER": login.user,
        "PGPASSWORD": login.password,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with aurora_actors.connect(psycopg.connect, autocommit=True) as conn:
        assert where(conn) == aurora_lab.writer
        assert lose(aurora_lab, conn).host.id == aurora_lab.writer


def test_a_socket_directory(aurora_lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a resolver is in force, which is asked nothing; and recovery goes through it."""
    folder, (_, port) = aurora_lab.directory / aurora_lab.writer, aurora_lab.address(aurora_lab.writer)
    conninfo = f"host={folder} port={port} dbname=postgres user={OWNER}"
    with aurora_actors.connect(psycopg.connect, conninfo, autocommit=True) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert system.clusters == ()
    monkeypatch.setenv("PGHOST", str(folder))
    for given in (conninfo, f"port={port} dbname=postgres user={OWNER}"):
        with aurora_actors.connect(psycopg.connect, given, autocommit=True, plugins="failover") as conn:
            assert aurora_lab.kill_session(aurora_lab.writer, conn.info.backend_pid)
            with pytest.raises(FailoverSuccessError) as caught:
                conn.execute("SELECT 1")
            assert caught.value.host is not None
            assert caught.value.host.endpoint == str(folder)
            assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.aurora_lab(password=SECRET, hosts=2)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_url_with_percent_encoded_credentials(aurora_lab: PostgresLab, scheme: str) -> None:
    login, (_, port) = aurora_lab.login, aurora_lab.address(aurora_lab.writer)
    url = f"{scheme}://{login.user}:{quote(SECRET, safe='')}@{aurora_lab.writer_endpoint}:{port}/{login.database}"
    for text in (url, f"{url}?plugins=failover&failover_timeout_sec=20&application_name=a%20b"):
        with aurora_actors.connect(text, autocommit=True) as conn:
            assert where(conn) == aurora_lab.writer
            assert lose(aurora_lab, conn).host.id == aurora_lab.writer
    with aurora_actors.connect(psycopg.connect, aurora_lab.conninfo(), autocommit=True) as conn:
        assert where(conn) == aurora_lab.writer


class Forward(socketserver.BaseRequestHandler):
    """Passes bytes on, both ways, until either side ends."""

    target: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.target) as far:
            back = threading.Thread(target=self._pump, args=(far, self.request), daemon=True)
            back.start()
            self._pump(self.request, far)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@contextmanager
def forward_from_ipv6(target: tuple[str, int]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

    handler = type("ForwardThere", (Forward,), {"target": target})
    try:
        server = Server(("::1", 0), handler)
    except OSError as error:
        pytest.skip(f"no ::1 on this machine: {error}")
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["keyword", "url"])
def test_an_ipv6_literal(aurora_lab: PostgresLab, form: str) -> None:
    login = aurora_lab.login
    with forward_from_ipv6(aurora_lab.address(aurora_lab.writer)) as port:
        if form == "url":
            target: tuple[Any, ...] = (f"postgresql://{login.user}:{login.password}@[::1]:{port}/{login.database}",)
        else:
            target = (psycopg.connect, aurora_lab.conninfo(host="::1", port=port))
        with aurora_actors.connect(*target, autocommit=True, plugins="failover") as conn:
            assert where(conn) == aurora_lab.writer
            assert lose(aurora_lab, conn).host.endpoint == "::1"
