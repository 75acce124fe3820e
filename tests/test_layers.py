"""The laws of the folders (docs/architecture.md), read from the imports and enforced."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS, PLUGINS = "aurora_actors", "aurora_actors_plugins"
LONGEST_FILE = 400

CORE_DEPENDENCIES = frozenset({"blinker", "pykka"})
DATABASE_DRIVERS = frozenset({"psycopg", "psycopg_pool", "mysql"})
EFFECTS = frozenset(
    {"asyncio", "concurrent", "http", "logging", "multiprocessing", "os", "pathlib", "queue", "sched"}
    | {"select", "selectors", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time"}
    | {"urllib", "weakref"}
)
# Where a database driver may be imported: the adapters, the PEP 249 modules bound to one, and what is no core.
NO_CORE = (f"{OURS}.lab", f"{OURS}.cli", f"{OURS}.sqlalchemy", f"{OURS}.django")
MAY_IMPORT_DRIVERS = (f"{OURS}.drivers", f"{OURS}.psycopg", f"{OURS}.mysql_connector", *NO_CORE)
# What a plugin may import of ours: what a stranger's plugin may.
PUBLIC = frozenset({OURS, *(f"{OURS}.{name}" for name in ("driver", "errors", "plugin", "settings", "signals", "testing"))})
UNWANTED_WORD = re.compile(r"Impl(?![a-z])|Manager|Helper|Utils?(?![a-z])|Factory")
UNWANTED_MODULE = re.compile(r"(^|_)(utils?|helpers?|misc|common)(_|$)")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by absolute name, and where the statement stands."""

    module: str
    line: int
    deferred: bool  # inside a function: it runs when the function does

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Module:
    """One source file under the name it is imported by."""

    name: str
    source: str
    is_package: bool = False

    def within(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)


def modules(folder: str, package: str) -> Iterator[Module]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        yield Module(".".join(parts[:-1] if is_package else parts), path.read_text("utf-8"), is_package)


MODULES = (*modules(OURS, OURS), *modules("plugins", PLUGINS))
NAMES = frozenset(module.name for module in MODULES)


def imports(module: Module, names: frozenset[str] = NAMES) -> Iterator[Import]:
    """Every import of *module*, also those inside functions and for type checkers only."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(module.source), False)]
    while pending:
        node, deferred = pending.pop()
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending.extend((child, inside) for child in ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"  # `from package import module` imports the module
                yield Import(full if full in names else base, node.lineno, deferred)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    start = package[: len(package) - node.level + 1]
    return ".".join([*start, node.module] if node.module else start)


@cache
def bound_to_a_driver() -> frozenset[str]:
    """The modules of ours that import a database driver."""
    return frozenset(
        module.name for module in MODULES if any(item.top in DATABASE_DRIVERS for item in imports(module))
    )


Law = Callable[[Module], Iterator[Import]]


def model_is_pure(module: Module) -> Iterator[Import]:
    """model/: no I/O, threads or clock; imports nothing else of ours."""
    if module.within(f"{OURS}.model"):
        for item in imports(module):
            ours = item.top == OURS and not (item.module + ".").startswith(f"{OURS}.model.")
            if ours or item.top in EFFECTS or item.top in CORE_DEPENDENCIES:
                yield item


def drivers_are_imported_by_adapters_only(module: Module) -> Iterator[Import]:
    """drivers/: the only imports of psycopg and mysql.connector."""
    if not module.within(*MAY_IMPORT_DRIVERS):
        yield from (item for item in imports(module) if item.top in DATABASE_DRIVERS)


def layers_reach_no_driver(module: Module) -> Iterator[Import]:
    """model/, actors/, flow/ and dialects/ import no module of ours that imports a database driver."""
    if module.within(*(f"{OURS}.{layer}" for layer in ("model", "actors", "flow", "dialects"))):
        yield from (item for item in imports(module) if item.module in bound_to_a_driver())


def dialects_hold_sql_only(module: Module) -> Iterator[Import]:
    """dialects/: SQL text and row reading, so nothing that waits, starts or sends."""
    if module.within(f"{OURS}.dialects"):
        others = tuple(f"{OURS}.{layer}" for layer in ("actors", "drivers", "proxies", "lab", "cli"))
        yield from (item for item in imports(module) if item.module.startswith(others) or item.top == "socket")


def plugins_import_the_public_surface(module: Module) -> Iterator[Import]:
    """plugins/: only what a stranger's plugin may import."""
    if module.within(PLUGINS):
        yield from (item for item in imports(module) if item.top == OURS and item.module not in PUBLIC)


def core_needs_two_packages(module: Module) -> Iterator[Import]:
    """The core imports pykka, blinker and the standard library."""
    if module.within(OURS) and not module.within(*NO_CORE):
        known = CORE_DEPENDENCIES | DATABASE_DRIVERS | sys.stdlib_module_names | {OURS}
        yield from (item for item in imports(module) if item.top not in known)


def core_stands_alone(module: Module) -> Iterator[Import]:
    """The core knows neither the bundled plugins nor the lab nor the command line; nothing imports the tests."""
    if module.within(OURS) and not module.within(*NO_CORE):
        beyond = (PLUGINS, *NO_CORE, "tests", "plugins")
        yield from (item for item in imports(module) if Module(item.module, "").within(*beyond))


