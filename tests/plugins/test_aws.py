"""`iam` and `aws_secrets_manager` against AWS's answers over HTTP, from a server on loopback."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import mysql.connector
import psycopg
import pytest
from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import ThreadedMotoServer

import aurora_actors
from aurora_actors.errors import ConfigurationError, OperationalError
from aurora_actors.flow.io import BlockingIo
from aurora_actors.flow.running import run_blocking
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.plugin import Authenticate, Host, Plugin
from aurora_actors.proxies.context import Context
from aurora_actors.settings import Table, split
from aurora_actors.testing import PluginScript
from aurora_actors_plugins import aws, aws_secrets_manager, iam, tokens
from aurora_actors_plugins.aws_secrets_manager import SecretLogin
from aurora_actors_plugins.iam import Iam
from tests.failover.colours import Colour, colour
from tests.failover.conftest import no_cluster_left

__all__ = ["colour", "no_cluster_left"]

REGION = "eu-west-1"
INSTANCE = "orders-1.abc.eu-west-1.rds.amazonaws.com"
GREEN = "orders-green-abc123.abc.eu-west-1.rds.amazonaws.com"
BURST = 500
CROWD = 20
HIDDEN = "hidden-words"


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def as_somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", HIDDEN)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(tokens, "_kept", aws.Keeping())
    monkeypatch.setattr(aws_secrets_manager, "_kept", aws.Keeping())
    monkeypatch.setattr(aws_secrets_manager, "_worked", {})
    monkeypatch.setattr(aws, "_clients", {})


class Secret:
    """A secret in the cloud."""

    def __init__(self, cloud: str, name: str, text: str) -> None:
        self.name = name
        self.client = boto3.client("secretsmanager", region_name=REGION, endpoint_url=cloud)
        self.arn = str(self.client.create_secret(Name=name, SecretString=text)["ARN"])
        self.parameters: dict[str, Any] = {
            "secrets_manager_secret_id": name, "secrets_manager_region": REGION, "secrets_manager_endpoint": cloud,
        }  # fmt: skip

    def holds(self, password: str, user: str = "app") -> None:
        self.client.put_secret_value(SecretId=self.name, SecretString=login(password, user))


def login(password: str, user: str = "app") -> str:
    return json.dumps({"username": user, "password": password})


async def _as_given(call: Authenticate) -> Mapping[str, Any]:
    return call.parameters


def asked(
    plugin: Plugin, host: str = INSTANCE, refused: Mapping[str, Any] | None = None, **given: Any
) -> Mapping[str, Any]:
    call = Authenticate(Host(host, host, 5432), {"user": "app", **given}, refused)
    return run_blocking(plugin.authenticate(call, _as_given))


def real(kind: type[Plugin], **parameters: Any) -> Plugin:
    """A plugin with a context of production, for what several do at once."""
    settings, _ = split(parameters, (), Table(kind.parameters))
    driver: Any = type("Driver", (), {"name": "psycopg", "seeds": lambda self, parameters: [("", 0)]})()
    access = type("Access", (), {"parameters": {}})()
    proxy: Any = type(
        "Proxy", (), {"cluster": None, "driver": driver, "access": access, "io": BlockingIo(driver), "settings": settings}
    )()
    return kind(Context(proxy, kind))


def test_a_token_is_for_host_port_user_and_region_and_signed_once() -> None:
    plugin = Iam(PluginScript(Iam))
    first = asked(plugin)
    url = urlsplit("https://" + first["password"])
    assert (url.hostname, url.port, first["sslmode"]) == (INSTANCE, 5432, "require")
    query = parse_qs(url.query)
    assert (query["Action"], query["DBUser"], query["X-Amz-Expires"]) == (["connect"], ["app"], ["900"])
    assert f"/{REGION}/rds-db/" in query["X-Amz-Credential"][0]
    assert asked(Iam(PluginScript(Iam)))["password"] == first["password"]
    other = Iam(PluginScript(Iam, aws_credentials_provider=lambda: boto3.Session("OTHER", HIDDEN)))
    assert "OTHER" in asked(other)["password"]


def test_a_burst_on_a_cold_cache_signs_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    ready = Barrier(BURST)

    class Signer:
        def generate_db_auth_token(self, host: str, port: int, user: str, region: str) -> str:
            made.append(host)
            return f"token {len(made)}"

    monkeypatch.setattr(iam, "client", lambda *_: Signer())

    def connect() -> str:
        plugin = real(Iam)
        ready.wait()
        return str(asked(plugin)["password"])

    with ThreadPoolExecutor(BURST) as pool:
        tokens = {each.result() for each in [pool.submit(connect) for _ in range(BURST)]}
    assert (tokens, len(made)) == ({"token 1"}, 1)
    plugin = real(Iam)
    fresh = asked(plugin, refused={"password": "token 1"})
    assert fresh["password"] == "token 2"
    assert asked(plugin, refused=fresh) is fresh, "a second refusal goes on to the application"


def test_a_refused_token_of_a_green_host_is_followed_by_one_for_the_name_that_it_takes_over() -> None:
    plugin = Iam(PluginScript(Iam))
    first = asked(plugin, GREEN)
    assert first["password"].startswith(GREEN)
    assert asked(plugin, GREEN, first)["password"].startswith("orders.abc.eu-west-1")


def test_a_token_is_renewed_ahead_of_its_end_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: aws.Keeping[str] = aws.Keeping()
    clock = [0.0]
    monkeypatch.setattr(aws, "monotonic", lambda: clock[0])
    begun: list[Any] = []
    script = PluginScript(Iam)
    monkeypatch.setattr(script, "meanwhile", lambda key, fn: begun.append(fn))
    values = iter(["one", "two", "three"])

    def current() -> str:
        return run_blocking(kept.current(script, "key", lambda: next(values), 810, 870))

    assert (current(), len(begun)) == ("one", 0)
    clock[0] = 811
    assert (current(), len(begun)) == ("one", 1)
    begun.pop()()
    assert (current(), len(begun)) == ("two", 0)
    clock[0] = 811 + 871
    assert (current(), len(begun)) == ("three", 0)


def test_an_outage_does_not_stop_connects_that_have_a_secret(monkeypatch: pytest.MonkeyPatch, cloud: str) -> None:
    secret = Secret(cloud, "outage", login("one"))
    plugin = real(SecretLogin, **secret.parameters, secrets_manager_expiration=1)
    assert asked(plugin)["password"] == "one"
    kept = aws_secrets_manager._kept
    (key,) = kept._kept
    kept._kept[key] = replace(kept._kept[key], renew_at=0.0)

    def out(*_: Any) -> Any:
        raise OSError("no way there")

    monkeypatch.setattr(aws_secrets_manager, "client", out)
    script: Any = PluginScript(SecretLogin, **secret.parameters, secrets_manager_expiration=1)
    begun: list[Any] = []
    monkeypatch.setattr(script, "meanwhile", lambda key, fn: begun.append(fn))
    plugin = SecretLogin(script)
    assert asked(plugin)["password"] == "one"
    with pytest.raises(OperationalError, match="fetching the secret outage"):
        begun.pop()()
    assert asked(plugin)["password"] == "one"
    assert not begun, "AWS is not asked again at once"


def test_a_refused_secret_is_fetched_anew_and_a_rotation_waited_for(cloud: str) -> None:
    secret = Secret(cloud, "rotating", login("one"))
    script: Any = PluginScript(SecretLogin, **secret.parameters)
    plugin = SecretLogin(script)
    first = asked(plugin)
    assert asked(plugin, refused=first) == first, "nobody knows that it ever worked"
    assert script.slept == []

    async def opened(_: Any) -> str:
        return "connection"

    run_blocking(plugin.connect(None, opened))  # type: ignore[arg-type]
    slept = script.sleep

    async def sleep(seconds: float) -> None:
        await slept(seconds)
        if len(script.slept) == 3:
            secret.holds("two")

    script.sleep = sleep
    assert asked(plugin, refused=first)["password"] == "two"
    assert script.slept == [0.5, 1.0, 2.0]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that AWS was asked for."""
    asked_for: list[str] = []
    answer = SecretsManagerBackend.get_secret_value

    def counted(self: Any, secret_id: str, *given: Any, **more: Any) -> Any:
        asked_for.append(secret_id)
        return answer(self, secret_id, *given, **more)

    monkeypatch.setattr(SecretsManagerBackend, "get_secret_value", counted)
    return asked_for


