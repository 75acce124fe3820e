"""The failover errors as MySQL Connector's own classes too, so that handlers, ORMs and pools classify them."""

from __future__ import annotations

from typing import Any

from mysql.connector import InterfaceError, OperationalError, ProgrammingError

from aurora_actors import errors

__all__ = [
    "ConfigurationError", "DeadlineExceededError", "FailoverError", "FailoverFailedError", "FailoverSuccessError",
    "SharedError", "TransactionResolutionUnknownError", "both",
]  # fmt: skip

TIMED_OUT = 3024
"""ER_QUERY_TIMEOUT, by which the server itself says that a statement took too long."""
LOST = 2013
"""CR_SERVER_LOST, by which applications and pools tell a connection that is of no more use."""


class ConfigurationError(errors.ConfigurationError, InterfaceError):
    """A parameter of the driver's own that no driver takes. See ``aurora_actors.errors``."""


class SharedError(errors.ProgrammingError, ProgrammingError):
    """A second thread or task called a connection while it was in use. Nothing was sent."""


class DeadlineExceededError(errors.DeadlineExceededError, OperationalError):
    """The deadline came. See ``aurora_actors.errors``."""

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.args = (message,)
        self.sqlstate = errors.DeadlineExceededError.sqlstate
        # Applications and pools have to take the connection for lost where it is.
        self.errno = TIMED_OUT if self.outcome is errors.Outcome.NOT_SENT else LOST


class FailoverError(errors.FailoverError, OperationalError):
    """A connection was lost. See ``aurora_actors.errors``."""

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        # The driver's class sets these in a way of its own, which no copy of the error would survive.
        self.args = (message,)
        self.sqlstate = type(self).sqlstate


class FailoverSuccessError(errors.FailoverSuccessError, FailoverError):
    """It works again; no transaction was open. See ``aurora_actors.errors``."""

    sqlstate = errors.FailoverSuccessError.sqlstate


class TransactionResolutionUnknownError(errors.TransactionResolutionUnknownError, FailoverError):
    """It works again; a transaction was open. See ``aurora_actors.errors``."""

    sqlstate = errors.TransactionResolutionUnknownError.sqlstate


class FailoverFailedError(errors.FailoverFailedError, FailoverError):
    """No host could be had in time. See ``aurora_actors.errors``."""

    sqlstate = errors.FailoverFailedError.sqlstate

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.errno = LOST


_MADE: tuple[type[errors.Error], ...] = (
    ConfigurationError,
    DeadlineExceededError,
    FailoverSuccessError,
    TransactionResolutionUnknownError,
    FailoverFailedError,
    FailoverError,
)


def both(kind: type[Any]) -> type[Any]:
    """The class that is *kind* and the driver's at the same time."""
    return next((made for made in _MADE if issubclass(made, kind) and made.__name__ == kind.__name__), kind)
