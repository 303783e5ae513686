"""What is wrong with a policy text, as values that name the place and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyError:
    """One finding in a policy file: an error, or a warning that does not stop it from being used."""

    file: str
    line: int
    """From 1; 0 where the finding is about the file or folder as a whole."""
    column: int
    """From 1, in characters; 0 where there is no line."""
    message: str
    """What is wrong and what to write instead."""
    source: str = ""
    """The source line, without its line end."""
    width: int = 1
    """How many characters the caret underlines."""
    warning: bool = False
    note: bool = False
    """Of a warning: it is good to know and needs no mending."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        weight = "note" if self.note else "warning" if self.warning else "error"
        return f"{where}: {weight}: {self.message}"

    def render(self) -> str:
        """The finding over three lines: place and message, source line, caret."""
        if not self.line or not self.source.strip():
            return str(self)
        before = self.source[: self.column - 1]
        # Tabs are kept so that the caret stands where the terminal puts the character.
        pad = "".join(char if char == "\t" else " " for char in before)
        room = max(1, len(self.source) - len(before))
        return f"{self}\n    {self.source}\n    {pad}{'^' * min(self.width, room)}"


class PolicyErrors(Exception):
    """A folder or text of policies that cannot be used. Carries every error, in file order."""

    def __init__(self, errors: Sequence[PolicyError]) -> None:
        self.errors: tuple[PolicyError, ...] = tuple(errors)
        count = len(self.errors)
        head = f"{count} {'error' if count == 1 else 'errors'} in the policies"
        super().__init__("\n".join([head, *(error.render() for error in self.errors)]))


@dataclass(frozen=True, slots=True)
class Fault:
    """A finding inside one expression: offsets into its text, which know nothing of files."""

    start: int
    end: int
    message: str
    warning: bool = False


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known word, or what is known, or nothing."""
    known = sorted(known)
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{lowered[close[0]]}'?"
    return f" Known: {', '.join(known)}." if known else ""
