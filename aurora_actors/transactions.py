"""A unit of work that is done again as a whole when it is known not to have been committed."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from time import monotonic
from typing import Any, TypeVar

from aurora_actors.deadlines import limited, nearest
from aurora_actors.errors import ConfigurationError, DeadlineExceededError, FailoverFailedError, Outcome, ProgrammingError
from aurora_actors.flow.recovering import pause
from aurora_actors.flow.running import run_blocking
from aurora_actors.model.repeating import repeats

__all__ = ["run_transaction", "run_transaction_async"]

log = logging.getLogger("aurora_actors.transactions")

R = TypeVar("R")

ATTEMPTS = 5
"""How often a unit of work is tried, the first time included."""


def run_transaction(source: Any, fn: Callable[..., R], /, *, attempts: int = ATTEMPTS, seconds: float | None = None) -> R:
    """Call *fn* within a transaction, commit, and give what it gave; after certain errors, do all of it again.

    *source* is a connection with no transaction open; a pool of ``psycopg_pool``; a ``Session`` or ``sessionmaker`` of
    SQLAlchemy; or a callable that gives a context manager for each try: of a connection or a session, which *fn* is
    called with, or of a transaction itself, such as Django's ``atomic``, for which *fn* is called without arguments.

    Again: after a failover, a serialization failure or a deadlock, if the error says that nothing was committed, at
    most *attempts* times in all, within *seconds* and the deadline in force, with growing pauses. What is known to have
    been committed (``commit_outcome``) is a success. Every other error goes to the caller as it is, and so does the last
    one, and what is raised once something may have been committed, as by a listener of SQLAlchemy's to ``after_commit``.
    *fn* may run more than once: what it does elsewhere has to bear that.

    Raises ``ProgrammingError`` where a transaction is open already, ``ConfigurationError`` for what is no source.
    """

    over: list[bool] = []

    async def once() -> R:
        done: list[R] = []
        try:
            with _entered(source) as unit:
                with _witnessed(unit, over), _begun(unit):
                    done.append(fn() if unit is None else fn(unit))
                over.append(unit is not None)
        except Exception as error:
            if not (done and _committed(error)):
                raise
        return done[0]

    return run_blocking(_repeated(once, _rest, attempts, seconds, over, alone=_is_connection(source)))


async def _rest(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - the face for threads blocks


async def run_transaction_async(
    source: Any, fn: Callable[..., Awaitable[R]], /, *, attempts: int = ATTEMPTS, seconds: float | None = None
) -> R:
    """The same for asyncio: *source* is of asyncio's, and *fn* gives what is to be awaited. See ``run_transaction``."""
    from asyncio import sleep as rest

    over: list[bool] = []

    async def once() -> R:
        done: list[R] = []
        try:
            async with _entered_async(source) as unit:
                with _witnessed(unit, over):
                    async with _begun_async(unit):
                        done.append(await (fn() if unit is None else fn(unit)))
                over.append(unit is not None)
        except Exception as error:
            if not (done and _committed(error)):
                raise
        return done[0]

    return await _repeated(once, rest, attempts, seconds, over, alone=_is_connection(source))


async def _repeated(
    once: Callable[[], Awaitable[R]],
    rest: Callable[[float], Awaitable[None]],
    attempts: int,
    seconds: float | None,
    over: list[bool],
    *,
    alone: bool,
) -> R:
    """*over*: something of a try may have been committed. *alone*: there is one connection, and none once it is closed."""
    with limited(seconds):
        tries = 0
        while True:
            tries += 1
            try:
                return await once()
            except Exception as error:
                wait = pause(tries) * random.uniform(0.5, 1.0)
                left = nearest() - monotonic()
                if any(over) or not _repeats(error, alone=alone):
                    raise
                if tries >= attempts or wait >= left:
                    why = f"{left:.3f} s were left" if wait >= left else f"attempts={attempts}"
                    error.add_note(f"aurora_actors.run_transaction: tried {tries} times, not again ({why})")
                    raise
                log.debug("a transaction is done again, try %d: %s", tries + 1, error)
            await rest(wait)


def _committed(error: Exception) -> bool:
    """Whether the connection was lost in COMMIT, and that is known to have happened (``commit_outcome``)."""
    return getattr(_inner(error), "outcome", None) is Outcome.COMMITTED


