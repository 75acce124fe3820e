"""Leave a host that is not the writer any more.

The core's connections compare the published topology before they are used; there is nothing to track.
"""

from __future__ import annotations

from aurora_actors.plugin import Plugin

__all__ = ["AuroraConnectionTracker"]


class AuroraConnectionTracker(Plugin):
    """Asks that the connection know its cluster; the rest is the core's work."""

    name = "aurora_connection_tracker"
    order = 100
    needs_cluster = True
