"""Django's database backends on connections that survive the loss of their host.

    DATABASES = {"default": {"ENGINE": "aurora_actors.django.postgresql", "OPTIONS": {"plugins": "failover,efm"}, …}}

and ``aurora_actors.django.mysql``, which builds on MySQL Connector's own backend. Our parameters stand in ``OPTIONS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from aurora_actors.transactions import ATTEMPTS, run_transaction

__all__ = ["run_atomic"]

R = TypeVar("R")


def run_atomic(
    fn: Callable[[], R], /, *, using: str | None = None, attempts: int = ATTEMPTS, seconds: float | None = None
) -> R:
    """``run_transaction`` for a durable ``atomic`` block: *fn* is called in one, and again in another if need be.

    What *fn* gave to ``on_commit`` in a try that was rolled back is forgotten. An error of such a function, after the
    commit, goes to the caller and repeats nothing.

    Raises ``RuntimeError``, as Django does, within another ``atomic`` block.
    """
    from django.db.transaction import atomic, on_commit

    block: Any = atomic(using, durable=True)
    failed: list[Exception] = []

    @contextmanager
    def once() -> Iterator[None]:
        committed: list[bool] = []
        try:
            with block:
                on_commit(lambda: committed.append(True), using)
                yield
        except Exception as error:
            if not committed:
                raise
            failed.append(error)

    result = run_transaction(once, fn, attempts=attempts, seconds=seconds)
    if failed:
        raise failed[0]
    return result
