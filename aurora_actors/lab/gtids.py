"""Count global transaction ids, as MySQL and MariaDB write them. Pure.

In a lab one host writes at a time and all others apply what it wrote in its order, so what hosts have are prefixes of
one history, and a count says who has more.
"""

from __future__ import annotations

__all__ = ["count_mariadb", "count_mysql"]


def count_mariadb(position: str) -> int:
    """The sequence number in a position such as ``0-2-117``; 0 for an empty one. The lab has one domain, 0."""
    return max((int(part.rsplit("-", 1)[1]) for part in position.split(",") if part.strip()), default=0)


def count_mysql(*sets: str) -> int:
    """How many transactions are in the union of sets such as ``3e11fa47-…:1-5:9,…``."""
    intervals: dict[str, list[tuple[int, int]]] = {}
    for part in ",".join(sets).replace("\n", "").split(","):
        source, _, ranges = part.strip().partition(":")
        for text in ranges.split(":") if ranges else ():
            first, _, last = text.partition("-")
            intervals.setdefault(source.lower(), []).append((int(first), int(last or first)))
    return sum(_covered(sorted(found)) for found in intervals.values())


def _covered(intervals: list[tuple[int, int]]) -> int:
    total, reached = 0, 0
    for first, last in intervals:
        total += max(0, last - max(first - 1, reached))
        reached = max(reached, last)
    return total
