"""What is typed, and how fast: a barcode scanner is a keyboard that types a barcode and Enter."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

LENGTH_MAX = 200
BURST_SECONDS = 0.08
"""A scanner types a character every few milliseconds; over a slow line they come in clumps."""

_BARCODE = re.compile(r"[A-Za-z0-9]{6}(?:[Ll][0-9A-Za-z]|[Mm]8|[Cc][UuLl])?\Z")
"""A cartridge's label: six characters and the medium (LTO Bar Code Label Specification; CU is a cleaning
cartridge)."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A line being typed.

    :ivar burst: where the characters begin that came as fast as a scanner types.
    :ivar last: when the last one came, in seconds of any clock.
    """

    text: str = ""
    burst: int = 0
    last: float = float("-inf")

    def add(self, character: str, now: float) -> Typed:
        """With one more character; a line has a limit, and control characters are none of it."""
        if not character.isprintable() or len(self.text) + len(character) > LENGTH_MAX:
            return self
        fast = now - self.last <= BURST_SECONDS
        return Typed(self.text + character, self.burst if fast else len(self.text), now)

    def backspace(self) -> Typed:
        text = self.text[:-1]
        return replace(self, text=text, burst=min(self.burst, len(text)))

    def clear(self) -> Typed:
        return NOTHING_TYPED

    def scanned(self) -> str:
        """The last characters if a scanner typed them and they look like a barcode, else nothing."""
        tail = self.text[self.burst :].strip()
        return tail if looks_like_barcode(tail) else ""

    def before(self) -> str:
        """What had been typed before the scanner did."""
        return self.text[: self.burst].strip()


NOTHING_TYPED = Typed()


def looks_like_barcode(text: str) -> bool:
    return _BARCODE.match(text) is not None


@dataclass(frozen=True, slots=True)
class Entered:
    """A line that was finished with Enter: the barcode in it, and what else was there."""

    barcode: str
    left_over: str = ""


def entered(typed: Typed) -> Entered:
    """What a finished line of the main screen says: all of it, or what a scanner typed behind a
    half-typed rest, which is told and not lost."""
    whole = typed.text.strip()
    scan = typed.scanned()
    if scan and typed.before() and scan != whole:
        return Entered(scan, typed.before())
    return Entered(whole)
