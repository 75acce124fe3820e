"""The failover errors as psycopg's own classes too, so that handlers, ORMs and pools classify them."""

from __future__ import annotations

import psycopg

from aurora_actors import errors

__all__ = [
    "DeadlineExceededError",
    "FailoverError",
    "FailoverFailedError",
    "FailoverSuccessError",
    "TransactionResolutionUnknownError",
    "both",
]


class DeadlineExceededError(errors.DeadlineExceededError, psycopg.errors.QueryCanceled):
    """The deadline came. See ``aurora_actors.errors``."""

    sqlstate = errors.DeadlineExceededError.sqlstate


class FailoverError(errors.FailoverError, psycopg.OperationalError):
    """A connection was lost. See ``aurora_actors.errors``."""


class FailoverSuccessError(errors.FailoverSuccessError, FailoverError):
    """It works again; no transaction was open. See ``aurora_actors.errors``."""

    sqlstate = errors.FailoverSuccessError.sqlstate


class TransactionResolutionUnknownError(errors.TransactionResolutionUnknownError, FailoverError):
    """It works again; a transaction was open. See ``aurora_actors.errors``."""

    sqlstate = errors.TransactionResolutionUnknownError.sqlstate


class FailoverFailedError(errors.FailoverFailedError, FailoverError):
    """No host could be had in time. See ``aurora_actors.errors``."""

    sqlstate = errors.FailoverFailedError.sqlstate


_BOTH: dict[type[BaseException], type[BaseException]] = {
    errors.DeadlineExceededError: DeadlineExceededError,
    errors.FailoverError: FailoverError,
    errors.FailoverSuccessError: FailoverSuccessError,
    errors.TransactionResolutionUnknownError: TransactionResolutionUnknownError,
    errors.FailoverFailedError: FailoverFailedError,
}


def both(kind: type[BaseException]) -> type[BaseException]:
    """The class that is *kind* and psycopg's at the same time."""
    return _BOTH.get(kind, kind)
