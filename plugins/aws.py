"""What the plugins for AWS share: clients, credentials that are kept, and words for what AWS refuses.

boto3 is imported when the first client is needed. Any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

from aurora_actors.errors import ConfigurationError, OperationalError
from aurora_actors.plugin import PluginContext, Setting

__all__ = ["PARAMETERS", "Keeping", "Kept", "client", "identity", "refused", "session", "unheard"]

T = TypeVar("T")

RETRY_SECONDS = 10.0
"""After AWS failed to renew what is still of use, it is asked again no sooner."""
CONNECT_SECONDS, READ_SECONDS = 5, 10
"""Limits of one request to AWS; it is tried twice."""

_BY = ("iam", "aws_secrets_manager", "federated_auth", "okta")
PARAMETERS: Mapping[str, Setting] = {
    row.name: row
    for row in (
        Setting("aws_profile", wrapper_default="", used_by=_BY, example="production",
                meaning="profile of the AWS credentials; not given: boto3's own search"),
        Setting("aws_credentials_provider", "callable", used_by=_BY, secret=True,
                example="def provider(): return boto3.Session(...)",
                meaning="gives a boto3 session, or the keywords of one; called whenever something is signed; may block"),
    )
}  # fmt: skip

_clients: dict[tuple[str, ...], Any] = {}


def identity(settings: Mapping[str, Any]) -> str:
    """In whose name AWS is asked, for keys of what is kept."""
    provider = settings["aws_credentials_provider"]
    return f"provider {id(provider)}" if provider is not None else f"profile {settings['aws_profile'] or ''}"


def client(service: str, region: str, settings: Mapping[str, Any], endpoint: str = "") -> Any:
    """A client of boto3 for *service*: one for each profile, region and endpoint. Blocks; raises ``ConfigurationError``."""
    try:
        from botocore.config import Config
    except ImportError:
        raise ConfigurationError("AWS is spoken to by boto3, which is missing: pip install 'aurora-actors[aws]'") from None
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 2})
    more = {"region_name": region, "config": config, **({"endpoint_url": endpoint} if endpoint else {})}
    provider = settings["aws_credentials_provider"]
    if provider is not None:
        given = provider()
        return (session(given) if isinstance(given, Mapping) else given).client(service, **more)
    key = (service, region, endpoint, settings["aws_profile"] or "")
    if key not in _clients:
        # Sessions of boto3 are for one thread; clients are for all.
        _clients.setdefault(key, session({"profile_name": settings["aws_profile"]}).client(service, **more))
    return _clients[key]


def session(given: Mapping[str, Any]) -> Any:
    """A session of boto3, which is here: :func:`client` was asked before, or whoever asks says what is missing."""
    import boto3

    return boto3.Session(**given)


@contextmanager
def unheard() -> Iterator[None]:
    """What botocore says in this thread at DEBUG is not logged: answers and signatures in full, secrets among them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in ("botocore", "urllib3") and isinstance(logger, logging.Logger):
            logger.addFilter(_silence)  # more than once is once
    _here.silent = True
    try:
        yield
    finally:
        _here.silent = False


def _silence(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or not getattr(_here, "silent", False)


_here = threading.local()


def refused(error: Exception, doing: str, profile: str | None) -> Exception:
    """What the application is told when AWS, or boto3, did not do as asked: the reason and the cure, and no secret."""
    name = type(error).__name__
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    shown = f"aws_profile={profile}" if profile else "aws_profile"
    cures = {
        "ProfileNotFound": f"{shown} is in no file of AWS credentials of this machine",
        "NoCredentialsError": f"no AWS credentials were found: give {shown}, or set AWS_ACCESS_KEY_ID and its like",
        "PartialCredentialsError": f"the AWS credentials of {shown} are incomplete",
        "ResourceNotFoundException": "there is no such secret in that region: see secrets_manager_secret_id and _region",
        "AccessDeniedException": f"the AWS identity may not: look at its policies, or at {shown}",
        "AccessDenied": "the role does not trust who signed in: look at iam_role_arn and iam_idp_arn",
        "InvalidIdentityToken": "AWS does not take what the provider says: look at iam_idp_arn and at the provider's keys",
        "IDPRejectedClaim": "the identity provider has taken back what it said",
        "ExpiredTokenException": "what the provider says has expired: look at the clocks of both",
        "InvalidRegionError": "that is no region: look at iam_region or secrets_manager_region",
        "EndpointConnectionError": "it cannot be reached: look at the region, the network, or secrets_manager_endpoint",
    }
    if name in ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "LoginRefreshRequired"):
        cure = f"the sign-in of {shown} has expired: aws sso login{f' --profile {profile}' if profile else ''}"
    else:
        cure = cures.get(code) or cures.get(name) or code or name
    return OperationalError(f"{doing} failed: {cure}")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """Something fetched. ``renew_at``: from then on a new one is fetched meanwhile; ``ends_at``: of no use from then on."""

    value: T
    renew_at: float
    ends_at: float


class Keeping(Generic[T]):
    """What one plugin has fetched, by key. ``renew`` and ``end`` of :meth:`current` are seconds after the fetch began."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Kept[T]] = {}

    async def current(
        self,
        context: PluginContext,
        key: Hashable,
        fetch: Callable[[], T],
        renew: float,
        end: float,
        refused: T | None = None,
    ) -> T:
        """The value kept for *key*; fetched where there is none, it has come to its end, or it is the one *refused*.

        Whoever needs it at the same time waits for one fetch. Whoever finds one that is due for renewal waits for nothing.
        """
        now = monotonic()
        kept = self._kept.get(key)
        if kept is None or now >= kept.ends_at or kept.value == refused:
            return await context.once(repr(key), lambda: self._fetched(key, fetch, renew, end, refused), everywhere=True)
        if now >= kept.renew_at:
            context.meanwhile(repr(key), lambda: self._renewed(key, fetch, renew, end, kept))
        return kept.value

    def _fetched(self, key: Hashable, fetch: Callable[[], T], renew: float, end: float, refused: T | None) -> T:
        kept = self._kept.get(key)
        if kept is not None and monotonic() < kept.ends_at and kept.value != refused:
            return kept.value  # somebody has fetched it since
        began = monotonic()
        value = fetch()
        self._kept[key] = Kept(value, began + renew, began + end)
        return value

    def _renewed(self, key: Hashable, fetch: Callable[[], T], renew: float, end: float, old: Kept[T]) -> T:
        if self._kept.get(key) is not old:
            return self._kept[key].value
        # Whatever comes of it: nobody asks again at once.
        self._kept[key] = Kept(old.value, monotonic() + RETRY_SECONDS, old.ends_at)
        began = monotonic()
        value = fetch()
        self._kept[key] = Kept(value, began + renew, began + end)
        return value
