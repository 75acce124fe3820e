"""The errors that are ours; everything else an application sees is the driver's own object.

On a driver, each failover error is at the same time that driver's class: the ``FailoverSuccessError`` raised on
psycopg is a ``psycopg.OperationalError`` too, so that existing handlers, ORMs and pools classify it. Catch it by the
names of this module, whatever the driver.
"""

from __future__ import annotations

from aurora_actors.model.hosts import Host
from aurora_actors.model.outcome import Attempt, Ledger, Outcome

__all__ = [
    "Attempt",
    "AwsWrapperError",
    "ConfigurationError",
    "DataError",
    "DatabaseError",
    "DeadlineExceededError",
    "Error",
    "FailoverError",
    "FailoverFailedError",
    "FailoverSuccessError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Ledger",
    "NotSupportedError",
    "OperationalError",
    "Outcome",
    "PluginError",
    "ProgrammingError",
    "TransactionResolutionUnknownError",
    "Warning",
]


class Warning(Exception):  # noqa: A001  (the name is PEP 249's)
    """PEP 249."""


class Error(Exception):
    """PEP 249: the base of all errors of this package."""


class InterfaceError(Error):
    """PEP 249: a misuse of the interface."""


class DatabaseError(Error):
    """PEP 249: an error that concerns the database."""


class DataError(DatabaseError):
    """PEP 249."""


class OperationalError(DatabaseError):
    """PEP 249: the database could not do what was asked for reasons outside the program."""


class IntegrityError(DatabaseError):
    """PEP 249."""


class InternalError(DatabaseError):
    """PEP 249."""


class ProgrammingError(DatabaseError):
    """PEP 249."""


class NotSupportedError(DatabaseError):
    """PEP 249."""


class AwsWrapperError(Error):
    """What is wrong lies in how this package is used. (The AWS wrapper's name.)"""


class ConfigurationError(AwsWrapperError, InterfaceError):
    """A parameter, plugin, pattern or driver is misspelt, missing, out of range, or contradicts another.

    Raised by ``connect()`` before any thread starts or any byte is sent.
    """


class PluginError(AwsWrapperError, InterfaceError):
    """A plugin that was asked for by name failed to load; the message names the distribution it came from."""


class DeadlineExceededError(OperationalError):
    """The caller's deadline came, or had come before anything was sent. No failover: its host is not blamed.

    ``outcome`` says whether what was under way happened; ``seconds`` is how long it was under way.
    """

    sqlstate: str | None = "57014"

    def __init__(self, message: str = "", *, outcome: Outcome = Outcome.UNKNOWN, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.seconds = seconds


QueryTimeoutError = DeadlineExceededError
"""The AWS wrapper's name."""


class FailoverError(OperationalError):
    """A connection was lost. ``outcome`` says whether what was in flight happened.

    ``host`` is where the connection now is (None when it is nowhere), ``attempts`` each try that failed, ``ledger``
    the times of the failover in seconds. ``__cause__`` is the driver's own error.
    """

    sqlstate: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        host: Host | None = None,
        attempts: tuple[Attempt, ...] = (),
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.host = host
        self.attempts = attempts
        self.ledger = ledger


class FailoverSuccessError(FailoverError):
    """The connection was lost with no transaction open, and works again on ``host`` with its session restored."""

    sqlstate = "08S02"


class TransactionResolutionUnknownError(FailoverError):
    """The connection was lost inside a transaction, and works again on ``host``; start the transaction anew.

    ``outcome`` is ``ROLLED_BACK`` unless its COMMIT was in flight, or a step of its two-phase commit.
    """

    sqlstate = "08007"


class FailoverFailedError(FailoverError):
    """The connection was lost and no host could be had in time; ``attempts`` lists what was tried."""

    sqlstate = "08001"
