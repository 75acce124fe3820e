"""Judge a token of RDS's IAM authentication as the service does: for whom, where and when it is good. Pure.

A token is a presigned URL of the action ``connect`` without its scheme (the RDS user guide, "IAM database authentication").
Its signature is not checked: that takes the secret key of the AWS identity.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

__all__ = ["refusal"]

LONGEST = timedelta(minutes=15)
"""As long as any token of RDS lives."""
SKEW = timedelta(minutes=5)
"""By so much the clock of a signer may be ahead: AWS's usual bound."""
KINDS = ("", "cluster-", "cluster-ro-", "cluster-custom-")


def refusal(token: str, *, user: str, domain: str, ports: tuple[int, ...], now: datetime) -> str:
    """Say why a token does not let *user* in, without a part of the token; empty where it does.

    *domain*: zone id and region of the cluster's names, as in ``xyz.us-east-1.rds.amazonaws.com``.
    """
    try:
        url = urlsplit("https://" + token)
        name, port = (url.hostname or "").partition(".")[2], url.port
        given = dict(parse_qsl(url.query, strict_parsing=True))
        made = datetime.strptime(given.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lives = timedelta(seconds=int(given.get("X-Amz-Expires", "")))
    except ValueError:
        return "it is no presigned URL"
    scope = given.get("X-Amz-Credential", "").split("/")[1:]
    complaints = {
        "it is for another action": given.get("Action") != "connect",
        "it is for another user": given.get("DBUser") != user,
        "it is for another cluster": name.lower() not in {kind + domain.lower() for kind in KINDS},
        "it is for another port": port not in ports,
        "its scope is not this region's rds-db": scope[2:] != ["rds-db", "aws4_request"]
        or scope[0] != f"{made:%Y%m%d}"
        or scope[1] not in domain.split("."),
        "it is not signed": not given.get("X-Amz-Signature"),
        "it is from the future": made > now + SKEW,
        "it has expired": now >= made + min(lives, LONGEST),
    }
    return next((complaint for complaint, holds in complaints.items() if holds), "")
