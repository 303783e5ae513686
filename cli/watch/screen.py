"""The whole screen as lines, for any size of terminal. Pure: the state in, exactly ``rows`` lines out."""

from __future__ import annotations

from cli.watch import draw
from cli.watch.actions import ANSWERS, STEPS
from cli.watch.details import details
from cli.watch.dialogs import overlay
from cli.watch.lines import Line, add_style, clip, cut, line, right, width
from cli.watch.state import DRIVES, PICKS, VIEWS, WANTED, WAYS, State, waiting_words

WIDE_COLUMNS = 150
"""From here on details and pick list stand beside the list."""
DETAILS_ROWS_MIN = 16
"""Smaller screens show the list only."""
SAID_ROWS_WIDE = 4
WAITING_COLUMNS_MIN = 8

KEYS_OF_PROMPTS = tuple((answer.key.upper(), answer.label) for answer in ANSWERS)
KEYS_OF_STEPS = tuple((answer.key.upper(), answer.label) for answer in STEPS)
KEYS_OF_SCREEN = (
    ("Enter", "actions"), ("Tab", "view"), ("F8", "look in library"), ("F9", "bell"), ("F1", "help"),
    ("F10", "end"),
)  # fmt: skip


def screen(state: State, *, halves: bool) -> list[Line]:
    """Exactly ``state.rows`` lines of ``state.columns`` columns.

    :param halves: half blocks may be used.
    """
    columns, rows = state.columns, state.rows
    wide = columns >= WIDE_COLUMNS
    top, style = draw.head(state.picture, state.name, columns, state.now, state.age, state.away)
    found = [add_style(top, style), draw.tabs(_titles(state), state.view, columns)]
    foot = _foot(state, SAID_ROWS_WIDE if wide and rows >= 30 else 1)
    room = max(0, rows - len(found) - len(foot))
    found += _wide(state, columns, room, halves) if wide else _narrow(state, columns, room, halves)
    found += foot
    shown = [clip(each, columns) for each in found[:rows]]
    shown += [clip(line(""), columns)] * (rows - len(shown))
    return overlay(shown, state, halves=halves) if state.dialog is not None else shown


def _titles(state: State) -> list[tuple[str, int | None]]:
    picture = state.picture
    counts: list[int | None] = [None] * len(VIEWS)
    if picture is not None:
        counts[WANTED], counts[WAYS] = picture.total, len(picture.trips)
    return list(zip(VIEWS, counts, strict=True))


