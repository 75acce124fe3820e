"""`federated_auth` and `okta`: from identity providers over HTTPS, through AWS's answers, to a token."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from werkzeug.wrappers import Response

import aurora_actors
from aurora_actors.errors import ConfigurationError, Error
from aurora_actors.lab import MysqlLab, PostgresLab
from aurora_actors.testing import PluginScript
from aurora_actors_plugins import federated_auth, okta, sign_in
from aurora_actors_plugins.federated_auth import FederatedLogin, OktaLogin
from tests.failover.colours import Colour
from tests.failover.sweeps import FORMS, swept
from tests.lab.tokens import USER as TOKEN_USER
from tests.plugins.conftest import Install
from tests.plugins.identity_providers import ARN, PASSWORD, PROVIDER, SAML, SESSION, USER, Providers, serving
from tests.plugins.test_aws import INSTANCE, as_somebody, asked, cloud, colour, no_cluster_left, real

__all__ = ["as_somebody", "cloud", "colour", "no_cluster_left"]

HIDDEN = (PASSWORD, "words%20", "words+", SESSION, SAML, "client-words", "wrong words")
BURST = 50
KINDS = ("adfs", "okta", "oidc")
BOUND_SECONDS = 10.0
"""Only a failing test waits for it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    with serving(tmp_path_factory.mktemp("idp")) as made:
        yield made


@pytest.fixture
def idp(server: Providers, cloud: str, monkeypatch: pytest.MonkeyPatch) -> Providers:
    """The identity providers as new, trusted and known to AWS."""
    server.asked.clear()
    server.answers.clear()
    server.action = Providers.action
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.authority)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", cloud)
    monkeypatch.setattr(federated_auth, "_roles", {})
    # What one sign-in serves ends at a turn of half a minute.
    monkeypatch.setattr(federated_auth, "monotonic", lambda: 0.0)
    monkeypatch.setattr(sign_in, "_warned", set())
    # Okta has no parameter for a port: the usual one is not ours to open.
    monkeypatch.setattr(okta.Okta, "port", server.port)
    return server


def plugin_of(kind: str) -> type[FederatedLogin]:
    return OktaLogin if kind == "okta" else FederatedLogin


