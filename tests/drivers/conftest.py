"""The fixture of both colours."""

from tests.failover.colours import colour

__all__ = ["colour"]
