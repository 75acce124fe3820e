"""Ask an agent beside the database server whether it lives, as those of Patroni and of many platforms tell by HTTP.

    conn = aurora_actors.connect(url, plugins="failover,efm", monitors="sql,http_health", http_health_port=8008)
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from aurora_actors.plugin import Monitor, Setting, Sign

__all__ = ["HttpHealth"]

LONGEST_SECONDS = 10.0
"""Ends the thread of a request that nobody waits for any more. The probe itself ends with its interval."""


class HttpHealth(Monitor):
    """200 says that the server lives, 503 that it does not; anything else says nothing of it.

    An agent that cannot be reached counts as silent, as its host is then.
    """

    name = "http_health"
    parameters: ClassVar[Mapping[str, Setting]] = {
        "http_health_port": Setting(
            "http_health_port", "int", default=8008, least=1, most=65535, meaning="where the agent of each host listens"
        ),
        "http_health_path": Setting(
            "http_health_path", "text", default="/liveness", meaning="what it is asked for", example="/liveness"
        ),
    }

    async def probe(self) -> Sign:
        """One request, on a thread of its own: the host's monitor waits for all its probes in one."""
        address, _ = (await self.context.addresses())[0]
        status = await self.context.blocking(self._status, address)
        match status:
            case HTTPStatus.OK:
                # The agent vouches for the server; the server itself has said nothing, which would be Sign.SPOKE.
                return Sign.REACHED
            case HTTPStatus.SERVICE_UNAVAILABLE:
                return Sign.SILENT
            case _:
                return Sign.NOTHING

    def _status(self, address: str) -> int:
        settings = self.context.settings
        connection = http.client.HTTPConnection(address, settings["http_health_port"], timeout=LONGEST_SECONDS)
        try:
            connection.request("GET", settings["http_health_path"], headers={"Host": self.context.host.endpoint})
            return connection.getresponse().status
        except ConnectionError:
            raise  # silence, also where http.client makes its own error of it
        except http.client.HTTPException as error:
            # An agent of another tongue: an OSError of no such kind says nothing of the host.
            raise OSError(f"{self.context.host} answered no HTTP: {error!r}") from error
        finally:
            connection.close()
