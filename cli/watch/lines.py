"""Lines of the screen as values: spans of text with the name of a style. Widths are terminal columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

Span = tuple[str, str]
Line = tuple[Span, ...]


def line(*spans: Span | str) -> Line:
    """A line of spans; a plain string has no style."""
    return tuple((span, "") if isinstance(span, str) else span for span in spans)


def plain(drawn: Iterable[Span]) -> str:
    """The text of a line without its styles."""
    return "".join(text for text, _ in drawn)


def width(text: str) -> int:
    """Columns that ``text`` takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, columns: int) -> str:
    """``text`` in exactly so many columns: filled with spaces, or cut with an ellipsis."""
    if columns <= 0:
        return ""
    if width(text) > columns:
        return set_cell_size(text, columns - 1) + "…"
    return text + " " * (columns - width(text))


def cut(text: str, columns: int) -> str:
    """``text`` in at most so many columns."""
    return text if width(text) <= columns else fit(text, columns)


def fit_name(text: str, columns: int) -> str:
    """As :func:`fit`, but cut in the middle: cartridges are told apart by the end of their names."""
    if width(text) <= columns or columns < 5:
        return fit(text, columns)
    # From the end, in columns: as many characters as take the smaller half.
    tail = ""
    for character in reversed(text):
        if width(character + tail) > (columns - 1) // 2:
            break
        tail = character + tail
    return fit(text, columns - width(tail)) + tail


def right(text: str, columns: int) -> str:
    """``text`` at the right end of so many columns."""
    cut_ = cut(text, columns)
    return " " * (columns - width(cut_)) + cut_


def clip(drawn: Line, columns: int, fill: str = "") -> Line:
    """A line in exactly so many columns, the rest in the style ``fill``."""
    left, found = columns, []
    for text, style in drawn:
        if left <= 0:
            break
        shown = cut(text, left)
        found.append((shown, style))
        left -= width(shown)
    if left > 0:
        found.append((" " * left, fill))
    return tuple(found)


def add_style(drawn: Line, style: str) -> Line:
    """A line with one more style on everything."""
    return tuple((text, f"{own} {style}".strip()) for text, own in drawn)


def wrap(text: str, columns: int, lines_max: int = 0) -> list[str]:
    """``text`` broken between words into lines; with a limit the last line ends in an ellipsis."""
    columns = max(columns, 1)
    found, now = [], ""
    for word in text.split():
        joined = f"{now} {word}" if now else word
        if width(joined) <= columns:
            now = joined
            continue
        if now:
            found.append(now)
        while width(word) > columns:
            head = _head(word, columns)
            found.append(head)
            word = word[len(head) :]
        now = word
    if now:
        found.append(now)
    if lines_max and len(found) > lines_max:
        rest = " ".join(found[lines_max - 1 :])
        found = [*found[: lines_max - 1], cut(rest, columns)]
    return found


def beside(left: Sequence[Line], right_: Sequence[Line], columns: int, between: Span) -> list[Line]:
    """Two blocks side by side, the left one in so many columns; as many lines as the longer one has."""
    rows = max(len(left), len(right_))
    empty: Line = ()
    return [
        (
            *clip(left[row] if row < len(left) else empty, columns),
            between,
            *(right_[row] if row < len(right_) else empty),
        )
        for row in range(rows)
    ]


def _head(word: str, columns: int) -> str:
    """As many characters of ``word`` as fit, at least one."""
    taken, used = 0, 0
    for character in word:
        size = 2 if unicodedata.east_asian_width(character) in "WF" else cell_len(character)
        if used + size > columns:
            break
        taken, used = taken + 1, used + size
    return word[: max(taken, 1)]
