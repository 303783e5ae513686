"""Long lists of keys, in portions that every database takes in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

IN_LIST_MAX = 1000


def chunks(keys: Iterable[T], most: int | None = None) -> Iterator[list[T]]:
    """Keys in portions that every database takes in one IN list.

    :param most: in one portion; :data:`IN_LIST_MAX` where it is not given.
    """
    every, most = list(keys), most or IN_LIST_MAX
    return (every[start : start + most] for start in range(0, len(every), most))
