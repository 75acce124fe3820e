"""Sign in at an identity provider, take a role of AWS by its word, and log in with that role's token.

    conn = aurora_actors.connect(
        "host=orders.cluster-abc.eu-west-1.rds.amazonaws.com dbname=orders", plugins="failover,efm,federated_auth",
        db_user="app", idp_endpoint="sso.example.com", idp_username="jane", idp_password=…,
        iam_role_arn="arn:aws:iam::123456789012:role/orders", iam_idp_arn="arn:aws:iam::123456789012:saml-provider/adfs")
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any, ClassVar

from aurora_actors.errors import ConfigurationError, Error
from aurora_actors.plugin import IdentityProvider, Setting, identity_provider
from aurora_actors_plugins.adfs import Adfs
from aurora_actors_plugins.aws import client, refused, session, unheard
from aurora_actors_plugins.oidc import Oidc
from aurora_actors_plugins.okta import Okta
from aurora_actors_plugins.sign_in import Refused
from aurora_actors_plugins.tokens import LONGEST_LIFE_SECONDS, SIGNING, TokenLogin

__all__ = ["FederatedLogin", "OktaLogin"]

SIGNED_IN_SECONDS = 30.0
"""One sign-in serves all hosts for so long at most, and one that was refused is not tried again: with a token's 870 s a
role's credentials, which last 900 s at least, outlive every token."""
ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+")
TRUST = re.compile(r"arn:aws[\w-]*:iam::\d{12}:saml-provider/[\w.-]+")

_BY = ("federated_auth", "okta")
_ROWS = (
    Setting("db_user", wrapper_default="", used_by=_BY, example="app", meaning="database user"),
    Setting("idp_username", wrapper_default="", used_by=_BY, example="jane@example.com",
            meaning="user at the identity provider; not given: user"),
    Setting("idp_password", wrapper_default="", used_by=_BY, secret=True, example="...",
            meaning="password there; not given: password, which may be a callable"),
    Setting("iam_role_arn", wrapper_default="", used_by=_BY, example="arn:aws:iam::123456789012:role/orders",
            meaning="the role to take"),
    Setting("iam_idp_arn", wrapper_default="", used_by=_BY, example="arn:aws:iam::123456789012:saml-provider/adfs",
            meaning="the identity provider as AWS knows it; not for OpenID Connect"),
    Setting("iam_token_expiration", "int", default=870, wrapper_default="870", unit="s", least=1,
            most=LONGEST_LIFE_SECONDS, used_by=_BY, example="870",
            meaning="how long a token is used; it is renewed before that"),
)  # fmt: skip
_SHARED = {**SIGNING, **{row.name: row for row in _ROWS}}


class _SignIn:
    """One for all who need it meanwhile. A signal handler that raises leaves the lock, the interpreter's own, free."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.role: Mapping[str, str] = {}
        self.error: Error | None = None


_roles: dict[tuple[int, int, str], _SignIn] = {}


class FederatedLogin(TokenLogin):
    """Signs with the credentials of a role that the word of an identity provider opens."""

    name = "federated_auth"
    order = 900
    life = "iam_token_expiration"
    parameters: ClassVar[Mapping[str, Setting]] = {
        **_SHARED, **Adfs.parameters, **Oidc.parameters,
        "idp_name": Setting("idp_name", "name", default="adfs", wrapper_default="adfs", used_by=("federated_auth",),
                            meaning="the provider: adfs, oidc, or another name of aurora_actors.identity_providers"),
    }  # fmt: skip

    def _provider(self) -> type[IdentityProvider]:
        return identity_provider(self._own["idp_name"])

    def _user(self, given: Mapping[str, Any]) -> str:
        user = str(self._own["db_user"] or "")
        if not user:
            raise ConfigurationError(f"{self.name} needs db_user, the database user that the token is for")
        return user

    def _needed(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**given, "password": None} if self._own["idp_password"] else given

    def _identity(self, given: Mapping[str, Any]) -> str:
        """Whoever does not know the password gets nothing that was fetched with it."""
        told = (self.name, self.context.settings.of_plugins, self._login(given))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def _login(self, given: Mapping[str, Any]) -> tuple[str, str]:
        """User and password for the identity provider."""
        own = self._own
        return str(own["idp_username"] or given.get("user") or ""), str(own["idp_password"] or given.get("password") or "")

    def _settings(self) -> Mapping[str, Any]:
        """The values of its parameters, and of those of a stranger's provider."""
        return {**self.context.settings.of_plugins, **self._own}

    def _signer(self, region: str, given: Mapping[str, Any]) -> Any:
        """With the role's credentials: of the latest sign-in, if that was just now. One sign-in for all who wait for it."""
        # A forked child waits for nobody of its parent's.
        key = (os.getpid(), int(monotonic() // SIGNED_IN_SECONDS), f"{region} {self._identity(given)}")
        one = _roles.setdefault(key, _SignIn())
        before = one.error
        with one.lock:
            # What failed while others waited failed for them, too.
            if not one.role and one.error is before and not isinstance(before, Refused):
                try:
                    one.role = self._role(region, given)
                except Error as error:
                    one.error = type(error)(*error.args)
                    raise
                for old in [old for old in list(_roles) if old[:2] < key[:2]]:
                    _roles.pop(old, None)
        if not one.role and one.error is not None:
            raise type(one.error)(*one.error.args)
        return session(one.role).client("rds", region_name=region)

    def _role(self, region: str, given: Mapping[str, Any]) -> Mapping[str, str]:
        """Sign in and take the role. Blocks."""
        own = self._settings()
        user, password = self._login(given)
        role, trust = str(own["iam_role_arn"] or ""), str(own["iam_idp_arn"] or "")
        if not user or not password:
            raise ConfigurationError(f"{self.name} needs idp_username and idp_password, the login at the identity provider")
        if not ROLE.fullmatch(role):
            raise ConfigurationError(f"{self.name} needs iam_role_arn as arn:aws:iam::<account>:role/<name>")
        provider = self._provider()
        if not TRUST.fullmatch(trust) and (trust or provider is not Oidc):
            raise ConfigurationError(f"{self.name} needs iam_idp_arn as arn:aws:iam::<account>:saml-provider/<name>")
        asked: dict[str, str] = {"RoleArn": role}
        found = provider(own).sign_in(user, password)
        if found.kind == "saml":
            asked |= {"PrincipalArn": trust, "SAMLAssertion": found.text}
        else:
            name = re.sub(r"[^\w+=,.@-]", "-", user, flags=re.ASCII)[:64]
            asked |= {"RoleSessionName": f"{name:-<2}", "WebIdentityToken": found.text}
        try:
            sts = client("sts", region, own)
            with unheard():
                take = sts.assume_role_with_saml if found.kind == "saml" else sts.assume_role_with_web_identity
                given_by_aws = take(**asked)["Credentials"]
        except Error:
            raise
        except Exception as error:  # noqa: BLE001 - boto3 raises of every kind; what it says may be anything
            raise refused(error, f"{self.name}: taking the role {role} (iam_role_arn)", own["aws_profile"]) from None
        names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
        return {ours: given_by_aws[theirs] for ours, theirs in {**names, "aws_session_token": "SessionToken"}.items()}


class OktaLogin(FederatedLogin):
    """The same at Okta."""

    name = "okta"
    order = 1000
    parameters: ClassVar[Mapping[str, Setting]] = {**_SHARED, **Okta.parameters}

    def _provider(self) -> type[IdentityProvider]:
        return identity_provider("okta")
