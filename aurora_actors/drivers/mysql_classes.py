"""The classes of ours that are derived from the driver's, connections and cursors: how they are made, and called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aurora_actors.proxies.tie import placed

__all__ = ["CURSOR_CALLS", "cursor_calls", "cursor_class", "driver_s_own", "guarded_cursor", "is_async", "named"]

CURSOR_CALLS = ("execute", "executemany", "executemulti", "callproc", "nextset")
# Errors on these go no further: what the application calls next finds out.
CURSOR_QUIET = ("close", "_fetch_warnings")

_cursor_classes: dict[type[Any], type[Any]] = {}


def is_async(base: type[Any]) -> bool:
    """Whether *base* is a class of connections for asyncio."""
    return any(cls.__module__.startswith("mysql.connector.aio") for cls in base.__mro__)


def named(base: type[Any], members: dict[str, Any]) -> type[Any]:
    """A class derived from *base* that goes by its name."""
    made = type(base.__name__, (base,), {"__doc__": base.__doc__, "__module__": base.__module__, **members})
    made.__qualname__ = base.__qualname__
    return made


def driver_s_own(base: type[Any]) -> dict[str, Any]:
    """What has connections tell the driver's class for their own, which some compare by ``is``, and where they are."""
    return {"__class__": property(lambda _: base), "__repr__": placed(base)}


def cursor_class(base: type[Any], make: Callable[[type[Any]], dict[str, Any]]) -> type[Any]:
    """The class of guarded cursors derived from *base*, a class of the driver's or the application's; made once."""
    made = _cursor_classes.get(base)
    if made is None:
        made = base if hasattr(base, "_aa_guarded") else named(base, {"__slots__": (), "_aa_guarded": True, **make(base)})
        _cursor_classes[base] = _cursor_classes[made] = made
    return made


def guarded_cursor(conn: Any, made: Any, make: Callable[[type[Any]], dict[str, Any]]) -> Any:
    """The guarded cursor in place of *made*, which is new and which only the caller has.

    CPython reads the attributes of an object that changed its class the slow way from then on, a microsecond for each
    statement: a cursor of the driver's is made anew. The application's may be known to somebody already.
    """
    cls: Any = cursor_class(type(made), make)
    if not type(made).__module__.startswith("mysql.connector."):
        made.__class__ = cls
        return made
    cursor = cls.__new__(cls)
    for name, value in vars(made).items():
        setattr(cursor, name, value)
    if hasattr(conn, "add_cursor"):
        conn.remove_cursor(made)
        conn.add_cursor(cursor)
    return cursor


def cursor_calls(base: type[Any], acting: Callable[..., Any], quiet: Callable[..., Any]) -> dict[str, Any]:
    """The methods of a class of cursors, guarded."""
    found = {name: getattr(base, name) for name in (*CURSOR_CALLS, *CURSOR_QUIET) if hasattr(base, name)}
    return {
        name: quiet(method, of_cursor=True) if name in CURSOR_QUIET else acting(name, method, of_cursor=True)
        for name, method in found.items()
    }
