"""What `iam` and the plugins for federated sign-in share: a token of RDS in the place of a password, over TLS alone."""

from __future__ import annotations

import ipaddress
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from aurora_actors.errors import ConfigurationError, Error
from aurora_actors.plugin import Authenticate, Plugin, PluginContext, Proceed, Setting, parse_endpoint
from aurora_actors_plugins.aws import PARAMETERS, Keeping, refused, unheard

__all__ = ["LONGEST_LIFE_SECONDS", "SIGNING", "TokenLogin"]

LONGEST_LIFE_SECONDS = 900
"""RDS takes a token for 15 minutes. https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html"""
MARGIN_SECONDS = 60
"""So long before its end a token is renewed; a shorter life is halved."""
SURE_OF_TLS = frozenset({"require", "verify-ca", "verify-full"})

_BY = ("iam", "federated_auth", "okta")
_ROWS = (
    Setting("iam_host", wrapper_default="", used_by=_BY, example="orders.cluster-abc.eu-west-1.rds.amazonaws.com",
            meaning="host that a token is signed for; not given: the one connected to"),
    Setting("iam_default_port", "int", wrapper_default="", used_by=_BY, least=0, most=65535, example="5432",
            meaning="port that a token is signed for; not given, or 0: the one connected to"),
    Setting("iam_region", wrapper_default="", used_by=_BY, example="eu-west-1",
            meaning="region that a token is signed for; not given: that in the name of the host"),
)  # fmt: skip
SIGNING: Mapping[str, Setting] = {**PARAMETERS, **{row.name: row for row in _ROWS}}

_kept: Keeping[str] = Keeping()


class TokenLogin(Plugin):
    """Signs a token for host, port and user, keeps it, renews it ahead of its end; one that is refused is signed anew once.

    A host of the green side of a blue/green deployment has its name until the switchover and loses it then: where the token
    for it is refused, one for the name that it takes over follows.
    """

    life: ClassVar[str]
    """The parameter that says how long a token is used."""

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._own = context.plugin_settings

    @abstractmethod
    def _user(self, given: Mapping[str, Any]) -> str:
        """The database user that the token is for. Raises ``ConfigurationError`` where there is none."""

    @abstractmethod
    def _identity(self, given: Mapping[str, Any]) -> str:
        """In whose name AWS is asked, as a part of the key of what is kept."""

    @abstractmethod
    def _signer(self, region: str, given: Mapping[str, Any]) -> Any:
        """A client of boto3 for RDS. Blocks."""

    def _needed(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """*given* as the plugins further in see it: without a password, which is not looked for then."""
        return {**given, "password": None}

    async def authenticate(
        self, call: Authenticate, proceed: Proceed[Authenticate, Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """With a token as the password, over TLS. Raises ``ConfigurationError`` for what no token can be signed for."""
        own = self._own
        user = self._user(call.parameters)
        host = str(own["iam_host"] or call.host.endpoint)
        secured = self._secured(call.parameters)
        old = None if call.refused is None else str(call.refused["password"])
        if old is not None and not own["iam_host"]:
            host = parse_endpoint(host).without_green().host
        if call.refused is not None and old == self._again:
            return call.refused
        region = self._region_of(host)
        port = own["iam_default_port"] or call.host.port
        life: int = own[self.life]
        renew = life - min(MARGIN_SECONDS, life / 2)
        given = await proceed(Authenticate(call.host, self._needed(secured), call.refused, call.until))
        key = (self._identity(given), region, host, port, user)

        def sign() -> str:
            try:
                signer = self._signer(region, given)
                with unheard():
                    return str(signer.generate_db_auth_token(host, port, user, region))
            except Error:
                raise
            except Exception as error:  # noqa: BLE001 - boto3 raises of every kind; what it says may be anything
                raise refused(error, f"signing a token for {user} at {host}", own["aws_profile"]) from None

        token = await _kept.current(self.context, key, sign, renew, life, old)
        self._again = token if old is not None else None
        return {**given, "user": user, "password": token}

    _again: str | None = None
    """The token that took the place of a refused one: it is the last try."""

    def _region_of(self, host: str) -> str:
        endpoint = parse_endpoint(host)
        if not self._own["iam_host"] and not endpoint.is_rds:
            what = "an IP address" if _is_address(host) else "no name of RDS"
            raise ConfigurationError(
                f"{self.name} cannot sign for {host}, which is {what}: give iam_host, the name that RDS knows"
            )
        region = str(self._own["iam_region"] or endpoint.region)
        if not region:
            raise ConfigurationError(f"{self.name} cannot tell the region from {host}: give iam_region")
        return region

    def _secured(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """*parameters* that lead to TLS or to an error: in plain text, whoever listens could use the token."""
        says = f"{self.name} sends its token by TLS only"
        if self.context.driver == "mysql":
            if parameters.get("ssl_disabled"):
                raise ConfigurationError(f"{says}: leave ssl_disabled away")
            # The C library would go on in plain text with a server that has no TLS; pure Python, which asyncio has, not.
            sure = (parameters.get(key) for key in ("ssl_verify_cert", "ssl_verify_identity", "use_pure"))
            if not self.context.asynchronous and not any(sure):
                raise ConfigurationError(f"{says}: give use_pure=True or ssl_verify_cert=True")
            return {**parameters, "auth_plugin": "mysql_clear_password"}
        mode = parameters.get("sslmode")
        if mode is not None and mode not in SURE_OF_TLS:
            raise ConfigurationError(f"{says}: sslmode={mode} may not; give verify-full")
        return parameters if mode is not None else {**parameters, "sslmode": "require"}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