def test_a_burst_on_a_cold_cache_asks_for_the_secret_once(cloud: str, fetched: list[str]) -> None:
    secret = Secret(cloud, "burst", login("one"))
    ready = Barrier(BURST)

    def connect() -> str:
        plugin = real(SecretLogin, **secret.parameters)
        ready.wait()
        return str(asked(plugin)["password"])

    with ThreadPoolExecutor(BURST) as pool:
        assert {each.result() for each in [pool.submit(connect) for _ in range(BURST)]} == {"one"}
    assert fetched == ["burst"]


@pytest.mark.lab
def test_a_burst_of_connections_asks_for_the_secret_once(aurora_lab: PostgresLab, cloud: str, fetched: list[str]) -> None:
    secret = Secret(cloud, "crowd", login(aurora_lab.login.password, aurora_lab.login.user))
    ready = Barrier(CROWD)

    def connect(_: int) -> Any:
        ready.wait()
        given: dict[str, Any] = {"password": "no password", "plugins": "failover,efm,aws_secrets_manager"}
        with aurora_actors.connect(psycopg.connect, aurora_lab.conninfo(), **given, **secret.parameters) as conn:
            return conn.execute("SELECT 1").fetchone()

    with ThreadPoolExecutor(CROWD) as pool:
        assert list(pool.map(connect, range(CROWD))) == [(1,)] * CROWD
    assert fetched == ["crowd"]


