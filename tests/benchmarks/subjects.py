"""How each subject connects: psycopg or MySQL Connector alone, libpq's loop, ours, the AWS Advanced Python Wrapper.

Run by the interpreters of several environments, so nothing is imported before it is asked for.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

__all__ = ["Order", "Subject", "facts", "lookups", "subject"]

Order = dict[str, Any]
SIGNALS = ("failover_started", "failover_completed", "failover_failed", "writer_changed", "connection_switched")

facts: list[Order] = []
lookups: list[tuple[str, float]] = []


@dataclass(frozen=True, slots=True)
class Subject:
    """*connect* makes a connection (an awaitable of one for asyncio) and takes further keywords.

    After an error of *kept* the connection is good; *errors* are all that it raises.
    """

    connect: Callable[..., Any]
    kept: tuple[type[Exception], ...]
    errors: tuple[type[Exception], ...]


def subject(order: Order) -> Subject:
    """Make the subject of an order ready."""
    return {"ours": _ours, "peer": _peer}.get(order["subject"], _raw)(order)


def _driver(order: Order) -> tuple[Callable[..., Any], type[Exception]]:
    if order.get("driver") == "mysql":
        connector: Any = import_module("mysql.connector")
        return connector.connect, connector.Error
    psycopg: Any = import_module("psycopg")
    kind = psycopg.AsyncConnection if order.get("colour") == "async" else psycopg.Connection
    return kind.connect, psycopg.Error


def _given(order: Order) -> tuple[tuple[str, ...], Order]:
    """What connect is called with: a conninfo, or MySQL Connector's keywords."""
    if order.get("driver") == "mysql":
        return (), {"autocommit": True, "ssl_disabled": True, **order["known"]}
    return (order["conninfo"],), {"autocommit": True}


def _raw(order: Order) -> Subject:
    connect, error = _driver(order)
    arguments, known = _given(order)
    return Subject(partial(connect, *arguments, **known), (), (error,))


def _ours(order: Order) -> Subject:
    import aurora_actors
    from aurora_actors import aio, signals
    from aurora_actors.lab import resolver_from

    if "path" in order:
        sys.path.insert(0, order["path"])
    # A host that is down is news to a user, and here the subject.
    logging.getLogger("aurora_actors").setLevel(logging.ERROR)
    resolve = _relayed(order) if order.get("relayed") else resolver_from(order["state"])

    def counted(host: str, port: int) -> list[tuple[str, int]]:
        lookups.append((host, monotonic()))
        return resolve(host, port)

    aurora_actors.set_resolver(counted)
    for name in SIGNALS:
        signals.namespace.signal(name).connect(_noted(name), weak=False)
    connect, error = _driver(order)
    arguments, known = _given(order)
    face: Any = aio.connect if order.get("colour") == "async" else aurora_actors.connect
    kept = (aurora_actors.FailoverSuccessError, aurora_actors.TransactionResolutionUnknownError)
    return Subject(partial(face, connect, *arguments, **known, **order.get("parameters", {})), kept, (error,))


def _noted(name: str) -> Callable[..., None]:
    def note(sender: str, *, event: Any) -> None:
        ledger = asdict(event.ledger) if name == "connection_switched" else None
        facts.append({"name": name, "at": event.at, "ledger": ledger})

    return note


def _relayed(order: Order) -> Callable[[str, int], list[tuple[str, int]]]:
    place = _places(order)

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        return [place(host) or (host, port)]

    return resolve


def _places(order: Order) -> Callable[[str], tuple[str, int] | None]:
    """Where a name of the lab's leads now, by a file that the suite keeps."""

    def place(host: str) -> tuple[str, int] | None:
        found = json.loads(Path(order["places"]).read_text("utf-8")).get(host.lower())
        return None if found is None else (found[0], found[1])

    return place


def _peer(order: Order) -> Subject:
    """Names lead to the lab beneath the wrapper: where it looks them up, and where the driver connects."""
    import socket

    wrapper: Any = import_module("aws_advanced_python_wrapper")
    errors: Any = import_module("aws_advanced_python_wrapper.errors")
    pep249: Any = import_module("aws_advanced_python_wrapper.pep249")
    for name in ("aws_advanced_python_wrapper", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    place = _places(order)
    # Whatever module has taken a reference of its own to a name of socket still goes through the name that is patched.
    real_by_name, real_info = socket.gethostbyname, socket.getaddrinfo

    def by_name(host: str) -> str:
        return found[0] if (found := place(host)) else real_by_name(host)

    def info(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real_info(found[0] if isinstance(host, str) and (found := place(host)) else host, *args, **kwargs)

    socket.gethostbyname, socket.getaddrinfo = by_name, info
    connect, error = _driver(order)
    is_async = order.get("colour") == "async"
    target = _placed_connector(connect, place) if order.get("driver") == "mysql" else _placed(connect, place)
    face: Any = wrapper.AwsWrapperConnection.connect
    if is_async:
        face = import_module("aws_advanced_python_wrapper.aio").AsyncAwsWrapperConnection.connect
    arguments, known = _given(order)
    kept = (errors.FailoverSuccessError, errors.TransactionResolutionUnknownError)
    # Its errors are not the driver's: FailoverSuccessError is no psycopg.Error.
    made = partial(face, target, *arguments, **known, **order.get("parameters", {}))
    return Subject(made, kept, (error, pep249.Error))


def _placed(connect: Any, place: Callable[[str], tuple[str, int] | None]) -> Any:
    """Psycopg's connect as the class method that it was, over addresses."""
    from psycopg.conninfo import conninfo_to_dict

    real, owner = connect.__func__, connect.__self__

    @wraps(real)  # the wrapper knows the driver by the name of what it is given
    def placed(cls: Any, conninfo: str = "", **kwargs: Any) -> Any:
        given = conninfo_to_dict(conninfo)
        if found := place(str(kwargs.get("host") or given.get("host") or "")):
            kwargs["hostaddr"] = found[0]
        return real(cls, conninfo, **kwargs)

    made: Any = placed
    owner.connect = classmethod(made)
    return owner.connect


def _placed_connector(connect: Any, place: Callable[[str], tuple[str, int] | None]) -> Any:
    @wraps(connect)
    def placed(**kwargs: Any) -> Any:
        found = place(str(kwargs.get("host", "")))
        return connect(**{**kwargs, **({"host": found[0]} if found else {})})

    return placed
