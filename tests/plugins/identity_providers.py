"""Identity providers as ADFS, Okta and OpenID Connect are seen from outside, over HTTPS on loopback, in one server."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

__all__ = ["ARN", "PASSWORD", "PROVIDER", "SESSION", "USER", "Providers", "serving"]

USER, PASSWORD = "jane@example.com", "words & <of> jäne"
ARN = "arn:aws:iam::123456789012:role/orders"
PROVIDER = "arn:aws:iam::123456789012:saml-provider/sso"
SESSION = "session-token-words"
FORM = """<html><body><form id="other" action="/search"><input name="q"></form>
<FORM method=post id="loginForm" action="{action}">
  <input id=userNameInput name='UserName' type=email value="">
  <input id="passwordInput" name="Password" type="password"><input type="checkbox" name="Kmsi" value="true"/>
  <input type=hidden name="AuthMethod" value="Forms&#x41;uthentication"><input type=hidden name=Context value="a&amp;b">
  </form>"""
_ATTRIBUTE = '<saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/{}"><saml:AttributeValue>{}</saml:AttributeValue></saml:Attribute>'
SAML = base64.b64encode(
    (
        '<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"><saml:Assertion'
        ' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><saml:AttributeStatement>'
        + _ATTRIBUTE.format("RoleSessionName", USER)
        + _ATTRIBUTE.format("Role", f"{ARN},{PROVIDER}")
        + "</saml:AttributeStatement></saml:Assertion></samlp:Response>"
    ).encode()
).decode()


@dataclass
class Providers:
    """What the server does, and what it was asked. *answers*: by path, in the place of what it would say."""

    port: int = 0
    authority: str = ""
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    action: str = "/adfs/ls/IdpInitiatedSignOn.aspx?loginToRp=urn:amazon:webservices"

    @property
    def sign_ins(self) -> int:
        """How often somebody gave a password."""
        return len([line for line in self.asked if line.startswith("POST")])

    def __call__(self, environ: Any, start: Any) -> Any:
        request = Request(environ)
        self.asked.append(f"{request.method} {request.path}")
        answer = self.answers.get(request.path) or self._answer(request)
        return answer(environ, start)

    def _answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/adfs/ls/IdpInitiatedSignOn.aspx":
                assert request.args["loginToRp"] == "urn:amazon:webservices"
                if request.cookies.get("MSISAuth") == SESSION:
                    return self._posted_on()
                return Response(FORM.format(action=self.action), mimetype="text/html")
            case "POST", "/adfs/ls/IdpInitiatedSignOn.aspx":
                assert request.mimetype == "application/x-www-form-urlencoded"
                others = (request.form["Kmsi"], request.form["AuthMethod"], request.form["Context"])
                assert others == ("true", "FormsAuthentication", "a&b")
                if (request.form["UserName"], request.form["Password"]) != (USER, PASSWORD):
                    return Response(FORM.format(action=self.action), mimetype="text/html")
                response = Response(status=302, headers={"Location": self.action})
                response.set_cookie("MSISAuth", SESSION, secure=True)
                return response
            case "POST", "/api/v1/authn":
                if request.get_json() != {"username": USER, "password": PASSWORD}:
                    return Response('{"errorCode":"E0000004"}', 401, mimetype="application/json")
                return Response(f'{{"status":"SUCCESS","sessionToken":"{SESSION}"}}', mimetype="application/json")
            case "GET", "/app/amazon_aws/exk1/sso/saml" if request.args["onetimetoken"] == SESSION:
                return self._posted_on()
            case "GET", "/realms/orders/.well-known/openid-configuration":
                place = f"https://localhost:{self.port}/token"
                return Response(f'{{"token_endpoint":"{place}"}}', mimetype="application/json")
            case "POST", "/token":
                if (request.form["username"], request.form["password"]) != (USER, PASSWORD):
                    return Response('{"error":"invalid_grant"}', 400, mimetype="application/json")
                assert request.form["client_id"] == "aurora"
                return Response(f'{{"id_token":"{SESSION}.a.b"}}', mimetype="application/json")
        return Response("<html>nothing here</html>", 404, mimetype="text/html")

    @staticmethod
    def _posted_on() -> Response:
        field = f'<input type=hidden name=SAMLResponse value="{SAML}"/>'
        page = f'<form method="POST" action="https://signin.aws.amazon.com/saml">{field}</form>'
        return Response(page, mimetype="text/html")


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - its name
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Providers]:
    """All of them on ``localhost:port``; ``authority`` is the file that clients have to trust."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    providers = Providers(authority=str(folder / "authority.pem"))
    server = make_server("127.0.0.1", 0, providers, threaded=True, request_handler=_Silent, ssl_context=context)
    providers.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, name="identity-providers", daemon=True)
    thread.start()
    try:
        yield providers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
