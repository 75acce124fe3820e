"""``aurora-actors demo``: an application that goes on while its cluster loses writers, and the account of its rows."""

from __future__ import annotations

from aurora_actors.cli.demo.command import demo

__all__ = ["demo"]
