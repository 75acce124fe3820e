"""Tell who changed what, on which host, and whether it worked.

    conn = aurora_actors.connect(url, plugins="failover,efm,audit", audit_actor="billing")

    @signals.namespace.signal("statement_audited").connect
    def keep(cluster, *, event):
        log.info("%s on %s: %s", event.actor, event.host, event.statement)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aurora_actors import signals
from aurora_actors.plugin import Execute, Host, Plugin, Proceed, Setting

__all__ = ["Audit", "StatementAudited", "statement_audited"]

statement_audited = signals.namespace.signal("statement_audited", "A statement that changes something was sent.")

# The text alone: parameters travel apart from it, and may be secrets.
CHANGES = re.compile(r"\s*(?:insert|update|delete|merge|copy|create|alter|drop|grant|revoke|truncate)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StatementAudited:
    """What a receiver of ``statement_audited`` is given; ``error`` is the class of what was raised, empty if it worked."""

    actor: str
    statement: str
    host: Host | None
    error: str


class Audit(Plugin):
    """Sends ``statement_audited`` for every statement that changes something."""

    name = "audit"
    order = 900  # close to the driver: what an outer plugin holds back was never sent
    parameters: ClassVar[Mapping[str, Setting]] = {
        "audit_actor": Setting(
            "audit_actor", "text", default="unknown", meaning="who acts through this connection", example="billing"
        )
    }

    async def execute(self, call: Execute, proceed: Proceed[Execute, Any]) -> Any:
        """Wait for what the driver makes of it, and tell."""
        if not CHANGES.match(call.operation.statement):
            return await proceed(call)
        try:
            result = await proceed(call)
        except Exception as error:
            self._tell(call, type(error).__name__)
            raise  # the very object: whoever catches it knows its class
        self._tell(call, "")
        return result

    def _tell(self, call: Execute, error: str) -> None:
        event = StatementAudited(self.context.plugin_settings["audit_actor"], call.operation.statement, call.host, error)
        statement_audited.send(self.context.cluster, event=event)
