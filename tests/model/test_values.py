"""Values behave as the standard library's frozen dataclasses do, which they are but for where their methods stand."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from aurora_actors.model import values


@values.dataclass(frozen=True, slots=True)
class Ours:
    a: int
    b: str = "x"
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    a: int
    b: str = "x"
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@values.dataclass(frozen=True, slots=True)
class Empty:
    pass


@values.dataclass(frozen=True, slots=True, eq=False)
class Single:
    a: int

    def __repr__(self) -> str:
        return "own"


@pytest.mark.parametrize("other", [(1,), (2,), (1, "y"), (1, "x", "t"), (1, "x", "s", "n")])
def test_they_are_compared_hashed_and_shown_as_the_library_does_it(other: tuple[Any, ...]) -> None:
    assert (Ours(1) == Ours(*other)) is (Theirs(1) == Theirs(*other))
    assert (hash(Ours(1)) == hash(Ours(*other))) is (hash(Theirs(1)) == hash(Theirs(*other)))
    assert repr(Ours(*other)) == repr(Theirs(*other)).replace("Theirs", "Ours")


def test_another_class_is_never_the_same() -> None:
    others: list[object] = [Theirs(1), (1, "x", "s", "")]
    assert Ours(1) not in others


def test_without_fields_there_is_one_value() -> None:
    assert (Empty(), hash(Empty()), repr(Empty())) == (Empty(), hash(Empty()), "Empty()")


def test_what_a_class_says_itself_stands() -> None:
    one = Single(1)
    assert (one == Single(1), one == one, repr(one)) == (False, True, "own")


def test_they_are_frozen_and_can_be_replaced_and_pickled() -> None:
    one = Ours(1)
    with pytest.raises(FrozenInstanceError):
        one.a = 2  # type: ignore[misc]
    assert not hasattr(one, "__dict__")
    assert dataclasses.replace(one, b="y") == Ours(1, "y")
    assert pickle.loads(pickle.dumps(one)) == one
