"""Third-party and bundled extensions, found through entry points: records with a status, and their order."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from inspect import iscoroutinefunction
from typing import Any

from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.plugin import Monitor, Plugin

__all__ = ["DEFAULT_PLUGINS", "Record", "Status", "found", "load", "monitor", "ordered", "plugin_classes"]

log = logging.getLogger("aurora_actors.plugins")

DEFAULT_PLUGINS = ("initial_connection", "aurora_connection_tracker", "failover", "efm")
"""What a connection uses when ``plugins`` is not given."""

# What an extension of a group has to be a class of, and which of its methods are flows.
_BASES: dict[str, tuple[type, tuple[str, ...]]] = {
    "aurora_actors.plugins": (Plugin, ("connect", "execute", "recover")),
    "aurora_actors.monitors": (Monitor, ("probe",)),
}


class Status(Enum):
    """What became of an entry point."""

    FOUND = "found"
    LOADED = "loaded"
    LOAD_ERROR = "load error"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Record:
    """One extension: its name, the distribution that it came with, and whether it can be used."""

    group: str
    name: str
    distribution: str
    status: Status
    value: Any = None
    error: str = ""


def found(group: str) -> tuple[Record, ...]:
    """What is installed in *group*, without loading anything."""
    return tuple(
        Record(group, name, _distribution(entry), Status.FOUND) for name, entry in sorted(_entries(group).items())
    )


def load(group: str, name: str) -> Record:
    """Load one extension. Never raises for a broken one: the record says what is wrong with it.

    Raises ``ConfigurationError`` when nothing of that name is installed.
    """
    entry = _entries(group).get(name)
    if entry is None:
        raise ConfigurationError(_unknown(group, name))
    return _loaded(group, name)


def plugin_classes(names: Iterable[str] | None) -> tuple[type[Plugin], ...]:
    """The classes of the plugins asked for, each once; None: the defaults. Raises for any that cannot be had."""
    classes: list[type[Plugin]] = []
    for name in DEFAULT_PLUGINS if names is None else names:
        record = load("aurora_actors.plugins", name)
        if record.status is not Status.LOADED:
            raise PluginError(
                f"plugin {name!r} of distribution {record.distribution} cannot be used: {record.error}"
            )
        if record.value not in classes:
            classes.append(record.value)
    return tuple(classes)


def monitor(name: str) -> tuple[type[Monitor], str]:
    """The class of a monitor asked for, and the distribution that it came with. Raises if it cannot be had."""
    record = load("aurora_actors.monitors", name)
    if record.status is not Status.LOADED:
        raise PluginError(f"monitor {name!r} of distribution {record.distribution} cannot be used: {record.error}")
    return record.value, record.distribution


def ordered(classes: Sequence[type[Plugin]], *, sort: bool = True) -> tuple[type[Plugin], ...]:
    """Outermost first: by ``order``, then name, with ``before`` and ``after`` kept. *sort* off: as the user listed them."""
    if not sort:
        return tuple(classes)
    waiting = sorted(classes, key=lambda plugin: (plugin.order, plugin.name))
    placed: list[type[Plugin]] = []
    while waiting:
        ready = next((plugin for plugin in waiting if not _outer(plugin, waiting)), None)
        if ready is None:
            names = ", ".join(plugin.name for plugin in waiting)
            raise ConfigurationError(f"the plugins {names} ask to be before or after each other in a circle")
        placed.append(ready)
        waiting.remove(ready)
    return tuple(placed)


def _outer(plugin: type[Plugin], others: Sequence[type[Plugin]]) -> bool:
    """Whether one of *others* has to come before *plugin*."""
    return any(
        other is not plugin and (other.name in plugin.after or plugin.name in other.before) for other in others
    )


def _entries(group: str) -> Mapping[str, EntryPoint]:
    return _scanned().get(group, {})


@lru_cache(maxsize=1)
def _scanned() -> Mapping[str, Mapping[str, EntryPoint]]:
    """Every entry point of ours, by group and name. Looking through what is installed takes milliseconds: once."""
    groups: dict[str, dict[str, EntryPoint]] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group.startswith("aurora_actors."):
                # What comes first on sys.path hides what comes later, as with modules.
                groups.setdefault(entry.group, {}).setdefault(entry.name, entry)
    return groups


@lru_cache(maxsize=256)
def _loaded(group: str, name: str) -> Record:
    entry = _entries(group)[name]
    try:
        value = entry.load()
    except Exception as error:  # noqa: BLE001 - an extension may raise anything
        distribution = _distribution(entry)
        log.warning("extension %s of %s does not load: %s: %s", name, distribution, type(error).__name__, error)
        return Record(group, name, distribution, Status.LOAD_ERROR, None, f"{type(error).__name__}: {error}")
    distribution = _distribution(entry)
    complaint = _complaint(group, value)
    status = Status.UNUSABLE if complaint else Status.LOADED
    return Record(group, name, distribution, status, value, complaint)


def _complaint(group: str, value: Any) -> str:
    if group not in _BASES:
        return ""
    base, flows = _BASES[group]
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"it is not a subclass of aurora_actors.{base.__name__}"
    for hook in flows:
        if not iscoroutinefunction(getattr(value, hook)):
            return f"its hook {hook} is not an async def"
    return ""


def _distribution(entry: EntryPoint) -> str:
    dist = entry.dist
    return _named(dist) if dist is not None else entry.value


_names: dict[int, str] = {}


def _named(dist: Distribution) -> str:
    """Name and version, read once for each distribution: its metadata is a file of some length."""
    known = _names.get(id(dist))
    if known is None:
        known = _names[id(dist)] = f"{dist.name} {dist.version}"
    return known


def _unknown(group: str, name: str) -> str:
    names = sorted(_entries(group))
    near = difflib.get_close_matches(name, names, 1, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"installed are: {', '.join(names) or 'none'}"
    return f"no {group.partition('.')[2].removesuffix('s').replace('_', ' ')} named {name!r} is installed; {hint}"
