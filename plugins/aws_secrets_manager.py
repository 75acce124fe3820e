"""Log in with a secret of AWS Secrets Manager, as it is at that moment.

    conn = aurora_actors.connect("host=… dbname=…", plugins="failover,efm,aws_secrets_manager",
                                 secrets_manager_secret_id="orders/app", secrets_manager_region="eu-west-1")
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from time import monotonic
from typing import Any, ClassVar

from aurora_actors.errors import ConfigurationError, Error, OperationalError
from aurora_actors.plugin import Authenticate, Connect, Plugin, PluginContext, Proceed, Setting
from aurora_actors_plugins.aws import PARAMETERS, Keeping, client, identity, refused, unheard

__all__ = ["SecretLogin"]

YEAR_SECONDS = 31_536_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Between two looks at a secret that is being rotated; doubled each time."""

_ROWS = (
    Setting("secrets_manager_secret_id", wrapper_default="", used_by=("aws_secrets_manager",), example="orders/app",
            meaning="name or ARN of the secret"),
    Setting("secrets_manager_region", wrapper_default="us-east-1", used_by=("aws_secrets_manager",), example="eu-west-1",
            meaning="region of the secret; not given: that of its ARN"),
    Setting("secrets_manager_endpoint", wrapper_default="", used_by=("aws_secrets_manager",),
            example="https://secretsmanager.eu-west-1.amazonaws.com", meaning="URL where secrets are asked for"),
    Setting("secrets_manager_secret_username_key", default="username", wrapper_default="username",
            used_by=("aws_secrets_manager",), aliases=("secrets_manager_secret_username",),
            meaning="key of the user in the secret's JSON"),
    Setting("secrets_manager_secret_password_key", default="password", wrapper_default="password",
            used_by=("aws_secrets_manager",), aliases=("secrets_manager_secret_password",),
            meaning="key of the password in the secret's JSON"),
    Setting("secrets_manager_expiration", "int", default=YEAR_SECONDS, wrapper_default="31536000", unit="s", least=1,
            most=YEAR_SECONDS, used_by=("aws_secrets_manager",), example="3600",
            meaning="after that a secret is fetched anew, while the one at hand goes on being used"),
    Setting("secrets_manager_rotation_timeout_sec", "float", default=60.0, unit="s", least=0, most=600,
            used_by=("aws_secrets_manager",), example="60",
            meaning="how long a login waits for the end of a rotation, where the secret worked before"),
)  # fmt: skip

_kept: Keeping[tuple[str, str]] = Keeping()
_worked: dict[Hashable, tuple[str, str]] = {}


class SecretLogin(Plugin):
    """Puts user and password of the secret in the place of those given.

    A secret that the server refuses is fetched anew, once for all who wait. Where it is still the same, and worked before,
    the server is ahead of Secrets Manager, as in the middle of a rotation, and the login waits for the other half.
    """

    name = "aws_secrets_manager"
    order = 800
    parameters: ClassVar[Mapping[str, Setting]] = {**PARAMETERS, **{row.name: row for row in _ROWS}}

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        own = self._own = context.plugin_settings
        self._id: str = own["secrets_manager_secret_id"] or ""
        if not self._id:
            raise ConfigurationError("aws_secrets_manager needs secrets_manager_secret_id, the secret's name or ARN")
        self._region = own["secrets_manager_region"] or _region_of(self._id)
        keys = own["secrets_manager_secret_username_key"], own["secrets_manager_secret_password_key"]
        self._keys: tuple[str, str] = keys
        self._key = (identity(own), self._id, self._region, own["secrets_manager_endpoint"], keys)
        self._used: tuple[str, str] | None = None

    async def connect(self, call: Connect, proceed: Proceed[Connect, Any]) -> Any:
        """Remember the secret that worked."""
        wire = await proceed(call)
        if self._used is not None and self._used is not _worked.get(self._key):
            _worked[self._key] = self._used
        return wire

    async def authenticate(
        self, call: Authenticate, proceed: Proceed[Authenticate, Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """With what the secret holds; see the class for what follows a refusal."""
        given = {**call.parameters, "password": None}
        old = None
        if call.refused is not None:
            old = (str(call.refused["user"]), str(call.refused["password"]))
        value = await self._secret(old)
        if old is not None and value == old and _worked.get(self._key) == old:
            value = await self._rotated(old, call.until)
        self._used = value
        further = await proceed(Authenticate(call.host, given, call.refused, call.until))
        return {**further, "user": value[0], "password": value[1]}

    async def _secret(self, old: tuple[str, str] | None) -> tuple[str, str]:
        return await _kept.current(
            self.context, self._key, self._fetch, self._own["secrets_manager_expiration"], float("inf"), old
        )

    async def _rotated(self, old: tuple[str, str], until: float | None) -> tuple[str, str]:
        end = monotonic() + self._own["secrets_manager_rotation_timeout_sec"]
        end = end if until is None else min(end, until)
        value, pause = old, FIRST_PAUSE_SECONDS
        while value == old and monotonic() + pause < end:
            await self.context.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            value = await self._secret(old)
        return value

    def _fetch(self) -> tuple[str, str]:
        """Blocks. Its errors are told in full and without a word of the secret."""
        doing = f"fetching the secret {self._id} (secrets_manager_secret_id) in {self._region}"
        try:
            asked = client("secretsmanager", self._region, self._own, self._own["secrets_manager_endpoint"] or "")
            with unheard():
                answer = asked.get_secret_value(SecretId=self._id)
        except Error:
            raise
        except Exception as error:  # noqa: BLE001 - boto3 raises of every kind; what it says may be anything
            raise refused(error, doing, self._own["aws_profile"]) from None
        text = answer.get("SecretString") or answer.get("SecretBinary") or ""
        try:
            read = json.loads(text)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise OperationalError(f"the secret {self._id} (secrets_manager_secret_id) is no JSON object with a login")
        found = tuple(read.get(key) for key in self._keys)
        for key, row, value in zip(self._keys, ("username", "password"), found, strict=True):
            if not isinstance(value, str) or not value:
                raise OperationalError(
                    f"the secret {self._id} has no text under {key!r}: name its key by secrets_manager_secret_{row}_key"
                )
        return str(found[0]), str(found[1])


def _region_of(secret: str) -> str:
    """The region in an ARN of whichever partition: ``arn:aws-cn:secretsmanager:cn-north-1:1234:secret:orders``."""
    parts = secret.split(":")
    if parts[0] != "arn":
        raise ConfigurationError("secrets_manager_region is needed where secrets_manager_secret_id is a name and no ARN")
    if len(parts) < 7 or not parts[1].startswith("aws") or parts[2] != "secretsmanager" or not parts[3]:
        raise ConfigurationError(
            "secrets_manager_secret_id is no ARN of a secret: arn:aws:secretsmanager:<region>:<account>:secret:<name>"
        )
    return parts[3]