@pytest.mark.lab
def test_mysql_sessions_and_monitors_log_in_with_the_secret(aurora_mysql_lab: MysqlLab, cloud: str) -> None:
    lab = aurora_mysql_lab
    secret = Secret(cloud, "lab-mysql", login(lab.login.password, lab.login.user))
    given: dict[str, Any] = {"password": "no password", "use_pure": True, "plugins": "failover,efm,aws_secrets_manager"}
    conn: Any = aurora_actors.connect(mysql.connector.connect, lab.conninfo(), **given, **secret.parameters)
    cursor = conn.cursor()
    lab.failover()
    with suppress(aurora_actors.FailoverSuccessError):
        cursor.execute("SELECT 1")
        cursor.fetchall()
    cursor.execute("SELECT @@aurora_server_id")
    assert cursor.fetchone() == (lab.writer,)
    conn.close()


@pytest.mark.lab
def test_sessions_and_monitors_log_in_with_the_secret_of_the_moment(
    aurora_lab: PostgresLab, colour: Colour, cloud: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user = aurora_lab.login.user
    secret = Secret(cloud, f"lab-{colour.name}", login(aurora_lab.login.password, user))
    own: dict[str, Any] = {"plugins": "failover,efm,aws_secrets_manager", "password": "no password", **secret.parameters}
    with colour.connect(aurora_lab, autocommit=True, **own) as conn:
        conn.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{HIDDEN}'")
        secret.holds(HIDDEN, user)
        try:
            with colour.connect(aurora_lab, **own) as other:
                assert other.execute("SELECT 1").fetchone() == (1,)
            aurora_lab.failover()
            with pytest.raises(aurora_actors.FailoverSuccessError):
                conn.execute("SELECT 1")
        finally:
            conn.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{aurora_lab.login.password}'")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("aurora_actors"))
    assert HIDDEN not in ours


@pytest.mark.parametrize(
    ("host", "given", "own", "sentence"),
    [
        (INSTANCE, {"user": ""}, {}, "iam needs user"),
        ("127.0.0.1", {}, {"iam_region": REGION}, "an IP address: give iam_host"),
        ("db.example.com", {}, {"iam_region": REGION}, "no name of RDS: give iam_host"),
        ("db.example.com", {}, {"iam_host": "db.example.com"}, "give iam_region"),
        (INSTANCE, {"sslmode": "prefer"}, {}, "sslmode=prefer may not; give verify-full"),
        (INSTANCE, {"ssl_disabled": True}, {"driver": "mysql"}, "leave ssl_disabled away"),
        (INSTANCE, {}, {"driver": "mysql"}, "give use_pure=True"),
        (INSTANCE, {}, {"aws_profile": "nobody"}, "aws_profile=nobody is in no file"),
    ],
)
def test_what_no_token_can_be_signed_for(host: str, given: Any, own: Any, sentence: str) -> None:
    with pytest.raises((ConfigurationError, OperationalError), match=sentence) as caught:
        asked(Iam(PluginScript(Iam, **own)), host, **given)
    assert HIDDEN not in repr(caught.value)


def test_an_expired_sign_in_at_aws_is_said_with_the_command_that_renews_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[profile staff]\nsso_start_url = https://acme.awsapps.com/start\nsso_region = {REGION}\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(OperationalError, match="aws sso login --profile staff"):
        asked(Iam(PluginScript(Iam, aws_profile="staff")))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("junk", f"not json {HIDDEN}", "is no JSON object"),
        ("list", f'["{HIDDEN}"]', "is no JSON object"),
        ("keyless", json.dumps({"username": "app", "pass": HIDDEN}), "secrets_manager_secret_password_key"),
        ("number", json.dumps({"username": 7, "password": HIDDEN}), "secrets_manager_secret_username_key"),
    ],
)
def test_what_no_login_can_be_read_from(
    cloud: str, name: str, text: str, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Secret(cloud, name, text)
    caplog.clear()
    with pytest.raises(OperationalError, match=sentence) as caught:
        asked(SecretLogin(PluginScript(SecretLogin, **secret.parameters)))
    assert HIDDEN not in repr(caught.value)
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({}, "needs secrets_manager_secret_id"),
        ({"secrets_manager_secret_id": "orders"}, "secrets_manager_region is needed"),
        ({"secrets_manager_secret_id": "arn:aws:s3:::orders"}, "no ARN of a secret"),
    ],
)
def test_a_secret_that_cannot_be_found(own: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        SecretLogin(PluginScript(SecretLogin, **own))


def test_a_secret_that_is_not_there_is_said_to_be_missing(cloud: str) -> None:
    own: dict[str, Any] = {"secrets_manager_region": REGION, "secrets_manager_endpoint": cloud}
    with pytest.raises(OperationalError, match="no such secret in that region"):
        asked(SecretLogin(PluginScript(SecretLogin, secrets_manager_secret_id="nothing", **own)))


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_the_region_of_an_arn_counts_in_every_partition(partition: str) -> None:
    arn = f"arn:{partition}:secretsmanager:xx-north-1:123456789012:secret:orders-AbCdEf"
    assert aws_secrets_manager._region_of(arn) == "xx-north-1"
