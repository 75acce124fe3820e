"""The documentation builds strictly, its reference is complete, and its examples run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aurora_actors import errors, signals
from aurora_actors.settings import SETTINGS
from docs import generate
from tests.failover.applications import forget_clusters

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# A fence, its indentation and language, and on the line before it the mark that says: execute this.
FENCE = re.compile(
    r"^(?P<mark><!-- run -->\n+)?(?P<indent> *)```+ *(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```+ *$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?://|#)(?P<target>[^)#\s]+)[^)]*\)")


@dataclass(frozen=True, slots=True)
class Example:
    """One Python example of a page."""

    page: Path
    line: int
    code: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def compiled(self) -> Any:
        # As many newlines as stand above it, so that a traceback names the line of the page.
        return compile("\n" * (self.line - 1) + self.code, str(self.page), "exec")


def examples(page: Path, text: str) -> Iterator[Example]:
    for fence in FENCE.finditer(text):
        language, *options = re.findall(r"[\w-]+", fence["language"]) or [""]
        if language == "python":
            indent = len(fence["indent"])
            lines = (line[indent:] for line in fence["code"].splitlines())
            line = text.count("\n", 0, fence.start("code")) + 1
            yield Example(page, line, "\n".join(lines) + "\n", bool(fence["mark"]) or "run" in options)


def of(page: Path) -> list[Example]:
    return list(examples(page, page.read_text("utf-8")))


EXAMPLES = [example for page in PAGES for example in of(page)]
RUNNABLE = [page for page in PAGES if any(example.runs for example in of(page))]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_python(example: Example) -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(example.code, str(example), "exec", flags=flags)


@pytest.mark.lab
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, request: pytest.FixtureRequest) -> None:
    """One page is one session: what an example defines, the next one may use; ``aurora_lab`` is the cluster, or
    ``aurora_mysql_lab`` on a page that names that.

    A test in an example is called, as pytest would.
    """
    if find_spec("aurora_actors.lab.pytest_plugin") is None:
        pytest.skip("the local cluster is not installed: its examples are not run")
    runs = [example for example in of(page) if example.runs]
    fixture = "aurora_mysql_lab" if any("aurora_mysql_lab" in example.code for example in runs) else "aurora_lab"
    lab = request.getfixturevalue(fixture)
    forget_clusters()  # both engines' clusters go by one name
    namespace: dict[str, Any] = {"__name__": "example", fixture: lab}
    for example in runs:
        exec(example.compiled(), namespace)
    for name, value in namespace.items():
        if name.startswith("test_"):
            value(**{fixture: lab})


def test_the_readme_has_examples_that_run() -> None:
    assert sum(example.runs for example in of(ROOT / "README.md")) >= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\na = 1\n```\n", [("a = 1\n", False, 2)]),
        ("<!-- run -->\n```python\na = 1\n```\n", [("a = 1\n", True, 3)]),
        ("text\n\n<!-- run -->\n\n```python\na\n\nb\n```\n", [("a\n\nb\n", True, 6)]),
        ("``` {.python .run}\na = 1\n```\n", [("a = 1\n", True, 2)]),
        ("1. item\n\n    ```python\n    if a:\n        b\n    ```\n", [("if a:\n    b\n", False, 4)]),
        ("```console\n$ make\n```\n\n```\nplain\n```\n", []),
    ],
)
def test_how_examples_are_found(text: str, expected: list[tuple[str, bool, int]]) -> None:
    found = examples(ROOT / "README.md", text)
    assert [(example.code, example.runs, example.line) for example in found] == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    generated = {ROOT / "docs" / name for name in generate.pages()}
    targets = [link["target"] for link in LINK.finditer(page.read_text("utf-8"))]
    missing = [one for one in targets if (path := (page.parent / one).resolve()) not in generated and not path.exists()]
    assert not missing


def test_the_documentation_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    pages = ("tutorial", "mysql", "lab", "plugins", "architecture", "changelog", *(f"reference/{n}" for n in REFERENCE))
    assert {"index.html", *(f"{page}/index.html" for page in pages)} <= built
    assert not list((tmp_path / "site").rglob("*.py"))


def public_errors() -> list[str]:
    return [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]


REFERENCE = {
    "parameters": list(SETTINGS),
    "signals": list(signals.namespace),
    "errors": public_errors(),
}


@pytest.mark.parametrize("page", REFERENCE)
def test_the_reference_is_complete(page: str) -> None:
    text = generate.pages()[f"reference/{page}.md"]
    assert REFERENCE[page]
    assert [name for name in REFERENCE[page] if not re.search(rf"(`|# ){name}(`|\n)", text)] == []


def test_every_event_is_described() -> None:
    text = generate.pages()["reference/signals.md"]
    for name in signals.namespace:
        assert f"field of `{generate.event_of(name).__name__}`" in text


def test_no_role_of_another_markup_is_left() -> None:
    assert not [name for name, text in generate.pages().items() if re.search(r":\w+:`", text)]


def test_every_scenario_has_its_test() -> None:
    text = (ROOT / "docs" / "testing.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| .* \| `(\S+)::(\w+)` \|$", text, re.MULTILINE)
    assert sorted({int(number) for number, _, _ in rows}) == list(range(1, 23))
    for _, path, name in rows:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), name
