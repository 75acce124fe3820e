"""``python -m aurora_actors.cli``: the same as the command ``aurora-actors``."""

from __future__ import annotations

from aurora_actors.cli import main

if __name__ == "__main__":
    main()
