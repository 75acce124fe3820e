"""Frozen, slotted dataclasses that cost a third less to define: a process defines eighty before its first connect.

The standard library compiles each method of each class anew, which was half of what importing this package took. The
methods that are the same for all classes stand here once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as _defined
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, eq: bool = True, repr: bool = True) -> Callable[[type], type]:  # noqa: A002
        """``dataclasses.dataclass``, for values that are compared, hashed and shown field by field as it does it."""
        wanted = {"__eq__": eq, "__hash__": eq, "__repr__": repr}

        def define(cls: type) -> type:
            for name, method in _METHODS.items():
                if wanted[name] and name not in vars(cls):
                    setattr(cls, name, method)
            return _defined(cls, frozen=frozen, slots=slots, eq=False, repr=False)

        return define


@cache
def _compared(cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    names = [field.name for field in fields(cls) if field.compare]
    return attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)


def _equal(self: Any, other: Any) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented  # type: ignore[no-any-return]
    values = _compared(self.__class__)
    return values(self) == values(other)


def _hashed(self: Any) -> int:
    return hash(_compared(self.__class__)(self))


def _shown(self: Any) -> str:
    shown = (field.name for field in fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


_METHODS: dict[str, Callable[..., Any]] = {"__eq__": _equal, "__hash__": _hashed, "__repr__": _shown}
