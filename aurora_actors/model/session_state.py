"""What a session holds that a new one can be given: a value, and what statements and ends of transactions make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal, NamedTuple

from aurora_actors.model.values import dataclass

__all__ = ["LISTENS", "OF_LOGIN", "Effect", "Session", "only_transactions"]

Kind = Literal[
    "begin", "commit", "rollback", "savepoint", "release", "rollback to",
    "set", "told", "reset", "reset all", "unlisten all", "discard all", "touch",
]  # fmt: skip
_OF_TRANSACTIONS = frozenset({"begin", "commit", "rollback", "savepoint", "release", "rollback to"})

LISTENS = "listen "
"""How the keys of channels begin; all others name a setting."""
OF_LOGIN = ("session_authorization", "role")
"""Who the session is; RESET ALL leaves it alone."""


class Effect(NamedTuple):
    """One thing that a statement did. *key*: a setting, a channel or a savepoint; *sql* does it again, and may be a secret.

    ``told``: the value is the answer's column of the number in *sql*. ``touch``: a setting is another until the transaction
    ends.
    """

    kind: Kind
    key: str = ""
    sql: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind} {self.key}>"


def only_transactions(effects: tuple[Effect, ...]) -> bool:
    """Whether *effects* leave a session as it was, once no transaction is open any more."""
    return all(effect.kind in _OF_TRANSACTIONS for effect in effects)


@dataclass(frozen=True, slots=True)
class Session:
    """``held``: as of now, in the order in which it was set. ``before``: as it was before the open transaction changed it;
    None: none did. ``savepoints``: those set since then, with what was held at each.
    """

    held: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    before: Mapping[str, str] | None = field(default=None, repr=False)
    savepoints: tuple[tuple[str, Mapping[str, str]], ...] = field(default=(), repr=False)

    @property
    def pending(self) -> bool:
        """Whether the open transaction has changed something, so that its end has to be seen."""
        return self.before is not None

    @property
    def kept(self) -> Mapping[str, str]:
        """What outlives the loss of the session: statements by key."""
        return self.held if self.before is None else self.before

    def after(self, effects: tuple[Effect, ...], *, in_transaction: bool) -> Session:
        """The session after a statement with these *effects* succeeded; *in_transaction*: one is open after it."""
        now = self
        for effect in effects:
            now = now._after(effect)
        return now if in_transaction else replace(now, before=None, savepoints=())

    def _after(self, effect: Effect) -> Session:
        kind, key = effect.kind, effect.key
        if kind in _OF_TRANSACTIONS:
            return self._turned(kind, key)
        held = dict(self.held)
        if kind in ("set", "reset"):
            held.pop(key, None)
        if key == OF_LOGIN[0]:
            held.pop(OF_LOGIN[1], None)
        if kind == "set":
            held[key] = effect.sql
        elif kind == "discard all":
            held = {}
        elif kind == "reset all":
            held = {name: sql for name, sql in held.items() if name in OF_LOGIN or name.startswith(LISTENS)}
        elif kind == "unlisten all":
            held = {name: sql for name, sql in held.items() if not name.startswith(LISTENS)}
        return replace(self, held=held, before=self.kept)

    def _turned(self, kind: str, name: str) -> Session:
        if kind in ("commit", "rollback"):
            return Session(self.held if kind == "commit" else self.kept)
        if self.before is None or kind == "begin":
            return self
        # The newest of that name; one that is not among them was set before anything was changed.
        found = max((at for at, (known, _) in enumerate(self.savepoints) if known == name), default=-1)
        if kind == "savepoint":
            return replace(self, savepoints=(*self.savepoints, (name, self.held)))
        if kind == "release":
            return replace(self, savepoints=self.savepoints[: max(found, 0)])
        held = self.savepoints[found][1] if found >= 0 else self.before
        return replace(self, held=held, savepoints=self.savepoints[: found + 1])
