"""A plugin of pytest for a foreign suite: puts our connections in psycopg's place.

Loaded by ``orm.py`` in the process of the suite; what it has to know stands in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import MethodType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

import aurora_actors
from aurora_actors import aio

_ENDPOINT = os.environ["FOREIGN_ENDPOINT"]
_ADDRESS, _PORT = os.environ["FOREIGN_ADDRESS"].split(":")


def _swap(kind: type[Any], face: Callable[..., Any]) -> None:
    connect = kind.connect.__func__

    def swapped(cls: type[Any], /, conninfo: str = "", **parameters: Any) -> Any:
        if hasattr(cls, "_aa_link"):
            # Of a guarded class: called by ourselves.
            return connect(cls, conninfo, **parameters)
        parameters = {**conninfo_to_dict(conninfo), **parameters}
        if parameters.get("host") == _ADDRESS:
            # The name of a cluster, so that there is one, with every plugin that is on by default.
            parameters["host"] = _ENDPOINT
        return face(MethodType(connect, cls), "", **parameters)

    kind.connect = classmethod(swapped)


def _everything_leads_to_the_server(host: str, port: int) -> list[tuple[str, int]]:
    return [(_ADDRESS, int(_PORT))]


if os.environ["FOREIGN_CONNECTIONS"] == "ours":
    aurora_actors.set_resolver(_everything_leads_to_the_server)
    _swap(psycopg.Connection, aurora_actors.connect)
    _swap(psycopg.AsyncConnection, aio.connect)
    psycopg.connect = psycopg.Connection.connect