def parameters(kind: str, idp: Providers) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "adfs": {"idp_port": idp.port},
        "okta": {"app_id": "exk1"},
        "oidc": {"idp_port": idp.port, "idp_name": "oidc", "idp_endpoint": "localhost/realms/orders",
                 "oidc_client_id": "aurora", "oidc_client_secret": "client-words"},
    }  # fmt: skip
    shared = {"db_user": "app", "idp_endpoint": "localhost", "idp_username": USER, "idp_password": PASSWORD,
              "iam_role_arn": ARN, "iam_idp_arn": PROVIDER}  # fmt: skip
    return {**shared, **own[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sign_in_leads_to_a_token_of_the_role(kind: str, idp: Providers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script: Any = PluginScript(plugin_of(kind), **parameters(kind, idp))
    given = asked(plugin_of(kind)(script), user="", password="not asked for")
    url = urlsplit("https://" + given["password"])
    query = parse_qs(url.query)
    assert (given["user"], given["sslmode"], url.hostname, query["DBUser"]) == ("app", "require", INSTANCE, ["app"])
    assert query["X-Amz-Credential"][0].startswith("ASIA"), "the role's key, not this process's"
    assert query["X-Amz-Security-Token"]
    assert asked(plugin_of(kind)(script), user="", password="not asked for")["password"] == given["password"]
    assert idp.sign_ins == 1
    said = caplog.text + repr(script.settings)
    assert not [hidden for hidden in (*HIDDEN, given["password"]) if hidden in said]


def test_user_and_password_of_the_connection_are_those_of_the_provider_where_it_has_none(idp: Providers) -> None:
    own = {**parameters("adfs", idp), "idp_username": None, "idp_password": None}
    assert asked(FederatedLogin(PluginScript(FederatedLogin, **own)), user=USER, password=PASSWORD)["user"] == "app"
    with pytest.raises(Error, match="look at idp_username"):
        asked(FederatedLogin(PluginScript(FederatedLogin, **own)), user=USER, password="wrong words")
    assert idp.sign_ins == 2, "what was fetched for one password is not for another"


def test_a_burst_to_several_hosts_signs_in_once(idp: Providers) -> None:
    ready = Barrier(BURST)

    def connect(number: int) -> str:
        plugin = real(FederatedLogin, **parameters("adfs", idp))
        ready.wait()
        return str(asked(plugin, INSTANCE.replace("orders-1", f"orders-{number % 5}"))["password"])

    with ThreadPoolExecutor(BURST) as pool:
        tokens = {each.result() for each in [pool.submit(connect, number) for number in range(BURST)]}
    assert (len(tokens), idp.sign_ins) == (5, 1)


def test_a_refused_password_is_not_tried_again_at_once(idp: Providers) -> None:
    own = {**parameters("okta", idp), "idp_password": "wrong words"}
    for _ in range(3):
        with pytest.raises(Error, match="look at idp_username and idp_password"):
            asked(OktaLogin(PluginScript(OktaLogin, **own)))
    assert idp.sign_ins == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_sign_in_that_a_signal_handler_ends_keeps_nobody_waiting(
    idp: Providers, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    plugin: Any = real(FederatedLogin, **parameters("adfs", idp))
    monkeypatch.setattr(federated_auth, "session", lambda role: SimpleNamespace(client=lambda *_, **__: role))
    monkeypatch.setattr(FederatedLogin, "_role", lambda *_: {"aws_access_key_id": "ASIA"})

    def sign_in() -> None:
        plugin._signer("eu-west-1", {})

    with ThreadPoolExecutor(1) as pool:
        swept(sign_in, federated_auth._roles.clear, lambda _: pool.submit(sign_in).result(BOUND_SECONDS), form)


ADFS, AUTHN, APP = "/adfs/ls/IdpInitiatedSignOn.aspx", "/api/v1/authn", "/app/amazon_aws/exk1/sso/saml"
CONFIGURATION = "/realms/orders/.well-known/openid-configuration"


def led_to_junk(_: Any, start: Any) -> list[bytes]:
    """An answer that werkzeug's own `Response` would not give."""
    start("302 Found", [("Location", "https://[localhost/")])
    return []


@pytest.mark.parametrize(
    ("kind", "changed", "answers", "sentence"),
    [
        ("adfs", {"db_user": None}, {}, "federated_auth needs db_user"),
        ("okta", {"db_user": None}, {}, "okta needs db_user"),
        ("adfs", {"idp_username": None}, {}, "federated_auth needs idp_username and idp_password"),
        ("adfs", {"idp_endpoint": None}, {}, "needs idp_endpoint"),
        ("adfs", {"idp_endpoint": f"https://jane:{PASSWORD}@localhost"}, {}, "idp_endpoint is no host name"),
        ("adfs", {"idp_endpoint": "[localhost"}, {}, "idp_endpoint is no host name"),
        ("adfs", {"idp_port": 1}, {}, "cannot be reached; look at idp_endpoint, idp_port"),
        ("adfs", {"iam_role_arn": "orders"}, {}, "needs iam_role_arn as arn:aws:iam"),
        ("adfs", {"iam_role_arn": None}, {}, "needs iam_role_arn as arn:aws:iam"),
        ("okta", {"iam_idp_arn": ARN}, {}, "needs iam_idp_arn as arn:aws:iam"),
        ("okta", {"app_id": None}, {}, "okta needs app_id"),
        ("okta", {"app_id": "other"}, {}, r"no SAMLResponse \(status 404\); look at app_id"),
        ("oidc", {"oidc_client_id": None}, {}, "needs oidc_client_id"),
        ("oidc", {"idp_endpoint": "localhost"}, {}, "no provider of OpenID Connect"),
        ("adfs", {"idp_name": "nobody"}, {}, "no identity provider named 'nobody'"),
        ("adfs", {"idp_password": "wrong words"}, {}, "the sign-in was refused, or wants more"),
        ("oidc", {"idp_password": "wrong words"}, {}, r"no ID token was given \(status 400\); look at idp_username"),
        ("adfs", {}, {ADFS: Response(f"<p>{PASSWORD}")}, "no form for signing in"),
        ("adfs", {}, {ADFS: Response(status=302, headers={"Location": ADFS})}, "redirects in a circle; look at"),
        ("adfs", {}, {ADFS: Response(status=307, headers={"Location": "http://localhost/"})}, "away from https"),
        ("adfs", {}, {ADFS: led_to_junk}, "cannot be reached"),
        ("adfs", {}, {ADFS: Response('<form action="https://["><input name=password>')}, "leads to another host"),
        ("oidc", {}, {CONFIGURATION: Response('{"token_endpoint": "https://["}')}, "no provider of OpenID Connect"),
        ("adfs", {}, {ADFS: Response(SESSION, 503)}, "answered with status 503"),
        ("okta", {}, {AUTHN: Response(SESSION)}, "the answer is not Okta's"),
        ("okta", {}, {AUTHN: Response("[]")}, "the answer is not Okta's"),
        ("okta", {}, {AUTHN: Response('{"status": "MFA_REQUIRED"}')}, r"more than a password \(MFA_REQUIRED\)"),
        ("okta", {}, {APP: Response("<form><input name=SAMLResponse></form>")}, "no SAMLResponse"),
        ("oidc", {}, {CONFIGURATION: Response('{"token_endpoint": "http://localhost/token"}')}, "away from https"),
        ("okta", {}, {APP: Response(f"<input name=SAMLResponse value='{SESSION}'>")}, "taking the role arn:aws:iam"),
    ],
)
def test_what_no_sign_in_comes_of(
    kind: str,
    changed: Any,
    answers: Mapping[str, Any],
    sentence: str,
    idp: Providers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    idp.answers.update(answers)
    own = {**parameters(kind, idp), **changed}
    with pytest.raises(Error, match=sentence) as caught:
        asked(plugin_of(kind)(PluginScript(plugin_of(kind), **own)), user="", password="")
    said = caplog.text + "".join(traceback.format_exception(caught.value))
    assert not [hidden for hidden in HIDDEN if hidden in said]


@pytest.mark.parametrize("kind", ["adfs", "oidc"])
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("AccessDenied", "the role does not trust who signed in: look at iam_role_arn and iam_idp_arn"),
        ("InvalidIdentityToken", "AWS does not take what the provider says: look at iam_idp_arn and at the provider's keys"),  # noqa: E501
        ("IDPRejectedClaim", "the identity provider has taken back what it said"),
        ("ExpiredTokenException", "what the provider says has expired: look at the clocks of both"),
        ("RegionDisabledException", "RegionDisabledException"),
    ],
)
def test_what_aws_refuses(
    code: str, sentence: str, kind: str, idp: Providers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://localhost:{idp.port}")
    monkeypatch.setenv("AWS_CA_BUNDLE", idp.authority)
    said_by_aws = f"<Code>{code}</Code><Message>{SAML} is not for {SESSION}</Message>"
    idp.answers["/"] = Response(f"<ErrorResponse><Error>{said_by_aws}</Error></ErrorResponse>", 403, mimetype="text/xml")
    with pytest.raises(Error, match=rf"taking the role {ARN} \(iam_role_arn\) failed: {sentence}$") as caught:
        asked(plugin_of(kind)(PluginScript(plugin_of(kind), **parameters(kind, idp))), user="", password="")
    assert "POST /" in idp.asked
    said = caplog.text + "".join(traceback.format_exception(caught.value))
    assert not [hidden for hidden in HIDDEN if hidden in said]


@pytest.mark.parametrize(
    ("host", "own", "sentence"),
    [
        ("127.0.0.1", {}, "which is an IP address: give iam_host"),
        ("db.example.com", {}, "no name of RDS: give iam_host"),
        ("db.example.com", {"iam_host": "db.example.com"}, "give iam_region"),
    ],
)
def test_nobody_signs_in_for_a_host_that_no_token_can_be_for(host: str, own: Any, sentence: str, idp: Providers) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        asked(OktaLogin(PluginScript(OktaLogin, **parameters("okta", idp), **own)), host)
    assert not idp.asked


def test_a_form_that_leads_elsewhere_gets_no_password(idp: Providers) -> None:
    idp.action = "https://127.0.0.1/collect"
    with pytest.raises(Error, match="leads to another host"):
        asked(FederatedLogin(PluginScript(FederatedLogin, **parameters("adfs", idp))))
    assert idp.sign_ins == 0


def test_certificates_are_verified_unless_said_otherwise(
    idp: Providers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    own = parameters("adfs", idp)
    with pytest.raises(Error, match="cannot be verified; name its authority by REQUESTS_CA_BUNDLE, or give ssl_secure"):
        asked(FederatedLogin(PluginScript(FederatedLogin, **own)))
    assert not idp.asked
    for host in (INSTANCE, "database." + INSTANCE.partition(".")[2]):
        monkeypatch.setattr(federated_auth, "_roles", {})
        asked(FederatedLogin(PluginScript(FederatedLogin, **own, ssl_secure=False)), host)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert warned[0].startswith("ssl_secure=False: ")


def test_a_provider_of_a_stranger_has_parameters_of_its_own(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from aurora_actors.errors import OperationalError
        from aurora_actors.plugin import IdentityProvider, Setting

        class Acme(IdentityProvider):
            name = "acme"
            parameters = {"acme_door": Setting("acme_door", used_by=("acme",), meaning="which door")}

            def sign_in(self, user, password):
                raise OperationalError(f"{user} knocks at {self.settings['acme_door']}")
    """
    install("aurora_actors.identity_providers", source, {"acme": "Acme"})
    own = {"db_user": "app", "idp_name": "acme", "iam_role_arn": ARN, "iam_idp_arn": PROVIDER, "acme_door": "the back door"}
    with pytest.raises(Error, match="jane knocks at the back door"):
        aurora_actors.connect(
            psycopg.connect, f"host={INSTANCE} user=jane password=pwd", plugins="federated_auth",
            resolve=lambda *_: [("127.0.0.1", 1)], **own,
        )  # fmt: skip
    install("aurora_actors.identity_providers", "class Bad: pass", {"bad": "Bad"})
    with pytest.raises(Error, match=r"identity provider 'bad' of acme-extras 1\.2 cannot be used"):
        aurora_actors.connect(psycopg.connect, f"host={INSTANCE}", plugins="federated_auth", idp_name="bad")
    with pytest.raises(ConfigurationError, match="add it there"):
        aurora_actors.connect(psycopg.connect, f"host={INSTANCE}", app_id="exk1")


@pytest.mark.lab
@pytest.mark.aurora_lab(hosts=2, tls=True, token_user=TOKEN_USER)
@pytest.mark.parametrize("kind", KINDS)
def test_sessions_and_monitors_log_in_by_the_word_of_the_provider(
    kind: str, aurora_lab: PostgresLab, colour: Colour, idp: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own: dict[str, Any] = {
        **parameters(kind, idp), "db_user": TOKEN_USER, "password": "no password", "autocommit": True,
        "sslmode": "verify-full", "sslrootcert": str(aurora_lab.ca_file), "plugins": f"failover,efm,{plugin_of(kind).name}",
    }  # fmt: skip
    with colour.connect(aurora_lab, **own) as conn:
        aurora_lab.failover()
        with suppress(aurora_actors.FailoverSuccessError):
            conn.execute("SELECT 1")
        assert conn.execute("SELECT current_user, aurora_db_instance_identifier()").fetchone() == (
            TOKEN_USER, aurora_lab.writer,
        )  # fmt: skip
    assert not [hidden for hidden in (*HIDDEN, "X-Amz-Signature") if hidden in caplog.text]


@pytest.mark.lab
@pytest.mark.aurora_mysql_lab(hosts=2, tls=True, token_user=TOKEN_USER)
def test_mysql_sessions_log_in_by_the_word_of_okta(aurora_mysql_lab: MysqlLab, idp: Providers) -> None:
    import mysql.connector

    own: dict[str, Any] = {
        **parameters("okta", idp), "db_user": TOKEN_USER, "use_pure": True, "ssl_ca": str(aurora_mysql_lab.ca_file),
        "ssl_verify_cert": True, "ssl_verify_identity": True, "plugins": "failover,efm,okta",
    }  # fmt: skip
    conn: Any = aurora_actors.connect(mysql.connector.connect, aurora_mysql_lab.conninfo(), **own)
    cursor = conn.cursor()
    aurora_mysql_lab.failover()
    with suppress(aurora_actors.FailoverSuccessError):
        cursor.execute("SELECT 1")
    cursor.execute("SELECT CURRENT_USER()")
    assert cursor.fetchone()[0].startswith(TOKEN_USER)
    conn.close()