def _narrow(state: State, columns: int, room: int, halves: bool) -> list[Line]:
    """The view, and the details of the chosen prompt below it."""
    below = 0
    if state.view in (WANTED, PICKS) and state.prompt is not None and state.rows >= DETAILS_ROWS_MIN:
        least = 8 if halves else 9
        below = max(least, room * 2 // 5, room - draw.PROMPT_LINES * len(state.prompts) - 2)
        if state.view == PICKS:
            below = least
    found = _view(state, columns, room - below)
    if below and state.prompt is not None:
        found.append(draw.rule(_position(state, room - below), columns))
        found += _details(state, columns, below - 1, halves)
    return found


def _wide(state: State, columns: int, room: int, halves: bool) -> list[Line]:
    """The view to the left; the details and the pick list to the right of it."""
    left = columns * 11 // 20
    beside_columns = columns - left - 3
    upper = min(room * 2 // 5 + 1, 20)
    beside = [draw.rule("details", beside_columns), line("")]
    beside += _details(state, beside_columns, upper - 2, halves)
    beside += [line("")] * (upper - len(beside))
    beside.append(draw.rule("pick list" if state.view != PICKS else "drives and slots", beside_columns))
    beside += _side(state, beside_columns, room - len(beside))
    shown = _view(state, left, room)
    return [
        (
            *clip(shown[row], left),
            (" │ ", "faint"),
            *clip(beside[row] if row < len(beside) else (), beside_columns),
        )
        for row in range(room)
    ]


def _details(state: State, columns: int, rows: int, halves: bool) -> list[Line]:
    prompt = state.prompt
    if prompt is None:
        found = [line(("  nothing is chosen", "faint"))]
    else:
        found = details(prompt, columns, rows, state.now, state.age, halves=halves)
    return found + [line("")] * (rows - len(found))


def _side(state: State, columns: int, room: int) -> list[Line]:
    """What stands below the details on a wide screen."""
    if state.view == PICKS and state.picture is not None:
        return draw.drive_lines(state.picture.drives, state.picture.mail, columns)[:room]
    lines = draw.pick_lines(state.walks, columns)
    return [_marked(each, code, state.chosen) for code, each in lines[:room]]


def _view(state: State, columns: int, room: int) -> list[Line]:
    """The chosen view in exactly so many lines."""
    picture = state.picture
    if picture is None:
        found = [line(""), line("  " + (state.away or "looking ..."))]
    elif state.view == WANTED:
        found = _wanted(state, columns, room)
    elif state.view == PICKS:
        found = _picks(state, columns, room)
    elif state.view == DRIVES:
        found = draw.drive_lines(picture.drives, picture.mail, columns)
        found = found[min(state.scroll, max(0, len(found) - room)) :]
    else:
        found = _ways(state, columns, room)
    return (found + [line("")] * room)[:room]


def _wanted(state: State, columns: int, room: int) -> list[Line]:
    """The prompts around the chosen one; only what is seen is drawn, however many there are."""
    prompts = state.prompts
    if not prompts:
        return [line(""), line(("  Nothing is asked for.", "good"))]
    order = state.order
    at = order.index(state.chosen) if state.chosen in order else 0
    first, last = _window(state, room)
    shown = prompts[first:last]
    codes = draw.barcode_columns(shown)
    found: list[Line] = []
    for number, prompt in enumerate(shown, start=first):
        found += draw.prompt_lines(prompt, columns, codes, state.now, state.age, chosen=number == at)
        found += [line("")] * (_prompt_lines(state, room) - draw.PROMPT_LINES)
    return found


def _prompt_lines(state: State, room: int) -> int:
    """Lines for each prompt: with an empty one between them where all fit so."""
    airy = draw.PROMPT_LINES + 1
    return airy if len(state.prompts) * airy <= room else draw.PROMPT_LINES


def _window(state: State, room: int) -> tuple[int, int]:
    """Which prompts are seen in so many lines: those around the chosen one."""
    count = len(state.prompts)
    size = max(1, room // _prompt_lines(state, room))
    order = state.order
    at = order.index(state.chosen) if state.chosen in order else 0
    first = min(max(0, at - size // 2), max(0, count - size))
    return first, min(count, first + size)


def _picks(state: State, columns: int, room: int) -> list[Line]:
    lines = draw.pick_lines(state.walks, columns)
    at = next((row for row, (code, _) in enumerate(lines) if code and code == state.chosen), 0)
    first = min(max(0, at - room // 2), max(0, len(lines) - room))
    return [_marked(each, code, state.chosen) for code, each in lines[first : first + room]]


def _position(state: State, room: int) -> str:
    """Which part of the list is seen; empty when all of it is."""
    first, last = _window(state, room)
    total = state.picture.total if state.picture is not None else last
    return f"{first + 1} to {last} of {total}" if state.view == WANTED and last - first < total else ""


def _ways(state: State, columns: int, room: int) -> list[Line]:
    chosen = state.trip.barcode if state.trip is not None else ""
    lines = draw.trip_lines(state.trips, columns)
    at = next((row for row, (code, _) in enumerate(lines) if code and code == chosen), 0)
    first = min(max(0, at - room // 2), max(0, len(lines) - room))
    return [_marked(clip(each, columns), code, chosen) for code, each in lines[first : first + room]]


def _marked(drawn: Line, code: str, chosen: str) -> Line:
    return add_style(drawn, "chosen") if code and code == chosen else drawn


def _foot(state: State, said_rows: int) -> list[Line]:
    """What was said last, the line that is typed, and the keys."""
    columns = state.columns
    found = []
    for said in state.said[-said_rows:]:
        at = f"{said.at.astimezone():%H:%M:%S}"
        found.append(line(" ", (at, "faint"), " ", (said.text, said.style)))
    found = [line("")] * (said_rows - len(found)) + found
    found.append(_typing(state))
    answers = KEYS_OF_STEPS if state.view == WAYS else KEYS_OF_PROMPTS
    bell = [
        (key, f"bell {'off' if state.bell else 'on'}" if key == "F9" else what)
        for key, what in KEYS_OF_SCREEN
    ]
    if columns >= WIDE_COLUMNS:
        return [*found, draw.keys([*answers, *bell], columns)]
    return [*found, draw.keys(answers, columns), draw.keys(bell, columns)]


def _typing(state: State) -> Line:
    """The line that is typed, its end in sight, and to its right what is under way."""
    label, typed = " Scan or type a barcode: ", state.typed.text
    room = state.columns - width(label) - 2
    shown = typed[-room:] if len(typed) > room else typed
    left = max(0, room - width(shown) - 3)
    waiting = right(cut(waiting_words(state), left), left) if left > WAITING_COLUMNS_MIN else ""
    style = "late" if state.away else "walking"
    return line(label, (shown + "_", "typed"), "   ", (waiting, style))
