"""How identity providers are spoken to: HTTPS with certificates verified, redirects bounded, HTML read by a parser.

Blocks; any thread. `requests` and `bs4` are imported with the first sign-in. Errors name the parameter that may be wrong
and never hold a part of what was sent or answered.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from aurora_actors.errors import ConfigurationError, OperationalError
from aurora_actors.plugin import IdentityProvider, Setting
from aurora_actors_plugins.aws import unheard

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from requests import Response, Session

__all__ = ["HTTP", "Page", "Refused", "WebProvider", "origin_of", "saml_of", "text_of"]

log = logging.getLogger("aurora_actors.plugins")

REDIRECTS = 10
"""A sign-in takes one or two."""

_BY = ("federated_auth", "okta")
_ROWS = (
    Setting("idp_endpoint", wrapper_default="", used_by=_BY, example="sso.example.com",
            meaning="host name of the identity provider, without https://"),
    Setting("http_request_connect_timeout", "int", default=60, wrapper_default="60", unit="s", least=1, most=600,
            used_by=_BY, example="60", meaning="limit of one request to the identity provider"),
    Setting("ssl_secure", "bool", default=True, wrapper_default="true", used_by=_BY,
            meaning="verify the identity provider's certificate, by REQUESTS_CA_BUNDLE if that is set"),
)  # fmt: skip
HTTP: Mapping[str, Setting] = {row.name: row for row in _ROWS}

_HOST_AND_PATH = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._~%-]+)*")
_warned: set[str] = set()


class Refused(OperationalError):
    """The identity provider did not take the user: to try again would only come closer to a locked account."""


class Page:
    """What an identity provider answered, and where."""

    def __init__(self, response: Response) -> None:
        self.url: str = response.url
        self.status = response.status_code
        self._response = response

    def link(self, target: str) -> str:
        """The URL that *target* means on this page; empty where it is none."""
        try:
            return urljoin(self.url, target)
        except ValueError:
            return ""

    def html(self) -> BeautifulSoup:
        from bs4 import BeautifulSoup

        return BeautifulSoup(self._response.text, "html.parser")

    def json(self) -> Mapping[str, Any]:
        """The object in it; empty where it is none."""
        try:
            found = self._response.json()
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class WebProvider(IdentityProvider):
    """An identity provider that is spoken to by HTTPS. One object signs in once: it keeps the cookies."""

    port = 443
    _session: Session | None = None

    def url(self, path: str) -> str:
        """*path* at ``idp_endpoint``. Raises ``ConfigurationError`` where that is no host."""
        endpoint = str(self.settings["idp_endpoint"] or "").rstrip("/")
        if not endpoint:
            raise ConfigurationError(f"{self.name} needs idp_endpoint, the host name of the identity provider")
        if not _HOST_AND_PATH.fullmatch(endpoint):
            raise ConfigurationError("idp_endpoint is no host name: give it without https:// and port")
        host, slash, rest = endpoint.partition("/")
        return f"https://{host}{'' if self.port == 443 else f':{self.port}'}{slash}{rest}{path}"

    def asked(self, method: str, url: str, *, look_at: str, **sent: Any) -> Page:
        """The answer, after redirects, which carry nothing of what was *sent*. *look_at*: parameters that may be wrong.

        Raises ``OperationalError`` for what is no answer; any status below 500 is one.
        """
        host = origin_of(url)[1].partition(":")[0]
        doing = f"{self.name}: the sign-in at {host} failed"
        try:
            import requests
            import urllib3
        except ImportError:
            raise ConfigurationError(
                "identity providers are spoken to by requests, which is missing: pip install 'aurora-actors[aws]'"
            ) from None
        secure = bool(self.settings["ssl_secure"])
        if not secure:
            if host not in _warned:
                _warned.add(host)
                log.warning("ssl_secure=False: whoever stands between us and %s can take the passwords sent there", host)
            said = f"Unverified HTTPS request is being made to host '{host}'"
            warnings.filterwarnings("ignore", said, urllib3.exceptions.InsecureRequestWarning)
        self._session = self._session or requests.Session()
        limit = self.settings["http_request_connect_timeout"]
        try:
            with unheard():
                for _ in range(REDIRECTS):
                    if origin_of(url)[0] != "https":
                        raise OperationalError(f"{doing}: it leads away from https; look at {look_at}")
                    response = self._session.request(
                        method, url, allow_redirects=False, verify=secure, timeout=limit, **sent
                    )
                    if not response.is_redirect:
                        break
                    # Like browsers after 302; 307 would have the password sent on, and nobody needs it.
                    method, url, sent = "GET", urljoin(url, response.headers["location"]), {}
                else:
                    raise OperationalError(f"{doing}: it redirects in a circle; look at {look_at}")
        except requests.exceptions.SSLError:
            cure = "its certificate cannot be verified; name its authority by REQUESTS_CA_BUNDLE, or give ssl_secure=False"
        except requests.exceptions.Timeout:
            cure = f"no answer within http_request_connect_timeout={limit}; look at idp_endpoint"
        except (requests.exceptions.RequestException, ValueError):
            cure = f"it cannot be reached; look at {look_at}, or at the network"
        else:
            if response.status_code < 500:
                return Page(response)
            cure = f"it answered with status {response.status_code}; look at {look_at}"
        raise OperationalError(f"{doing}: {cure}") from None


def origin_of(url: str) -> tuple[str, str]:
    """Scheme, host and port of *url*; empty where it is none."""
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return "", ""


def text_of(tag: Tag, attribute: str) -> str:
    """An attribute's text; empty where it is missing."""
    found = tag.get(attribute)
    return found if isinstance(found, str) else ""


def saml_of(page: Page) -> str:
    """The response of SAML in a form of *page*; empty where there is none."""
    field = page.html().find("input", attrs={"name": "SAMLResponse"})
    return "" if field is None else text_of(field, "value")
