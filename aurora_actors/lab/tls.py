"""The lab's certificate authority, the certificates of its hosts, and whose tokens are checked behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme

from .account import Account
from .processes import ServerProcess
from .tokens import KINDS
from .values import CA_FILE

__all__ = ["Tls"]


class Tls:
    """Signs a certificate for each host that is good for the names of the cluster and the host's address."""

    def __init__(self, directory: Path, domain: str, account: Account, token_user: str, usual_port: int) -> None:
        self._authority = trustme.CA()
        self.token_user = token_user
        self._domain, self._account, self._usual_port = domain, account, usual_port
        file = directory / CA_FILE
        self._authority.cert_pem.write_to_path(file)
        file.chmod(0o644)

    def certificate(self, directory: Path, address: str) -> Path:
        """The key and certificate of the host in *directory*, in one file of the servers' account; made once.

        Its names hold for every host and endpoint that the cluster may get.
        """
        path = directory / "host.pem"
        if not path.exists():
            names = [f"*.{kind}{self._domain}" for kind in KINDS]
            made = self._authority.issue_cert(*names, address, *{"127.0.0.1"} - {address}, "localhost")
            self._account.write(path, made.private_key_and_cert_chain_pem.bytes().decode())
        return path

    def for_front(self, server: ServerProcess) -> dict[str, Any]:
        """What a server's front is told of it."""
        place = server.place
        return {
            "certificate": str(self.certificate(server.directory, place.address)), "token_user": self.token_user,
            "domain": self._domain, "ports": (place.port, self._usual_port),
        }  # fmt: skip
