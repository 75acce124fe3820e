"""Sign in at Active Directory Federation Services: its form, as a browser fills it in, started by the provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlencode

from aurora_actors.errors import OperationalError
from aurora_actors.plugin import Assertion, Setting
from aurora_actors_plugins.sign_in import HTTP, Page, Refused, WebProvider, origin_of, saml_of, text_of

if TYPE_CHECKING:
    from bs4 import Tag

__all__ = ["Adfs"]

LOOK_AT = "idp_endpoint, idp_port and rp_identifier"
_ROWS = (
    Setting("idp_port", "int", default=443, wrapper_default="443", used_by=("federated_auth",), least=1, most=65535,
            example="443", meaning="its port"),
    Setting("rp_identifier", default="urn:amazon:webservices", wrapper_default="urn:amazon:webservices",
            used_by=("federated_auth",), meaning="the relying party at ADFS that stands for AWS"),
)  # fmt: skip


class Adfs(WebProvider):
    """Fills in the form that ``IdpInitiatedSignOn.aspx`` shows."""

    name = "adfs"
    parameters: ClassVar[Mapping[str, Setting]] = {**HTTP, **{row.name: row for row in _ROWS}}

    def sign_in(self, user: str, password: str) -> Assertion:
        """The response of SAML that the form leads to."""
        self.port = self.settings["idp_port"]
        query = urlencode({"loginToRp": self.settings["rp_identifier"]})
        page = self.asked("GET", self.url(f"/adfs/ls/IdpInitiatedSignOn.aspx?{query}"), look_at=LOOK_AT)
        form = _form(page)
        target = page.link(text_of(form, "action"))
        if origin_of(target) != origin_of(page.url):
            raise OperationalError(f"adfs: the form for signing in leads to another host; look at {LOOK_AT}")
        page = self.asked("POST", target, look_at=LOOK_AT, data=_filled_in(form, user, password))
        found = saml_of(page)
        if not found:
            raise Refused(
                "adfs: the sign-in was refused, or wants more than a password; look at idp_username, idp_password and"
                " rp_identifier"
            )
        return Assertion("saml", found)


def _form(page: Page) -> Tag:
    for form in page.html().find_all("form"):
        if any("password" in text_of(field, "name").lower() for field in form.find_all("input")):
            return form
    raise OperationalError(f"adfs: the page has no form for signing in (status {page.status}); look at {LOOK_AT}")


def _filled_in(form: Tag, user: str, password: str) -> dict[str, str]:
    """The fields by ADFS's names for them; what is in the form already stays."""
    fields: dict[str, str] = {}
    for field in form.find_all("input"):
        name, value = text_of(field, "name"), text_of(field, "value")
        plain = name.lower()
        if "username" in plain:
            fields[name] = user
        elif "password" in plain:
            fields[name] = password
        elif name and (value or "authmethod" not in plain):
            fields[name] = value
    return fields