def boto3_is_imported_late(module: Module) -> Iterator[Import]:
    """Nothing imports boto3 or botocore before it is used."""
    yield from (item for item in imports(module) if item.top in {"boto3", "botocore"} and not item.deferred)


LAWS: tuple[Law, ...] = (
    model_is_pure,
    drivers_are_imported_by_adapters_only,
    layers_reach_no_driver,
    dialects_hold_sql_only,
    plugins_import_the_public_surface,
    core_needs_two_packages,
    core_stands_alone,
    boto3_is_imported_late,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_is_kept(law: Law) -> None:
    broken = [f"{module.name}:{item.line} imports {item.module}" for module in MODULES for item in law(module)]
    assert not broken, f"{law.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("law", "module"),
    [
        (model_is_pure, Module(f"{OURS}.model.hosts", "import time")),
        (model_is_pure, Module(f"{OURS}.model.hosts", "def f():\n    from threading import Lock")),
        (model_is_pure, Module(f"{OURS}.model.hosts", "from aurora_actors.errors import Error")),
        (model_is_pure, Module(f"{OURS}.model.hosts", "from ..settings import SETTINGS")),
        (model_is_pure, Module(f"{OURS}.model", "from .. import errors", is_package=True)),
        (drivers_are_imported_by_adapters_only, Module(f"{OURS}.proxies.session", "import psycopg.errors")),
        (drivers_are_imported_by_adapters_only, Module(f"{OURS}.flow.io", "def f():\n  import mysql.connector")),
        (dialects_hold_sql_only, Module(f"{OURS}.dialects.postgres", "from aurora_actors.drivers import base")),
        (plugins_import_the_public_surface, Module(f"{PLUGINS}.efm", "from aurora_actors.model import hosts")),
        (plugins_import_the_public_surface, Module(f"{PLUGINS}.efm", "import aurora_actors.actors.system")),
        (core_needs_two_packages, Module(f"{OURS}.flow.chain", "import tenacity")),
        (core_stands_alone, Module(f"{OURS}.flow.chain", "import aurora_actors_plugins.failover")),
        (core_stands_alone, Module(f"{OURS}.testing", "from aurora_actors.lab import cluster")),
        (boto3_is_imported_late, Module(f"{PLUGINS}.iam", "class A:\n    import boto3.session")),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "source", "")[:40],
)
def test_a_broken_law_is_noticed(law: Law, module: Module) -> None:
    assert list(law(module))


@pytest.mark.parametrize(
    ("law", "module"),
    [
        (model_is_pure, Module(f"{OURS}.model.hosts", "from .topology import x\nimport enum")),
        (drivers_are_imported_by_adapters_only, Module(f"{OURS}.drivers.psycopg", "import psycopg")),
        (plugins_import_the_public_surface, Module(f"{PLUGINS}.efm", "from aurora_actors import Plugin, signals")),
        (core_needs_two_packages, Module(f"{OURS}.signals", "import blinker\nfrom threading import Lock")),
        (boto3_is_imported_late, Module(f"{PLUGINS}.iam", "def fetch():\n    import boto3")),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "source", "")[:40],
)
def test_what_a_law_allows(law: Law, module: Module) -> None:
    assert not list(law(module))


def test_there_is_something_to_read() -> None:
    assert {OURS, f"{OURS}.errors", f"{OURS}.model", PLUGINS} <= NAMES


def classes(source: str) -> Iterator[str]:
    yield from (node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))


def test_no_class_or_module_has_a_name_that_says_nothing() -> None:
    unwanted = [
        f"{module.name}: class {name}"
        for module in MODULES
        for name in classes(module.source)
        if UNWANTED_WORD.search(name)
    ]
    unwanted += [module.name for module in MODULES if UNWANTED_MODULE.search(module.name.rpartition(".")[2])]
    assert not unwanted


@pytest.mark.parametrize("name", ["HostManager", "TopologyImpl", "PluginFactory", "HostUtils", "Util", "RowHelper"])
def test_a_name_that_says_nothing_is_noticed(name: str) -> None:
    assert UNWANTED_WORD.search(name)


@pytest.mark.parametrize("name", ["Implicit", "Utility", "Host"])
def test_a_name_that_only_looks_like_one_passes(name: str) -> None:
    assert not UNWANTED_WORD.search(name)


def test_files_stay_short() -> None:
    sources = [path for folder in (OURS, "plugins", "tests", "docs") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


IMPORT_ALONE = """
import importlib.metadata, sys, threading

def forbidden(*args, **kwargs):
    raise AssertionError("entry points were read at import")

importlib.metadata.entry_points = forbidden
before = set(sys.modules)
import aurora_actors
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
heavy = {name for name in sys.modules if name.startswith(("aurora_actors.drivers.", "aurora_actors.lab"))}
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
print(*sorted(loaded | heavy))
"""


def test_importing_the_package_starts_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALONE], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert OURS in loaded
    others = loaded - sys.stdlib_module_names - CORE_DEPENDENCIES - {OURS}
    assert not {name for name in others if not name.startswith("_")}, "import aurora_actors brought more than it needs"


def test_the_folder_of_plugins_has_one_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import plugins"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert "import that, never 'plugins'" in done.stderr
