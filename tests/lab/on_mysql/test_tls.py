"""TLS and tokens on the MySQL lab."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import mysql.connector
import mysql.connector.aio as aio
import pytest

import aurora_actors
import aurora_actors.aio
from aurora_actors.actors.polling import Poller
from aurora_actors.drivers.base import Place
from aurora_actors.lab import LabError, MysqlLab
from tests.failover.conftest import no_cluster_left
from tests.lab.tokens import USER, token

__all__ = ["no_cluster_left"]

behind_fronts = pytest.mark.aurora_mysql_lab(hosts=2, tls=True, token_user=USER)
BOUND_SECONDS = 30.0
WHO = "SELECT @@aurora_server_id"


def verified(lab: MysqlLab) -> dict[str, Any]:
    return {"ssl_ca": str(lab.ca_file), "ssl_verify_cert": True, "ssl_verify_identity": True}


def with_token(lab: MysqlLab, **changed: Any) -> dict[str, Any]:
    port = lab.address(lab.writer)[1]
    return {"user": USER, "password": token(host=lab.writer_endpoint, port=port, **changed),
            "auth_plugin": "mysql_clear_password"}  # fmt: skip


def answer(conn: Any, statement: str) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@behind_fronts
def test_a_failover_goes_through_tls(aurora_mysql_lab: MysqlLab) -> None:
    """Nobody gets in otherwise with a token: neither the application nor the monitors."""
    lab = aurora_mysql_lab
    given = {**verified(lab), **with_token(lab), "use_pure": True, "autocommit": True}
    conn = aurora_actors.connect(mysql.connector.connect, lab.conninfo(), **given)
    lab.failover()
    with pytest.raises(aurora_actors.FailoverSuccessError):
        answer(conn, "SELECT 1")
    assert answer(conn, WHO) == lab.writer
    assert conn._ssl_active
    conn.close()


@behind_fronts
def test_monitors_verify_the_name_as_the_application_does(aurora_mysql_lab: MysqlLab) -> None:
    lab = aurora_mysql_lab
    conn = aurora_actors.connect(mysql.connector.connect, lab.conninfo(), use_pure=True, **verified(lab))
    access = conn._aa_link.proxy.access
    poller = Poller()

    def logged_in_to(name: str) -> Any:
        place = Place(name, (lab.address("database-1"),))
        task = poller.start("login", access.driver.open_probe(access, place, poller), monotonic() + BOUND_SECONDS)
        while not task.is_done:
            poller.get()
            poller.ended()
        return task

    logged_in_to(lab.writer_endpoint).result.close()
    assert "Hostname mismatch" in str(logged_in_to("other.example").error)
    poller.close()
    conn.close()


@behind_fronts
def test_a_failover_goes_through_tls_on_asyncio(aurora_mysql_lab: MysqlLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = aurora_mysql_lab
    # The driver's aio takes ssl_ca only together with a client's own certificate.
    monkeypatch.setenv("SSL_CERT_FILE", str(lab.ca_file))

    async def run() -> None:
        given = {"ssl_verify_cert": True, "ssl_verify_identity": True, "autocommit": True}
        conn = await aurora_actors.aio.connect(aio.connect, lab.conninfo(), **given)
        await asyncio.to_thread(lab.failover)
        cursor = await conn.cursor()
        with pytest.raises(aurora_actors.FailoverSuccessError):
            await cursor.execute("SELECT 1")
        await cursor.execute(WHO)
        assert (await cursor.fetchone())[0] == lab.writer
        assert conn._ssl_active
        await conn.close()
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await aurora_actors.aio.connect(
                aio.connect, lab.conninfo(host="other.example"), resolve=lambda *_: [lab.address(lab.writer)], **given
            )

    asyncio.run(run())


def check_names(lab: MysqlLab) -> None:
    given = {**verified(lab), "use_pure": True}
    conn = aurora_actors.connect(mysql.connector.connect, lab.conninfo("database-2"), **given)
    assert conn._ssl_active
    conn.close()
    with pytest.raises(mysql.connector.Error, match="Hostname mismatch"):
        aurora_actors.connect(
            mysql.connector.connect, lab.conninfo(host="other.example"),
            resolve=lambda _host, _port: [lab.address("database-1")], **given,
        )  # fmt: skip


@behind_fronts
def test_the_name_of_another_is_not_taken(aurora_mysql_lab: MysqlLab) -> None:
    check_names(aurora_mysql_lab)


@pytest.mark.aurora_mysql_lab(hosts=2, tls=True, flavour="multi-az")
def test_servers_without_a_front_serve_tls_themselves(aurora_mysql_lab: MysqlLab) -> None:
    check_names(aurora_mysql_lab)


@behind_fronts
@pytest.mark.parametrize(
    "changed", [{"made": datetime.now(UTC) - timedelta(seconds=1000)}, {"DBUser": "john"}], ids=["expired", "another's"]
)
def test_a_token_that_is_not_good_is_refused(aurora_mysql_lab: MysqlLab, changed: dict[str, Any]) -> None:
    address, port = aurora_mysql_lab.address("database-1")
    given = {"host": address, "port": port, "use_pure": True, **with_token(aurora_mysql_lab, **changed)}
    with pytest.raises(mysql.connector.Error, match="Access denied for user 'iam_user'") as refused:
        mysql.connector.connect(**given)
    assert (refused.value.errno, refused.value.sqlstate) == (1045, "28000")


def test_tokens_need_a_front() -> None:
    with pytest.raises(LabError, match="flavour 'aurora'"):
        MysqlLab(flavour="plain", tls=True, token_user=USER)
