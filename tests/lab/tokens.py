"""Tokens as RDS's IAM authentication has them, signed by nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

__all__ = ["DOMAIN", "USER", "token"]

DOMAIN = "xyz.us-east-1.rds.amazonaws.com"
USER = "iam_user"


def token(*, host: str = f"database.cluster-{DOMAIN}", port: int = 0, made: datetime | None = None, **others: str) -> str:
    """A token that is good, save for what *others* change."""
    at = made or datetime.now(UTC)
    told = {
        "Action": "connect", "DBUser": USER, "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"AKIA/{at:%Y%m%d}/us-east-1/rds-db/aws4_request", "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": "900", "X-Amz-SignedHeaders": "host", "X-Amz-Security-Token": "s" * 700,
        "X-Amz-Signature": "f" * 64,
    }  # fmt: skip
    return f"{host}:{port}/?" + urlencode(told | {name.replace("_", "-"): value for name, value in others.items()})
