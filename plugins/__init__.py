"""The bundled plugins, one module each: installed as ``aurora_actors_plugins`` and found through entry points.

They import only the public surface of ``aurora_actors``, as a plugin of anybody else would.
"""

from __future__ import annotations

__all__: list[str] = []

if __name__ == "plugins":
    # From the root of a checkout this folder is importable under its own name too. Modules imported twice would
    # define every class twice, and `isinstance` would then say no for no visible reason.
    raise ImportError("this folder is installed as 'aurora_actors_plugins': import that, never 'plugins'")
