"""TLS and tokens on the PostgreSQL lab."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
import pytest

import aurora_actors
import aurora_actors.aio
from aurora_actors.drivers.base import Place, ProbeError
from aurora_actors.flow.io import BlockingIo, Sockets
from aurora_actors.flow.running import run_blocking
from aurora_actors.lab import LabError, PostgresLab
from tests.failover.conftest import no_cluster_left
from tests.lab.tokens import USER, token

__all__ = ["no_cluster_left"]

pytestmark = pytest.mark.aurora_lab(tls=True, token_user=USER)
BOUND_SECONDS = 30.0
WHO = "SELECT aurora_db_instance_identifier()"


def verified(lab: PostgresLab, **more: Any) -> str:
    return lab.conninfo(**{"sslmode": "verify-full", "sslrootcert": str(lab.ca_file), **more})


def good_token(lab: PostgresLab) -> str:
    return token(host=lab.writer_endpoint, port=lab.address(lab.writer)[1])


@pytest.mark.parametrize("endpoint", ["writer", "reader", "database-2"])
def test_every_name_is_verified(aurora_lab: PostgresLab, endpoint: str) -> None:
    text = aurora_lab.conninfo(endpoint, sslmode="verify-full", sslrootcert=str(aurora_lab.ca_file))
    with aurora_actors.connect(psycopg.Connection.connect, text) as conn:
        assert conn.pgconn.ssl_in_use
        assert conn.info.host == aurora_lab.endpoint(endpoint)


@pytest.mark.parametrize("login", ["password", "token"])
def test_a_failover_goes_through_tls(aurora_lab: PostgresLab, login: str) -> None:
    """With a token, nobody gets in otherwise: neither the application nor the monitors."""
    more = {"user": USER, "password": good_token(aurora_lab)} if login == "token" else {}
    with aurora_actors.connect(psycopg.Connection.connect, verified(aurora_lab, **more), autocommit=True) as conn:
        aurora_lab.failover()
        with pytest.raises(aurora_actors.FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute(WHO).fetchone() == (aurora_lab.writer,)
        assert conn.pgconn.ssl_in_use


def test_a_failover_goes_through_tls_on_asyncio(aurora_lab: PostgresLab) -> None:
    async def run() -> None:
        text = verified(aurora_lab, user=USER, password=good_token(aurora_lab))
        conn = await aurora_actors.aio.connect(psycopg.AsyncConnection.connect, text, autocommit=True)
        async with conn:
            await asyncio.to_thread(aurora_lab.failover)
            with pytest.raises(aurora_actors.FailoverSuccessError):
                await conn.execute("SELECT 1")
            assert await (await conn.execute(WHO)).fetchone() == (aurora_lab.writer,)
            assert conn.pgconn.ssl_in_use

    asyncio.run(run())


def test_the_name_of_another_is_not_taken(aurora_lab: PostgresLab) -> None:
    """TLS goes by the name that was asked for, not by the address that the resolver gave and the certificate has, too."""
    address = aurora_lab.address("database-1")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        aurora_actors.connect(
            psycopg.Connection.connect, verified(aurora_lab, host="other.example"), resolve=lambda _host, _port: [address]
        )


def test_monitors_verify_the_name_as_the_application_does(aurora_lab: PostgresLab) -> None:
    with aurora_actors.connect(psycopg.Connection.connect, verified(aurora_lab)) as conn:
        access = conn._aa_link.proxy.access
        sockets = Sockets(BlockingIo(access.driver), monotonic() + BOUND_SECONDS)
        names = (aurora_lab.writer_endpoint, "other.example")
        places = [Place(name, (aurora_lab.address("database-1"),)) for name in names]
        run_blocking(access.driver.open_probe(access, places[0], sockets)).close()
        with pytest.raises(ProbeError, match="does not match host name"):
            run_blocking(access.driver.open_probe(access, places[1], sockets))


def test_a_host_that_comes_later_has_a_certificate(aurora_lab: PostgresLab) -> None:
    host = aurora_lab.add_reader().host
    text = aurora_lab.conninfo(host, sslmode="verify-full", sslrootcert=str(aurora_lab.ca_file))
    with aurora_actors.connect(psycopg.Connection.connect, text) as conn:
        assert conn.execute(WHO).fetchone() == (host,)


@pytest.mark.parametrize(
    ("age", "mode", "said"),
    [(1000, "require", 'PAM authentication failed for user "iam_user"'), (0, "disable", "no encryption")],
)
def test_a_login_that_is_not_taken(aurora_lab: PostgresLab, age: int, mode: str, said: str) -> None:
    address, port = aurora_lab.address("database-1")
    old = token(host=aurora_lab.writer_endpoint, port=port, made=datetime.now(UTC) - timedelta(seconds=age))
    with pytest.raises(psycopg.OperationalError, match=said):
        psycopg.connect(host=address, port=port, user=USER, password=old, dbname="db", sslmode=mode)


def test_no_tls_no_tokens() -> None:
    with pytest.raises(LabError, match="needs tls=True"):
        PostgresLab(token_user=USER)
