"""Sign in at Okta: primary authentication, then the page of an application with its session token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from aurora_actors.errors import ConfigurationError, OperationalError
from aurora_actors.plugin import Assertion, Setting
from aurora_actors_plugins.sign_in import HTTP, Refused, WebProvider, saml_of

__all__ = ["Okta"]

_WORD = re.compile(r"[A-Z_]{1,40}")


class Okta(WebProvider):
    """https://developer.okta.com/docs/reference/api/authn/, for policies that ask for no more than a password."""

    name = "okta"
    parameters: ClassVar[Mapping[str, Setting]] = {
        **HTTP,
        "app_id": Setting("app_id", wrapper_default="", used_by=("okta",), example="exk1abcd2EFGHij3k4l5",
                          meaning="the application at Okta that stands for AWS"),
    }  # fmt: skip

    def sign_in(self, user: str, password: str) -> Assertion:
        """The response of SAML of the application ``app_id``."""
        app = str(self.settings["app_id"] or "")
        if not app:
            raise ConfigurationError("okta needs app_id, the application at Okta that stands for AWS")
        page = self.asked(
            "POST", self.url("/api/v1/authn"), look_at="idp_endpoint",
            json={"username": user, "password": password}, headers={"Accept": "application/json"},
        )  # fmt: skip
        answer = page.json()
        token = answer.get("sessionToken")
        if page.status == 401:
            raise Refused("okta: the sign-in was refused; look at idp_username and idp_password")
        if not isinstance(token, str) or not token:
            status = answer.get("status")
            if isinstance(status, str) and _WORD.fullmatch(status):
                raise Refused(f"okta: the sign-in wants more than a password ({status}), which this plugin cannot give")
            raise OperationalError(f"okta: the answer is not Okta's (status {page.status}); look at idp_endpoint")
        path = f"/app/amazon_aws/{quote(app, safe='')}/sso/saml"
        page = self.asked("GET", self.url(path), look_at="app_id", params={"onetimetoken": token})
        found = saml_of(page)
        if not found:
            raise OperationalError(
                f"okta: the application's page has no SAMLResponse (status {page.status}); look at app_id"
            )
        return Assertion("saml", found)
