"""Survive the loss of a host: find the new one, switch, restore the session, say what happened.

    conn = aurora_actors.connect("host=… dbname=…", plugins="failover", failover_timeout_sec=30)
"""

from __future__ import annotations

from aurora_actors.plugin import Fault, Mode, Plugin, Proceed, Recover

__all__ = ["Failover"]


class Failover(Plugin):
    """Recovers lost connections, and moves idle ones before their next statement once it is known that they have to.

    ``enable_failover=False`` turns it off.
    """

    name = "failover"
    order = 400
    needs_cluster = True

    async def recover(self, call: Recover, proceed: Proceed[Recover, Exception]) -> Exception:
        """Give the error that says where the connection is now; an error that is no loss goes on as it is."""
        if not self.context.settings.enable_failover or not self._concerns(call):
            return await proceed(call)
        return await self.context.fail_over(call)

    def _concerns(self, call: Recover) -> bool:
        if call.fault is Fault.READ_ONLY:
            # The host is no writer any more: news for who needs one, and the expected answer for who does not.
            return self.context.mode is Mode.STRICT_WRITER
        return call.fault.ends_session or call.fault is Fault.STALE
