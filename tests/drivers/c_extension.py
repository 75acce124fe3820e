"""An environment in which the C extension of MySQL Connector loads.

The extension of 26.10 needs a newer OpenSSL than Debian 12 has. The environment lies in the lab's cache, outside the clone,
and sees everything else that the one which runs the tests has.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from aurora_actors.lab.cache import locked

__all__ = ["PACKAGE", "RELEASE", "interpreter"]

RELEASE = "9.7.0"
PACKAGE = f"mysql-connector-python=={RELEASE}"
INSTALL_SECONDS = 150


def interpreter() -> Path:
    """Its interpreter, made where it is not there yet. Raises ``CalledProcessError`` where it cannot be."""
    with locked(f"{PACKAGE.replace('==', '-')}-{sys.implementation.cache_tag}") as folder:
        python, ready = folder / "bin" / "python", folder / "ready"
        if not ready.exists():
            for command in (
                [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
                [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", PACKAGE],
            ):
                subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS)
            ready.touch()
        # Behind its own: everything that the environment of the tests has.
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    return python
