"""Probe a host by asking its database server: the one probe that finds a server whose machine still accepts packets."""

from __future__ import annotations

from aurora_actors.plugin import Monitor, Sign

__all__ = ["SqlMonitor"]


class SqlMonitor(Monitor):
    """Asks on the session that the host's monitor keeps, opened when it is first needed."""

    name = "sql"

    async def probe(self) -> Sign:
        """Whatever the server answers, a refusal included, is an answer."""
        return await self.context.ask()
