"""The one session that a host's monitor has with its host: how it is had, and what it is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aurora_actors.actors.names import names
from aurora_actors.actors.polling import Late, Poller
from aurora_actors.dialects.base import Rows
from aurora_actors.drivers.base import Access, ProbeError, ProbeSession
from aurora_actors.model.hosts import Host

__all__ = ["HostSession"]

log = logging.getLogger("aurora_actors.actors")


class HostSession:
    """Used by the flows of one monitor, one after the other; it never opens a second session beside the first."""

    def __init__(self, host: Host, accesses: Callable[[], tuple[Access, ...]], poller: Poller) -> None:
        self._host = host
        self._accesses = accesses
        self._poller = poller
        self._session: ProbeSession | None = None
        self._refused = 0
        self.opened = 0.0

    @property
    def is_open(self) -> bool:
        return self._session is not None

    async def ask(self, sql: str) -> tuple[float, Rows]:
        """When it was asked, and the rows.

        Raises ``ProbeError``; the session is then dropped, unless the host only refused.
        """
        session = self._session
        poller = self._poller
        try:
            if session is None:
                session = await self._log_in()
            asked = poller.now()
            rows = await session.ask(sql, poller)
        except ProbeError as error:
            if not error.answered or self._session is None:
                self.drop()
            raise
        except Late:
            self.drop()
            raise ProbeError("no answer in time") from None
        except OSError as error:
            # Names that are not found, addresses that this machine cannot use.
            self.drop()
            raise ProbeError(str(error), local=True) from None
        except BaseException:
            self.drop()
            raise
        return asked, rows

    def drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def _log_in(self) -> ProbeSession:
        accesses = self._accesses()
        if not accesses:
            raise ProbeError("no connection is left whose settings could be used", local=True)
        # The settings of one connection may have gone stale (a rotated password): then another's are tried.
        access = accesses[-1 - self._refused % len(accesses)]
        poller = self._poller
        place = await names.found(access.resolve, self._host.endpoint, self._host.port, poller)
        tried = await self._authenticated(access, None)
        while True:
            opened = poller.now()
            try:
                self._session = await access.driver.open_probe(tried, place, poller)
            except ProbeError as error:
                if access.credentials is not None and access.driver.is_refusal(error):
                    others = await self._authenticated(access, tried.parameters)
                    if others.parameters != tried.parameters:
                        tried = others
                        continue
                if error.sqlstate is not None:
                    self._refused += 1
                raise
            self.opened = opened
            return self._session

    async def _authenticated(self, access: Access, refused: Mapping[str, Any] | None) -> Access:
        """*access* with what to log in with just now, which plugins and callables of the user's find out."""
        if access.credentials is None:
            return access
        poller = self._poller
        try:
            found = await poller.blocking(access.credentials, access, self._host, refused, poller.now())
        except Late:
            raise ProbeError("no credentials in time", local=True) from None
        except Exception as error:
            # Whatever plugins and the user's code raise says nothing of the host. Their words may be anything.
            log.debug("the monitor of %s has no credentials: %s", self._host, type(error).__name__)
            raise ProbeError(f"no credentials to log in with: {type(error).__name__}", local=True) from error
        return replace(access, parameters=found, monitoring={})
