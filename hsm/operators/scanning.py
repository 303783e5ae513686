"""What a scanned barcode means: a person holds this cartridge now. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_MAX = 5


class Verdict(enum.StrEnum):
    DONE = "done"  # it is wanted, and the library sees it
    PUT_IN = "put in"  # it is wanted, and not in the library yet
    AGAIN = "again"  # it was wanted, and has come already
    NOT_WANTED = "not wanted"
    UNKNOWN = "unknown"  # no such cartridge is in the catalog


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of the cartridge in somebody's hand."""

    barcode: str
    known: bool
    wanted: bool
    """There is an open mount request for it."""
    seen: bool
    """Its library sees it."""
    library: str = ""
    into: str = ""
    """Where to put it, in words."""
    what: str = ""
    """Pool and state: ``tape-a, full``."""
    belongs: str = ""
    """Where it belongs when it is not wanted: ``shelf B3``."""
    answered: str = ""
    """Who answered the last mount request for it, and when; empty where it was never asked for."""


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    text: str
    """One or two sentences for whoever holds it."""


def decide(held: Held, wanted: Sequence[str]) -> Decision:
    """:param wanted: barcodes that are asked for, the most urgent first, each with its shelf."""
    others = _wanted([each for each in wanted if each.split(" ")[0] != held.barcode])
    if held.wanted and held.seen:
        return Decision(Verdict.DONE, f"{held.barcode} is in {held.library}: thank you")
    if held.wanted:
        into = held.into or "the first mail slot or drive that comes free"
        return Decision(Verdict.PUT_IN, f"{held.barcode} is wanted: put it into {into} of {held.library}")
    if not held.known:
        return Decision(
            Verdict.UNKNOWN,
            f"{held.barcode} is not in the catalog: no cartridge of this archive, or misread. {others}",
        )
    if held.seen:
        answered = f" ({held.answered})" if held.answered else ""
        return Decision(
            Verdict.AGAIN, f"{held.barcode} is in {held.library} already{answered}; nothing is left to do"
        )
    what = f" ({held.what})" if held.what else ""
    belongs = f"it belongs on {held.belongs}" if held.belongs else "nobody has said where it belongs"
    return Decision(Verdict.NOT_WANTED, f"{held.barcode}{what} is not wanted now: {belongs}. {others}")


def _wanted(barcodes: Sequence[str]) -> str:
    if not barcodes:
        return "Nothing is asked for"
    more = f" and {len(barcodes) - SHOWN_MAX} more" if len(barcodes) > SHOWN_MAX else ""
    return f"Wanted: {', '.join(barcodes[:SHOWN_MAX])}{more}"
