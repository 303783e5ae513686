"""Which of several equally quick copies is read: volumes that are mounted anyway serve the most. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence


def share_volumes(options: Mapping[int, Sequence[str]], at_hand: Collection[str] = ()) -> dict[int, str]:
    """One volume for each request, of those it may be read from; the same for any order of the mapping.

    What is at hand (in an idle drive, or asked of an operator already) comes first, then what some request
    must have anyway, then always the volume that serves most of those that are left.

    :param options: barcodes by request, in order of preference where nothing else decides; none is empty.
    """
    wanted = Counter(name for names in options.values() for name in set(names))
    sure = set(at_hand) | {names[0] for names in options.values() if len(set(names)) == 1}
    chosen: dict[int, str] = {}
    left = dict(sorted(options.items()))
    for first in (set(at_hand), sure):
        for request, names in list(left.items()):
            if known := [name for name in names if name in first]:
                chosen[request] = max(known, key=lambda name: (wanted[name], -names.index(name)))
                del left[request]
    while left:
        serves = Counter(name for names in left.values() for name in dict.fromkeys(names))
        names = next(iter(left.values()))
        best = max(serves.values())
        # Of equals the one that the oldest request would rather have.
        name = next((each for each in names if serves[each] == best), None)
        name = name or min(each for each, count in serves.items() if count == best)
        served = [each for each, their in left.items() if name in their]
        chosen.update(dict.fromkeys(served, name))
        left = {each: their for each, their in left.items() if each not in chosen}
    return chosen
