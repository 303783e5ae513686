"""Questions and notices in a box in front of the screen. Pure."""

from __future__ import annotations

from rich.cells import set_cell_size

from cli.watch import letters
from cli.watch.details import barcode_lines
from cli.watch.lines import Line, add_style, clip, cut, line, width, wrap
from cli.watch.state import Dialog, State

COLUMNS_MAX = 80
"""As wide as a small screen: beside a narrower box there would be pieces of words."""

_FEET = {
    "confirm": "Enter = yes     Esc = no",
    "menu": "Up, Down and Enter, or its key     Esc = nothing",
    "name": "Enter goes on     Ctrl-U empties the field     F10 ends",
    "notice": "Enter closes; the next scan does too",
    "quit": "Enter = end     Esc = go back",
}


def overlay(shown: list[Line], state: State, *, halves: bool) -> list[Line]:
    """The screen with the dialog's box in its middle."""
    if state.dialog is None:
        return shown
    columns, rows = state.columns, len(shown)
    inner = max(10, min(COLUMNS_MAX, columns) - 4)
    box = _box(state.dialog, inner, max(1, rows - 2), halves=halves)
    left = max(0, (columns - inner - 4) // 2)
    top = max(0, (rows - len(box)) // 2)
    after = list(shown)
    for number, each in enumerate(box):
        if top + number < rows:
            under = after[top + number]
            after[top + number] = clip(
                (*_until(under, left), *each, *_from(under, left + inner + 4)), columns
            )
    return after


def _box(dialog: Dialog, inner: int, rows: int, *, halves: bool) -> list[Line]:
    """The dialog's lines within its border; what does not fit is left out above the last line."""
    question = dialog.question
    loud = "loud" if question.large else ""
    body: list[Line] = []
    if question.large:
        body += [line(""), *barcode_lines(question.large, inner, letters.ROWS, halves=halves)]
    for paragraph in question.body:
        if paragraph:
            body += [line(""), *(line(each) for each in wrap(paragraph, inner))]
    if question.choices:
        body.append(line(""))
    for number, choice in enumerate(question.choices):
        mark = "▶ " if number == dialog.choice else "  "
        drawn = clip(line(cut(mark + choice.label, inner)), inner)
        body.append(add_style(drawn, "chosen") if number == dialog.choice else drawn)
    if question.label:
        body += [line(""), _field(dialog, inner)]
    body = body[: max(0, rows - 5)]
    titled = add_style(clip(line(cut(f" {question.title}", inner)), inner + 2), loud or "key")
    across = "─" * (inner + 2)
    framed = [clip(each, inner) for each in (*body, line(""), line((_FEET[dialog.purpose], "strong")))]
    side = ("│", loud)
    return [
        line((f"┌{across}┐", loud)),
        (side, *titled, side),
        *((side, (" ", ""), *each, (" ", ""), side) for each in framed),
        line((f"└{across}┘", loud)),
    ]


def _field(dialog: Dialog, inner: int) -> Line:
    """What is typed, its end in sight."""
    label = f"{dialog.question.label}{'' if dialog.question.required else ' (or nothing)'}: "
    typed = dialog.field.text
    room = max(5, inner - width(label) - 1)
    while width(typed) > room:
        typed = typed[1:]
    return line(label, (typed + "_", "typed"))


def _until(drawn: Line, columns: int) -> Line:
    """The first columns of a line; a wide character that is cut becomes a space."""
    left, found = columns, []
    for text, style in drawn:
        if left <= 0:
            break
        shown = set_cell_size(text, min(left, width(text)))
        found.append((shown, style))
        left -= width(shown)
    return (*found, (" " * left, ""))


def _from(drawn: Line, start: int) -> Line:
    """The part of a line from a column on; a wide character that is cut becomes a space."""
    found, at = [], 0
    for text, style in drawn:
        end = at + width(text)
        if at >= start:
            found.append((text, style))
        elif end > start:
            kept = text
            while kept and width(kept) > end - start:
                kept = kept[1:]
            found.append((" " * (end - start - width(kept)) + kept, style))
        at = end
    return tuple(found)
