"""What a drill has found, as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN_MAX = 10


def lines(done: Mapping[str, Any]) -> Iterator[str]:
    """The answer of ``hsm catalog drill`` for a person."""
    for each in done["sample"]:
        yield from _volume(each)
    whole = done["whole"]
    if whole is not None:
        guessed = ", ".join(whole["guessed"])
        yield (
            f"the whole archive, one volume after the other: {duration(whole['seconds'])} for "
            f"{whole['mounts']} volumes and {whole['packages']} packages"
            + (f" (the pace of {guessed} is guessed from the others)" if guessed else "")
        )
    lost = [
        f"{count} {name.replace('_', ' ')}" for name, count in done["only_in_the_database"].items() if count
    ]
    yield "only in the database, and on no medium: " + (", ".join(lost) or "nothing")
    yield (
        "good: everything that was read would come back" if done["good"] else "NOT everything would come back"
    )


def _volume(each: Mapping[str, Any]) -> Iterator[str]:
    if each["failed"]:
        yield f"{each['volume']} ({each['pool']}): not read: {each['failed']}"
        return
    some = "all" if each["whole"] else "the first"
    yield (
        f"{each['volume']} ({each['pool']}): {some} {each['packages']} of {each['expected']} packages in "
        f"{duration(each['seconds'])}, after {duration(each['mount_seconds'])} to mount it"
    )
    for kind in ("missing", "differs"):
        for key in each[kind][:SHOWN_MAX]:
            yield f"  {kind}: {key}"


def duration(seconds: float) -> str:
    """In the unit that fits."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