def _inner(error: Exception) -> Any:
    # SQLAlchemy and Django put errors of their own around the driver's.
    inner = getattr(error, "orig", None) or (error.__cause__ if type(error).__module__ == "django.db.utils" else None)
    return inner if isinstance(inner, Exception) else error


def _repeats(error: Exception, *, alone: bool) -> bool:
    found = _inner(error)
    if isinstance(found, DeadlineExceededError) or (alone and isinstance(found, FailoverFailedError)):
        return False
    return repeats(getattr(found, "outcome", None), getattr(found, "sqlstate", None), getattr(found, "errno", None))


def _is_connection(source: Any) -> bool:
    return hasattr(source, "cursor")


def _source(source: Any) -> Any:
    """What gives a connection, a session, or a transaction for one try."""
    if _is_connection(source) or hasattr(source, "begin_nested"):
        # Of a scoped session the one of here and now.
        return nullcontext(source() if hasattr(source, "registry") else source)
    make = getattr(source, "connection", source)
    if not callable(make):
        raise ConfigurationError(
            f"run_transaction() takes a connection, a pool, a session or a callable that gives a context manager, not"
            f" {type(source).__name__}"
        )
    return make()


def _entered(source: Any) -> AbstractContextManager[Any]:
    made: AbstractContextManager[Any] = _source(source)
    return made


def _entered_async(source: Any) -> AbstractAsyncContextManager[Any]:
    made: AbstractAsyncContextManager[Any] = _source(source)
    return made


def _driver_block(unit: Any) -> Any:
    """The block of *unit* for a transaction; None: it has none. Raises ``ProgrammingError``."""
    if unit is None:
        return nullcontext()
    info = getattr(unit, "info", None)
    is_open = getattr(unit, "in_transaction", False)
    is_open = is_open() if callable(is_open) else is_open
    if is_open or getattr(getattr(info, "transaction_status", None), "name", "") in ("ACTIVE", "INTRANS", "INERROR"):
        raise ProgrammingError(
            "run_transaction() needs a connection with no transaction open: what was done in it could not be repeated"
        )
    begin = getattr(unit, "begin", None) or getattr(unit, "transaction", None)
    return begin() if begin is not None else None


@contextmanager
def _witnessed(unit: Any, over: list[bool]) -> Iterator[None]:
    """Note in *over* whether a session of SQLAlchemy's that fails may have committed something.

    Its listeners run after COMMIT, too, and one that has several databases commits to one after the other.
    """
    session = getattr(unit, "sync_session", unit)
    if not hasattr(session, "identity_map"):
        yield
        return
    # Whoever has a session has loaded it; this package needs it for nothing else.
    event: Any = sys.modules["sqlalchemy.event"]
    commits: list[Any] = []
    undone: list[bool] = []
    begun: set[Any] = set()

    def commit(conn: Any) -> None:
        commits.append(conn)

    def after_begin(_session: Any, _transaction: Any, conn: Any) -> None:
        begun.add(conn)
        event.listen(conn, "commit", commit)

    def after_soft_rollback(_session: Any, transaction: Any) -> None:
        undone.append(transaction.parent is None)

    listeners = (after_begin, after_soft_rollback)
    for listener in listeners:
        event.listen(session, listener.__name__, listener)
    try:
        yield
    except Exception:
        # The first COMMIT that fails is the last one, and the session rolls back; else it was not a COMMIT that failed.
        over.append(len(commits) > 1 or (len(commits) == 1 and not any(undone)))
        raise
    finally:
        for listener in listeners:
            event.remove(session, listener.__name__, listener)
        for conn in begun:
            event.remove(conn, "commit", commit)


@contextmanager
def _begun(unit: Any) -> Iterator[None]:
    """A transaction on *unit*, committed at the end of the block and rolled back after an error."""
    block = _driver_block(unit)
    if block is not None:
        with block:
            yield
        return
    unit.start_transaction()
    try:
        yield
    except BaseException:
        if unit.in_transaction:
            unit.rollback()
        raise
    unit.commit()


@asynccontextmanager
async def _begun_async(unit: Any) -> AsyncIterator[None]:
    block = _driver_block(unit)
    if block is not None:
        async with block:
            yield
        return
    await unit.start_transaction()
    try:
        yield
    except BaseException:
        if unit.in_transaction:
            await unit.rollback()
        raise
    await unit.commit()
