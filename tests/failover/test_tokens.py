"""`iam` against servers that take nothing but a good token, by TLS: sessions and monitors, in every face of the drivers."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from aurora_actors.errors import ConfigurationError, FailoverSuccessError
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors_plugins import aws, iam, tokens
from aurora_actors_plugins.aws import Keeping
from tests.failover.applications import MONITOR
from tests.failover.colours import Colour
from tests.failover.mysql_faces import BOUND_SECONDS, Face, in_every_face, monitors_log_in_again, query

USER = "iam_user"
QUICK: dict[str, Any] = {
    "plugins": "failover,efm,iam", "user": USER, "password": "no password", "topology_refresh_ms": 200,
    "cluster_topology_high_refresh_rate_ms": 50,
}  # fmt: skip
"""Monitors that ask often, so that one whose session was ended logs in again soon."""
by_token = pytest.mark.aurora_mysql_lab(hosts=2, tls=True, token_user=USER)


@pytest.fixture(autouse=True)
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that tokens were signed for, with credentials of nobody's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-words")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(tokens, "_kept", Keeping())
    made: list[str] = []
    client = aws.client

    class Signer:
        def __init__(self, *given: Any) -> None:
            self.inner = client(*given)

        def generate_db_auth_token(self, host: str, *given: Any) -> Any:
            made.append(host)
            return self.inner.generate_db_auth_token(host, *given)

    monkeypatch.setattr(iam, "client", Signer)
    return made


@pytest.mark.aurora_lab(hosts=2, tls=True, token_user=USER)
def test_postgres_sessions_and_monitors_log_in_with_the_token_of_the_moment(
    aurora_lab: PostgresLab,
    colour: Colour,
    signed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    verified = {"sslmode": "verify-full", "sslrootcert": str(aurora_lab.ca_file)}
    with colour.connect(aurora_lab, autocommit=True, **QUICK, **verified) as conn:
        assert conn.execute("SELECT current_user").fetchone() == (USER,)
        monkeypatch.setattr(tokens, "_kept", Keeping())  # all tokens have come to their ends
        before = len(signed)
        ended = conn.execute("SELECT clock_timestamp()").fetchone()[0]
        monitors = f"FROM pg_stat_activity WHERE application_name = '{MONITOR}' AND usename = current_user"
        conn.execute(f"SELECT pg_terminate_backend(pid) {monitors}")
        until = monotonic() + BOUND_SECONDS
        while not conn.execute(f"SELECT 1 {monitors} AND backend_start > %s", [ended]).fetchall():
            assert monotonic() < until, "no monitor logged in again"
        assert len(signed) > before
        aurora_lab.failover()
        with suppress(FailoverSuccessError):  # an idle session that was told of it moves without one
            conn.execute("SELECT 1")
        assert conn.execute("SELECT current_user, aurora_db_instance_identifier()").fetchone() == (USER, aurora_lab.writer)
    assert "X-Amz-Signature" not in caplog.text


def by_tls(face: Face, lab: MysqlLab, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters that have the server's certificate verified, as far as the face can behind a resolver."""
    if face.is_async:
        # The driver's aio takes ssl_ca only together with a client's own certificate.
        monkeypatch.setenv("SSL_CERT_FILE", str(lab.ca_file))
        return {"ssl_disabled": None, "ssl_verify_cert": True, "ssl_verify_identity": True}
    return {"ssl_ca": str(lab.ca_file), "ssl_verify_cert": True, "ssl_verify_identity": face.name == "pure"}


@by_token
@in_every_face
async def test_mysql_sessions_and_monitors_log_in_with_the_token_of_the_moment(
    aurora_mysql_lab: MysqlLab, face: Face, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = by_tls(face, aurora_mysql_lab, monkeypatch)
    async with face.connection(aurora_mysql_lab, **QUICK, **verified) as conn:
        monkeypatch.setattr(tokens, "_kept", Keeping())
        before = len(signed)
        await monitors_log_in_again(conn)
        assert len(signed) > before
        aurora_mysql_lab.failover()
        with suppress(FailoverSuccessError):  # an idle session that was told of it moves without one
            await query(conn, "SELECT 1")
        ((user,),) = await query(conn, "SELECT CURRENT_USER()")
        assert user.startswith(USER)


@by_token
@in_every_face
async def test_mysql_goes_by_tls_where_the_driver_sees_to_it(aurora_mysql_lab: MysqlLab, face: Face) -> None:
    given: dict[str, Any] = {"ssl_disabled": None, **QUICK}
    if face.name == "c":
        with pytest.raises(ConfigurationError, match="by TLS only: give use_pure=True or ssl_verify_cert=True"):
            await face.connect(aurora_mysql_lab, **given)
        return
    async with face.connection(aurora_mysql_lab, **given) as conn:
        assert conn._ssl_active
    with pytest.raises(ConfigurationError, match="by TLS only: leave ssl_disabled away"):
        await face.connect(aurora_mysql_lab, **{**given, "ssl_disabled": True})
