"""PEP 249 module: ``connect()`` bound to ``mysql.connector.connect``; everything else is MySQL Connector's own."""

from __future__ import annotations

from typing import Any

import mysql.connector as driver

from aurora_actors.connecting import connect as _connect

__all__ = ["connect"]


def connect(conninfo: str = "", /, **parameters: Any) -> Any:
    """See ``aurora_actors.connect``."""
    return _connect(driver.connect, conninfo, **parameters)


def __getattr__(name: str) -> Any:
    return getattr(driver, name)
