"""All tests in two processes side by side, for they wait for servers more than they compute: `make test`.

    python -m tests.halves [pytest's options]

The output of the first half is shown as it comes, that of the second after it, and a line with the sum of both comes
last. With paths among the options it is pytest alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

# What lasts longest by itself: each half takes about the same time.
SECOND = ("tests/lab", "tests/test_demo.py", "tests/packaging")
_SUMMARY = re.compile(r"^(?:=+ )?(?P<counts>\d+ \w+\b.*) in [\d.]+s.*$", re.MULTILINE)
_NO_TESTS = 5
"""pytest's exit code where nothing was selected in a half."""


def main(options: Sequence[str]) -> int:
    """Run the halves; the exit code of the first that failed."""
    if any(Path(option.partition("::")[0]).exists() for option in options):
        return subprocess.call([sys.executable, "-m", "pytest", *options])
    began = monotonic()
    with tempfile.TemporaryFile("w+") as later:
        command = [sys.executable, "-m", "pytest", "--color=no", *options]
        second = subprocess.Popen([*command, *SECOND], stdout=later, stderr=subprocess.STDOUT)
        try:
            shown, codes = _shown([*command, "tests", *(f"--ignore={path}" for path in SECOND)])
            codes.append(second.wait())
        finally:
            second.kill()
        later.seek(0)
        text = later.read()
    sys.stdout.write(text)
    counts = Counter[str]()
    for match in _SUMMARY.finditer(shown + "\n" + text):
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
