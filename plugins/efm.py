"""Failure monitoring, by the names that the AWS wrapper's configurations use."""

from __future__ import annotations

from aurora_actors.plugin import Plugin

__all__ = ["Efm"]


class Efm(Plugin):
    """Asks that the connection know its cluster. Calls in flight are not yet watched by this version."""

    name = "efm"
    order = 500
    needs_cluster = True
