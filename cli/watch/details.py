"""Everything about one prompt, for the part of the screen beside or below the list. Pure."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

from cli import text
from cli.watch import letters
from cli.watch.draw import due, into_words, span, urgency, waited
from cli.watch.lines import Line, Span, clip, cut, fit_name, line, wrap
from cli.watch.values import Alternative, Prompt

LABEL_COLUMNS = 11
ROWS_SHORT = 11
"""With fewer lines, from where and to where stand on one."""
ALTERNATIVES_SHOWN = 4
ROWS_TALL = 8
"""With fewer lines, five for the barcode would leave too few for the rest."""


def barcode_lines(barcode: str, columns: int, rows: int, *, halves: bool) -> list[Line]:
    """A barcode as large as there is room for."""
    drawn = letters.large(barcode, halves=halves)
    if drawn and letters.columns(barcode) + 2 <= columns and len(drawn) <= rows:
        return [line("  ", *_dots(row)) for row in drawn]
    clear = letters.spaced(barcode)
    return [line("  ", (clear if len(clear) + 2 <= columns else fit_name(barcode, columns - 2), "strong"))]


def _dots(row: str) -> list[Span]:
    """A row of large letters; dots in ASCII become reversed spaces, which every terminal shows as blocks."""
    runs = ("".join(group) for _, group in groupby(row, key=lambda dot: dot == "#"))
    return [(" " * len(run), "key") if run.startswith("#") else (run, "letters") for run in runs]


def details(
    prompt: Prompt, columns: int, rows: int, now: datetime, age: float, *, halves: bool
) -> list[Line]:
    """A prompt in at most so many lines: its barcode in large letters, then what there is to know, the
    most needed first."""
    wide = columns >= letters.columns(prompt.barcode) + 24 and rows < 16
    tall = letters.rows(halves=False) if rows >= ROWS_TALL else letters.rows(halves=True)
    shown = barcode_lines(prompt.barcode, columns, tall, halves=halves)
    if wide:
        shown = _beside(shown, prompt, columns, now, age)
    else:
        word, style = urgency(prompt, now)
        shown += [line(""), line("  ", (word, style), "  ", (_since(prompt, age), "strong"))]
    facts = _facts(prompt, now, short=rows < ROWS_SHORT, beside=wide)
    lines_left = rows - len(shown)
    found: list[Line] = []
    for number, (label, values) in enumerate(facts):
        fair = max(1, lines_left - len(found) - (len(facts) - number - 1))
        for row, value in enumerate(_wrapped(values, columns - LABEL_COLUMNS - 3, fair)):
            found.append(line(("  " + (label if row == 0 else "").ljust(LABEL_COLUMNS), "faint"), value))
    return [*shown, *found][:rows]


def _beside(drawn: list[Line], prompt: Prompt, columns: int, now: datetime, age: float) -> list[Line]:
    """The large barcode with the urgency and the waiting time to its right."""
    word, style = urgency(prompt, now)
    left = letters.columns(prompt.barcode) + 4
    said: list[Line] = [
        line((word, style)),
        line((cut(_since(prompt, age), columns - left), "strong")),
        line((cut(due(prompt, now), columns - left), "late" if prompt.is_late(now) else "")),
    ]
    rows = max(len(drawn), len(said))
    empty: Line = ()
    return [
        (*clip(drawn[row] if row < len(drawn) else empty, left), *(said[row] if row < len(said) else empty))
        for row in range(rows)
    ]


def _since(prompt: Prompt, age: float) -> str:
    return f"waits {span(waited(prompt, age))}"


def _facts(prompt: Prompt, now: datetime, *, short: bool, beside: bool) -> list[tuple[str, list[str]]]:
    """Labels and their values, the most needed first; empty ones are left out.

    :param short: there is little room: from where and to where stand on one line.
    :param beside: the deadline stands beside the barcode already.
    """
    place, into = prompt.where or "place unknown", into_words(prompt)
    size = f"{text.plural(prompt.requests, 'request')}, {text.size(prompt.bytes)}".rstrip(", ")
    others = prompt.alternatives[:ALTERNATIVES_SHOWN]
    facts = [
        *([("fetch", [f"{place} → {into}"])] if short else [("take from", [place]), ("put into", [into])]),
        ("walking", [_taken(prompt)]),
        ("waiting", [_waiter(each.who, each.since, now) for each in prompt.waiters]),
        ("due", [] if beside else [due(prompt, now)]),
        ("or instead", [_other(each) for each in others]),
        ("wanted", [", ".join(filter(None, (size, f"pool {prompt.pool}" if prompt.pool else "")))]),
        ("note", [prompt.note]),
    ]  # fmt: skip
    return [(label, kept) for label, values in facts if (kept := [value for value in values if value])]


def _taken(prompt: Prompt) -> str:
    if not prompt.taken_by:
        return "nobody yet (F2: I am walking)"
    since = f" since {prompt.taken_at.astimezone():%H:%M}" if prompt.taken_at is not None else ""
    return f"{prompt.taken_by}{since}"


def _waiter(who: str, since: datetime | None, now: datetime) -> str:
    return who if since is None else f"{who} ({span((now - since).total_seconds())})"


def _other(other: Alternative) -> str:
    soon = "" if other.seconds is None else f", readable in {span(other.seconds)}"
    return f"{other.barcode} {other.where}".strip() + soon


def _wrapped(values: list[str], columns: int, lines_max: int) -> list[str]:
    """The values one under the other while there is room; else the first ones and how many more."""
    found: list[str] = []
    for number, value in enumerate(values):
        left = lines_max - len(found)
        more = len(values) - number - 1
        if left <= 1 and more:
            found.append(cut(f"{value} and {more} more", columns))
            break
        found += wrap(value, columns, left)
        if len(found) >= lines_max:
            break
    return found
