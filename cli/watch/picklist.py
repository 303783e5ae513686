"""The pick list: what to fetch, in the order of one walk along the shelves, a turn of the drives at a time.

A turn is as many volumes as the library has drives: what is fetched beyond that would wait in a mail slot
while something more urgent cannot be put in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cli.watch.values import Drive, Prompt

TURNS_MAX = 1000
_PARTS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Turn:
    """What is fetched in one walk for one library.

    :ivar number: 1 for the walk to make now.
    :ivar drives: how many drives of the library work.
    """

    number: int
    library: str
    drives: int
    picks: tuple[Prompt, ...]


def turns(prompts: Sequence[Prompt], drives: Iterable[Drive]) -> tuple[Turn, ...]:
    """``prompts``, which are in the order of urgency, as walks: the most urgent ones first, and each walk
    in the order of the shelves."""
    working: dict[str, int] = {}
    for each in drives:
        working[each.library] = working.get(each.library, 0) + each.in_service
    by_library: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_library.setdefault(prompt.library, []).append(prompt)
    found = []
    for library, wanted in by_library.items():
        size = max(1, working.get(library, 1))
        for number, start in enumerate(range(0, len(wanted), size), start=1):
            picks = sorted(wanted[start : start + size], key=lambda each: walk_key(each.site, each.where))
            found.append(Turn(number, library, size, tuple(picks)))
    return tuple(sorted(found, key=lambda turn: (turn.number, turn.library)))[:TURNS_MAX]


def walk_key(site: str, where: str) -> tuple[object, ...]:
    """Sorts places as a person walks: by site, then shelf ``A2`` before ``A10``."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _PARTS.split(where.lower())]
    return site.lower(), tuple(parts)
