"""Log in with a token of AWS IAM in the place of a password.

    conn = aurora_actors.connect("host=orders.cluster-abc.eu-west-1.rds.amazonaws.com user=app sslmode=verify-full",
                                 plugins="failover,efm,iam")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aurora_actors.errors import ConfigurationError
from aurora_actors.plugin import Setting
from aurora_actors_plugins.aws import client, identity
from aurora_actors_plugins.tokens import LONGEST_LIFE_SECONDS, SIGNING, TokenLogin

__all__ = ["Iam"]


class Iam(TokenLogin):
    """Signs with the AWS credentials of this process."""

    name = "iam"
    order = 700
    life = "iam_expiration"
    parameters: ClassVar[Mapping[str, Setting]] = {
        **SIGNING,
        life: Setting(
            life, "int", default=870, wrapper_default="900", unit="s", least=1, most=LONGEST_LIFE_SECONDS,
            used_by=("iam",), example="870", meaning="how long a token is used; it is renewed before that",
        ),
    }  # fmt: skip

    def _user(self, given: Mapping[str, Any]) -> str:
        user = str(given.get("user") or "")
        if not user:
            raise ConfigurationError("iam needs user, the database user that the token is for")
        return user

    def _identity(self, given: Mapping[str, Any]) -> str:
        return identity(self._own)

    def _signer(self, region: str, given: Mapping[str, Any]) -> Any:
        return client("rds", region, self._own)
