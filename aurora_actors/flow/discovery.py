"""Third-party and bundled extensions, found through entry points: records with a status, and their order."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aurora_actors.actors.complaints import Origin, described
from aurora_actors.errors import ConfigurationError, PluginError
from aurora_actors.flow.conformance import complaint
from aurora_actors.model.values import dataclass
from aurora_actors.plugin import Monitor, Plugin, identity_provider
from aurora_actors.settings import Setting

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = [
    "DEFAULT_PLUGINS",
    "GROUPS",
    "Record",
    "Status",
    "found",
    "load",
    "monitor",
    "names",
    "ordered",
    "origin_of",
    "parameters",
    "plugin_classes",
    "usable",
]

log = logging.getLogger("aurora_actors.plugins")

DEFAULT_PLUGINS = ("initial_connection", "aurora_connection_tracker", "failover", "efm")
"""What a connection uses when ``plugins`` is not given."""

GROUPS = tuple(
    f"aurora_actors.{name}"
    for name in ("plugins", "monitors", "host_selectors", "identity_providers", "dialects", "drivers")
)
"""The entry-point groups that this package reads."""


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
    """What is installed in *group*, without loading anything; a name that several claim is listed for each of them."""
    return tuple(
        _record(group, entry, _several(name, entries) if len(entries) > 1 else "")
        for name, entries in sorted(_entries(group).items())
        for entry in entries
    )


def names(group: str) -> tuple[str, ...]:
    """What is installed in *group*, by name, in the order of the alphabet."""
    return tuple(sorted(_entries(group)))


def load(group: str, name: str) -> Record:
    """Load one extension. Never raises for a broken one: the record says what is wrong with it.

    Raises ``ConfigurationError`` when nothing of that name is installed.
    """
    entries = _entries(group).get(name)
    if entries is None:
        raise ConfigurationError(_unknown(group, name))
    if len(entries) > 1:
        return _record(group, entries[0], _several(name, entries))
    return _loaded(group, name, tuple(sys.path))


def usable(group: str, name: str) -> Record:
    """The same, for who cannot go on without: raises ``PluginError`` for one that is broken."""
    record = load(group, name)
    if record.status is not Status.LOADED:
        raise PluginError(f"{kind_of(group)} {name!r} of {record.distribution} cannot be used: {record.error}")
    return record


def plugin_classes(names: Iterable[str] | None) -> tuple[type[Plugin], ...]:
    """The classes of the plugins asked for, each once; None: the defaults. Raises for any that cannot be had."""
    asked = DEFAULT_PLUGINS if names is None else names
    return tuple(dict.fromkeys(usable("aurora_actors.plugins", name).value for name in asked))


def origin_of(group: str, value: Any) -> Origin:
    """Where an extension came from that is in use; its module, if no entry point led to it."""
    record = _in_use.get((group, id(value)))
    if record is not None and record.value is value:
        return Origin(kind_of(group), record.name, record.distribution)
    return Origin(kind_of(group), getattr(value, "name", "") or repr(value), value.__module__)


def monitor(name: str) -> tuple[type[Monitor], str]:
    """The class of a monitor asked for, and the distribution that it came with. Raises if it cannot be had."""
    record = usable("aurora_actors.monitors", name)
    return record.value, record.distribution


def parameters(
    plugins: tuple[type[Plugin], ...],
    monitors: tuple[tuple[type[Monitor], str], ...],
    drivers: frozenset[str],
    providers: tuple[str, ...] = (),
) -> Mapping[str, Setting]:
    """The parameters that the extensions in use declare, by name. *drivers*: the names that are the driver's;
    *providers*: the names of identity providers in use.

    Raises ``ConfigurationError`` for two that declare one parameter differently, and for one that takes the driver's.
    """
    rows: dict[str, Setting] = {}
    owners: dict[str, str] = {}
    declared = [(str(origin_of("aurora_actors.plugins", one)), one.parameters) for one in plugins]
    declared += [(str(origin_of("aurora_actors.monitors", one)), one.parameters) for one, _ in monitors]
    trusted = map(identity_provider, providers)
    declared += [(str(origin_of("aurora_actors.identity_providers", one)), one.parameters) for one in trusted]
    for owner, own in declared:
        for name, row in own.items():
            if name in drivers:
                raise ConfigurationError(f"{owner} declares the parameter {name}, which is the driver's")
            if rows.setdefault(name, row) != row:
                raise ConfigurationError(f"{owners[name]} and {owner} both declare the parameter {name}, differently")
            owners.setdefault(name, owner)
    return MappingProxyType(rows)


@lru_cache
def ordered(classes: tuple[type[Plugin], ...], *, sort: bool = True) -> tuple[type[Plugin], ...]:
    """Outermost first: by ``order``, then name, with ``before`` and ``after`` kept. *sort* off: as the user listed them."""
    if not sort:
        return classes
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


def kind_of(group: str) -> str:
    """What an extension of *group* is called in a sentence."""
    return group.partition(".")[2].removesuffix("s").replace("_", " ")


# What was loaded, each with the first name that it was asked for by.
_in_use: dict[tuple[str, int], Record] = {}


def _entries(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    return _scanned(tuple(sys.path)).get(group, {})


@lru_cache(maxsize=8)
def _scanned(path: tuple[str, ...]) -> Mapping[str, Mapping[str, tuple[EntryPoint, ...]]]:
    """Every entry point of ours, by group and name. Looking through what is installed takes milliseconds: once."""
    from importlib.metadata import distributions  # 10 ms, and only for those who connect

    groups: dict[str, dict[str, tuple[EntryPoint, ...]]] = {}
    for distribution in distributions(path=list(path)):
        for entry in _points(distribution):
            if entry.group.startswith("aurora_actors."):
                names = groups.setdefault(entry.group, {})
                names[entry.name] = _with(names.get(entry.name, ()), entry)
    return groups


def _points(distribution: Distribution) -> Iterable[EntryPoint]:
    try:
        # Nearly all that is installed has nothing for us, and it takes half of the time to read what it has for others.
        return distribution.entry_points if "aurora_actors." in (distribution.read_text("entry_points.txt") or "") else ()
    except Exception as error:  # noqa: BLE001 - a file of anybody's, which may have nothing to do with us
        log.warning("the entry points of %s cannot be read: %s", _named(distribution), described(error))
        return ()


def _with(known: tuple[EntryPoint, ...], entry: EntryPoint) -> tuple[EntryPoint, ...]:
    """*known* and *entry*, unless it is of a distribution that stands earlier on the path, as with modules."""
    hidden = known and _canonical(entry) in {_canonical(other) for other in known}
    return known if hidden else (*known, entry)


def _canonical(entry: EntryPoint) -> str:
    name = entry.dist.name if entry.dist is not None else None
    return (name or entry.value).lower().replace("_", "-").replace(".", "-")


@lru_cache(maxsize=256)
def _loaded(group: str, name: str, path: tuple[str, ...]) -> Record:
    entry = _scanned(path)[group][name][0]
    try:
        value = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an extension may raise anything, or be a script
        log.warning("%s %s of %s does not load: %s", kind_of(group), name, _distribution(entry), described(error))
        return Record(group, name, _distribution(entry), Status.LOAD_ERROR, None, described(error))
    problem = complaint(group, value)
    status = Status.UNUSABLE if problem else Status.LOADED
    record = Record(group, name, _distribution(entry), status, None if problem else value, problem)
    if not problem:
        _in_use.setdefault((group, id(value)), record)
    return record


def _record(group: str, entry: EntryPoint, problem: str) -> Record:
    status = Status.UNUSABLE if problem else Status.FOUND
    return Record(group, entry.name, _distribution(entry), status, None, problem)


def _several(name: str, entries: Sequence[EntryPoint]) -> str:
    owners = " and ".join(sorted(_distribution(entry) for entry in entries))
    return f"{owners} both claim the name {name}: uninstall one"


def _distribution(entry: EntryPoint) -> str:
    dist = entry.dist
    return _named(dist) if dist is not None else entry.value


@lru_cache(maxsize=64)
def _named(dist: Distribution) -> str:
    """Name and version, read once for each distribution: its metadata is a file of some length."""
    metadata = dist.metadata
    return f"{metadata['Name']} {metadata['Version']}"


def _unknown(group: str, name: str) -> str:
    from difflib import get_close_matches

    known = names(group)
    near = get_close_matches(name, known, 1, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"installed are: {', '.join(known) or 'none'}"
    return f"no {kind_of(group)} named {name!r} is installed; {hint}"
