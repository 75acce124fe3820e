"""Connect to a host in the role that the endpoint promises, however late its DNS is.

The core verifies every first connection of a plugin that needs the cluster; this one asks for nothing else.
"""

from __future__ import annotations

from aurora_actors.plugin import Plugin

__all__ = ["InitialConnection"]


class InitialConnection(Plugin):
    """Asks that the connection know its cluster; the rest is the core's work."""

    name = "initial_connection"
    order = 50
    needs_cluster = True
