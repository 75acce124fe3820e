"""Do not trust a cluster endpoint whose DNS still leads to the former writer.

The core verifies the role of every connection that it opens; this name is understood for configurations that use it.
"""

from __future__ import annotations

from aurora_actors.plugin import Plugin

__all__ = ["StaleDns"]


class StaleDns(Plugin):
    """Asks that the connection know its cluster; the rest is the core's work."""

    name = "stale_dns"
    order = 200
    needs_cluster = True
