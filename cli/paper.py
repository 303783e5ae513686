"""Lists for people with their hands full: plain text that fits a sheet of A4, 78 columns and 60 lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cli import text

Record = dict[str, Any]

WIDTH = 78
LINES = 60
ROWS = 18
"""On a sheet: three lines each, and room for head and signature."""


def pick_list(moves: Sequence[Record]) -> str:
    """What to take from where, with a box to tick for each step."""
    rows = [_pick(move) for move in moves if move["open"]]
    return _sheets(
        "PICK LIST", _numbers(moves), rows, ["taken by", "date, time", "delivered by", "date, time"]
    )


def receipt(moves: Sequence[Record]) -> str:
    """Who took what away when, and who confirmed that it arrived."""
    rows = [_receipt(move) for move in moves]
    return _sheets("RECEIPT", _numbers(moves), rows, ["handed over by", "received by", "date, time"])


def _numbers(moves: Sequence[Record]) -> str:
    return ", ".join(str(each) for each in sorted({move["list"] for move in moves})) or "none"


def _pick(move: Record) -> list[str]:
    tick = {"planned": "[ ]", "left": "[x]"}.get(move["state"], "[ ]")
    return [
        _cut(f"{tick} taken  [ ] there   {move['barcode']:<16} {move['kind']:<7} {move['pool'] or ''}"),
        _cut(f"                        from {text.clean(move['from'])}"),
        _cut(f"                        to   {text.clean(move['to'])}"),
    ]


def _receipt(move: Record) -> list[str]:
    def when(word: str) -> str:
        at, by = move[f"{word}_at"], text.clean(move[f"{word}_by"])
        return f"{text.local(at)} {by}" if at else "not yet"

    end = {"arrived": "arrived", "undone": "undone "}.get(move["state"], "arrived")
    return [
        _cut(f"{move['barcode']:<16} {text.clean(move['from'])} -> {text.clean(move['to'])}"),
        _cut(f"    planned {when('planned')}"),
        _cut(f"    left    {when('left')}; {end} {when('ended')}"),
    ]


def _sheets(title: str, numbers: str, rows: Sequence[list[str]], signatures: Sequence[str]) -> str:
    """One or more sheets, each with its head and its place to sign, parted by form feeds."""
    portions = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)] or [[]]
    return "\f".join(
        "\n".join(_sheet(title, numbers, portion, signatures, f"sheet {number} of {len(portions)}"))
        for number, portion in enumerate(portions, start=1)
    )


def _sheet(
    title: str, numbers: str, rows: Sequence[list[str]], signatures: Sequence[str], sheet: str
) -> Iterator[str]:
    head = f"{title}  list {numbers}"
    yield _cut(f"{head:<{WIDTH - len(sheet)}}{sheet}")
    yield "=" * WIDTH
    if not rows:
        yield "nothing"
    for row in rows:
        yield from row
    yield "-" * WIDTH
    for signature in signatures:
        yield f"{signature + ':':<18}{'_' * 40}"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
