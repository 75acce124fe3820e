"""What an extension has to look like, by its entry-point group: found out when it is loaded, not at the first failover."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction, signature
from typing import Any

from aurora_actors.dialects.base import Dialect
from aurora_actors.drivers.base import Driver
from aurora_actors.plugin import IdentityProvider, Monitor, Plugin
from aurora_actors.settings import Setting

__all__ = ["complaint"]

# Hooks by name, with what each is called with; flows are async def, the others must not be.
_PLUGIN_FLOWS: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("connect", "authenticate", "execute", "recover"), ("call", "proceed")
)
_PLUGIN_HOOKS = {"detection": (), "choose_host": ("hosts",), "switched": ("old", "new"), "close": ()}
_STRATEGY = ("hosts", "weights", "turn", "chance")


def complaint(group: str, value: Any) -> str:
    """What is wrong with an extension of *group*; empty: it can be used."""
    match group.partition(".")[2]:
        case "plugins":
            return _of_class(value, Plugin, _PLUGIN_FLOWS, _PLUGIN_HOOKS) or _of_order(value)
        case "monitors":
            return _of_class(value, Monitor, {"probe": ()}, {"close": ()})
        case "identity_providers":
            return _of_class(value, IdentityProvider, {}, {"sign_in": ("user", "password")})
        case "host_selectors":
            return _of_strategy(value)
        case "drivers" | "dialects" as seam:
            return _of_members(value, Driver if seam == "drivers" else Dialect)
        case _:
            return "" if isinstance(value, type) else "it is not a class"


def _of_members(value: Any, seam: type) -> str:
    if not isinstance(value, type):
        return "it is not a class"
    asked = (name for name in {**vars(seam), **seam.__annotations__} if not name.startswith("_"))
    missing = sorted(name for name in asked if not hasattr(value, name))
    return f"it lacks {', '.join(missing)}" if missing else ""


def _of_class(
    value: Any, base: type, flows: Mapping[str, tuple[str, ...]], hooks: Mapping[str, tuple[str, ...]]
) -> str:
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"it is not a subclass of aurora_actors.{base.__name__}"
    kind: Any = value
    if not isinstance(kind.name, str) or not kind.name:
        return "it has no name"
    if not _takes(value, ("context",)):
        return "it cannot be made from a context alone"
    for hook, arguments in (*flows.items(), *hooks.items()):
        own = getattr(value, hook) is not getattr(base, hook)
        problem = _of_hook(value, hook, arguments, flow=hook in flows) if own else ""
        if problem:
            return problem
    return _of_parameters(kind.parameters)


def _of_hook(kind: type, hook: str, arguments: tuple[str, ...], *, flow: bool) -> str:
    method = getattr(kind, hook)
    if iscoroutinefunction(method) is not flow:
        return f"its hook {hook} is {'not an' if flow else 'an'} async def"
    if not callable(method) or not _takes(method, ("self", *arguments)):
        return f"its hook {hook} cannot be called with ({', '.join(arguments)})"
    return ""


def _of_parameters(declared: Any) -> str:
    if not isinstance(declared, Mapping):
        return "its parameters are no mapping of names to Setting"
    for name, row in declared.items():
        if not isinstance(row, Setting):
            return f"its parameter {name} is no Setting"
        if row.name != name:
            return f"its parameter {name} calls itself {row.name}"
    return ""


def _of_order(plugin: type[Plugin]) -> str:
    order: Any = plugin.order
    if not isinstance(order, int | float):
        return f"its order is no number: {order!r}"
    for attribute in ("before", "after"):
        names = getattr(plugin, attribute)
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            return f"its {attribute} is no tuple of names: {names!r}"
    return ""


def _of_strategy(value: Any) -> str:
    if not callable(value) or isinstance(value, type):
        return "it is no function"
    if iscoroutinefunction(value):
        return "it is an async def"
    return "" if _takes(value, _STRATEGY) else f"it cannot be called with ({', '.join(_STRATEGY)})"


def _takes(function: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        # Written in C, it does not tell.
        return True
    return True
