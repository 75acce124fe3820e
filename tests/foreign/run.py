"""`make foreign`: other people's tests on the drivers' connections and on ours, compared test by test.

SQLAlchemy's for PostgreSQL, and MySQL Connector's own. Exit status 1: some test ends otherwise on ours, and no reason is
known. The suites are source distributions, kept in ``--directory``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import gettempdir

from tests.foreign import connector, orm

SUITES = {**dict.fromkeys(orm.DRIVERS, orm.compared), **dict.fromkeys(connector.DRIVERS, connector.compared)}


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def _counted(found: dict[str, str]) -> str:
    return ", ".join(f"{count} {how}" for how, count in sorted(Counter(found.values()).items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make foreign", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(gettempdir()) / "aurora_actors-foreign")
    parser.add_argument("--driver", choices=SUITES, action="append")
    parser.add_argument("tests", nargs="*", help="instead of the usual selection, where one --driver is given")
    given = parser.parse_args()
    different = 0
    for driver in given.driver or SUITES:
        raw, ours = SUITES[driver](given.directory, driver, given.tests)
        for name, found in (("raw", raw), ("ours", ours)):
            say(f"{driver}, {name}:", _counted(found))
        for test in sorted(raw.keys() | ours.keys()):
            if raw.get(test) != ours.get(test):
                reason = next((why for end, why in connector.REASONS.items() if test.endswith(end)), "")
                different += not reason
                say(f"  {test}: {raw.get(test)} on the driver's, {ours.get(test)} on ours", reason and f"({reason})")
    say(f"logs and reports: {given.directory}")
    return min(different, 1)


if __name__ == "__main__":
    sys.exit(main())
