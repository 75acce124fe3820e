"""The failover errors as psycopg's own classes too, so that handlers, ORMs and pools classify them."""

from __future__ import annotations

import psycopg

from aurora_actors import errors

__all__ = [
    "FailoverError",
    "FailoverFailedError",
    "FailoverSuccessError",
    "TransactionResolutionUnknownError",
    "both",
]


class FailoverError(errors.FailoverError, psycopg.OperationalError):
    __doc__ = errors.FailoverError.__doc__


class FailoverSuccessError(errors.FailoverSuccessError, FailoverError):
    __doc__ = errors.FailoverSuccessError.__doc__


class TransactionResolutionUnknownError(errors.TransactionResolutionUnknownError, FailoverError):
    __doc__ = errors.TransactionResolutionUnknownError.__doc__


class FailoverFailedError(errors.FailoverFailedError, FailoverError):
    __doc__ = errors.FailoverFailedError.__doc__


_BOTH: dict[type[BaseException], type[BaseException]] = {
    errors.FailoverError: FailoverError,
    errors.FailoverSuccessError: FailoverSuccessError,
    errors.TransactionResolutionUnknownError: TransactionResolutionUnknownError,
    errors.FailoverFailedError: FailoverFailedError,
}


def both(kind: type[BaseException]) -> type[BaseException]:
    """The class that is *kind* and psycopg's at the same time."""
    return _BOTH.get(kind, kind)
