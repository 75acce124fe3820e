"""All tests in several processes side by side, for they wait for servers more than they compute: `make test`.

    python -m tests.parts [pytest's options]

The output of the first part is shown as it comes, that of the others after it, and a line with the sum of all comes
last. With paths among the options it is pytest alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import IO

# What lasts longest by itself: each part takes about the same time. The first is all the rest.
OTHERS = (
    ("tests/lab", "tests/test_demo.py", "tests/packaging"),
    ("tests/drivers", "tests/orm", *(str(path) for path in sorted(Path("tests/failover").glob("test_mysql_*.py")))),
)
_SUMMARY = re.compile(r"^(?:=+ )?(?P<counts>\d+ \w+\b.*) in [\d.]+s.*$", re.MULTILINE)
_NO_TESTS = 5
"""pytest's exit code where nothing was selected in a part."""


def main(options: Sequence[str]) -> int:
    """Run the parts; the exit code of the first that failed."""
    if any(Path(option.partition("::")[0]).exists() for option in options):
        return subprocess.call([sys.executable, "-m", "pytest", *options])
    began = monotonic()
    command = [sys.executable, "-m", "pytest", "--color=no", *options]
    with ExitStack() as held:
        parts: list[tuple[subprocess.Popen[str], IO[str]]] = []
        for paths in OTHERS:
            later = held.enter_context(tempfile.TemporaryFile("w+"))
            part = subprocess.Popen([*command, *paths], stdout=later, stderr=subprocess.STDOUT, text=True)
            held.callback(part.kill)
            parts.append((part, later))
        shown, codes = _shown([*command, "tests", *(f"--ignore={path}" for paths in OTHERS for path in paths)])
        for part, output in parts:
            codes.append(part.wait())
            output.seek(0)
            text = output.read()
            sys.stdout.write(text)
            shown += "\n" + text
    counts = Counter[str]()
    for match in _SUMMARY.finditer(shown):
        counts.update({word: int(number) for number, word in re.findall(r"(\d+) (\w+)", match["counts"])})
    said = ", ".join(f"{counts[word]} {word}" for word in sorted(counts, key=_order))
    sys.stdout.write(f"===== {said or 'no tests ran'} in {monotonic() - began:.2f}s =====\n")
    if all(code == _NO_TESTS for code in codes):
        return _NO_TESTS
    return next((code for code in codes if code not in (0, _NO_TESTS)), 0)


def _order(word: str) -> tuple[int, str]:
    first = ("failed", "passed", "skipped")
    return (first.index(word) if word in first else len(first), word)


def _shown(command: Sequence[str]) -> tuple[str, list[int]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: list[str] = []
        for line in _lines(process):
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    return "".join(lines), [process.returncode]


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
