"""Sign in at any provider of OpenID Connect, for AWS's ``AssumeRoleWithWebIdentity``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from aurora_actors.errors import ConfigurationError, OperationalError
from aurora_actors.plugin import Assertion, Setting
from aurora_actors_plugins.adfs import Adfs
from aurora_actors_plugins.sign_in import HTTP, Refused, WebProvider, origin_of

__all__ = ["Oidc"]

LOOK_AT = "idp_endpoint and idp_port"
_ROWS = (
    Setting("oidc_client_id", used_by=("federated_auth",), example="aurora",
            meaning="the client that this application is at a provider of OpenID Connect (idp_name=oidc)"),
    Setting("oidc_client_secret", used_by=("federated_auth",), secret=True, example="...",
            meaning="its secret, if it has one"),
    Setting("oidc_scope", default="openid", used_by=("federated_auth",), meaning="the scope asked for"),
)  # fmt: skip


class Oidc(WebProvider):
    """Gives user and password for an ID token. ``idp_endpoint`` may have a path: ``sso.example.com/realms/orders``."""

    name = "oidc"
    parameters: ClassVar[Mapping[str, Setting]] = {
        **HTTP, "idp_port": Adfs.parameters["idp_port"], **{row.name: row for row in _ROWS},
    }  # fmt: skip

    def sign_in(self, user: str, password: str) -> Assertion:
        """The ID token, from the token endpoint that the provider's configuration names."""
        self.port = self.settings["idp_port"]
        client = str(self.settings["oidc_client_id"] or "")
        if not client:
            raise ConfigurationError("oidc needs oidc_client_id, the client that this application is at the provider")
        place = self.url("/.well-known/openid-configuration")
        endpoint = self.asked("GET", place, look_at=LOOK_AT).json().get("token_endpoint")
        if not isinstance(endpoint, str) or not all(origin_of(endpoint)):
            raise OperationalError(f"oidc: there is no provider of OpenID Connect; look at {LOOK_AT}")
        secret = self.settings["oidc_client_secret"]
        form = {
            "grant_type": "password", "client_id": client, "scope": self.settings["oidc_scope"],
            "username": user, "password": password, **({"client_secret": secret} if secret else {}),
        }  # fmt: skip
        page = self.asked("POST", endpoint, look_at=LOOK_AT, data=form)
        token = page.json().get("id_token")
        if isinstance(token, str) and token:
            return Assertion("web_identity", token)
        cures = "idp_username, idp_password, oidc_client_id, oidc_client_secret and oidc_scope"
        raise Refused(f"oidc: no ID token was given (status {page.status}); look at {cures}")
