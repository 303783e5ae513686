"""The lines of the list, the head and the foot of the screen. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cli import text
from cli.watch.lines import Line, add_style, clip, cut, fit, fit_name, line, right, width
from cli.watch.values import Cartridge, Drive, Picture, Prompt, Trip, Walk

PROMPT_LINES = 2
BARCODE_COLUMNS_MIN = 8
BARCODE_COLUMNS_MAX = 24
URGENCY_COLUMNS = 11
WAIT_COLUMNS = 7
WAITERS_MAX = 20
WALKER_COLUMNS_MAX = 24
"""Who waits is to be seen beside it."""
BACK_CODE_COLUMNS = 16
WALKER_COLUMNS = 16


def span(seconds: float) -> str:
    """A length of time: ``48 s``, ``12 min``, ``3 h 05`` (hours and minutes), ``2 d 4 h``."""
    seconds = max(0.0, seconds)
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d}"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def waited(prompt: Prompt, age: float) -> float:
    """Seconds that a prompt is open, in a picture that is ``age`` seconds old."""
    return prompt.waited + age


def due(prompt: Prompt, now: datetime) -> str:
    """Its deadline in words; empty without one."""
    left = prompt.left(now)
    if left is None or prompt.deadline is None:
        return ""
    at = f"{prompt.deadline.astimezone():%H:%M}"
    return f"by {at}, {span(-left)} LATE" if left < 0 else f"by {at}, in {span(left)}"


def urgency(prompt: Prompt, now: datetime) -> tuple[str, str]:
    """The word for how urgent it is, and its style."""
    if prompt.is_stat:
        return " STAT ", "stat"
    if prompt.is_late(now):
        return " LATE ", "stat"
    return f" {prompt.urgency} "[: URGENCY_COLUMNS - 1], "strong" if prompt.rank <= 10 else ""


def waiters(prompt: Prompt, columns: int) -> str:
    """Who waits, as many by name as fit whole, and how many more."""
    names = [each.who for each in prompt.waiters[:WAITERS_MAX]]
    unnamed = len(prompt.waiters) - len(names)
    if not names:
        return text.plural(prompt.requests, "request") if prompt.requests else "nobody by name"
    for shown in range(len(names), 1, -1):
        more = f" and {unnamed + len(names) - shown} more" if unnamed + len(names) > shown else ""
        if width(said := ", ".join(names[:shown]) + more) <= columns:
            return said
    more = f" and {len(prompt.waiters) - 1} more" if len(prompt.waiters) > 1 else ""
    return cut(names[0], max(8, columns - width(more))) + more


def barcode_columns(prompts: Sequence[Prompt]) -> int:
    """Columns for the barcodes of a list."""
    longest = max((width(prompt.barcode) for prompt in prompts), default=0)
    return min(max(longest, BARCODE_COLUMNS_MIN), BARCODE_COLUMNS_MAX)


def prompt_lines(
    prompt: Prompt, columns: int, codes: int, now: datetime, age: float, *, chosen: bool
) -> tuple[Line, Line]:
    """A prompt in the list: what, where and how long; then who waits, until when and who walks."""
    word, style = urgency(prompt, now)
    room = columns - 2 - URGENCY_COLUMNS - codes - 2 - WAIT_COLUMNS - 1
    first = line(
        ("▶ " if chosen else "  ", "strong"),
        (word, style),
        " " * (URGENCY_COLUMNS - width(word)),
        (fit_name(prompt.barcode, codes), "strong"),
        "  ",
        (fit(prompt.where or "place unknown", room), ""),
        (right(span(waited(prompt, age)), WAIT_COLUMNS), "strong"),
        " ",
    )
    state, kind = progress(prompt, now)
    indent = 2 + URGENCY_COLUMNS
    room = columns - indent - width(state) - 2
    second = line(
        " " * indent,
        fit(waiters(prompt, room), room),
        " ",
        (cut(state, columns - indent - 2), kind),
        " ",
    )
    both = clip(first, columns), clip(second, columns)
    return (add_style(both[0], "chosen"), add_style(both[1], "chosen")) if chosen else both


def progress(prompt: Prompt, now: datetime) -> tuple[str, str]:
    """Who walks for it or until when it is wanted, and the style of that."""
    if prompt.taken_by:
        return f"{cut(prompt.walker, WALKER_COLUMNS_MAX)} is walking", "walking"
    if prompt.is_late(now):
        return due(prompt, now), "late"
    return due(prompt, now), ""


def head(
    picture: Picture | None, name: str, columns: int, now: datetime, age: float, away: str
) -> tuple[Line, str]:
    """The first line, and its style: what is asked for, who looks, and whether the picture is fresh."""
    clock = f"{now.astimezone():%H:%M:%S}"
    if away:
        old = f"; this is {span(age)} old" if picture is not None else ""
        return clip(line(f" {away}{old}; trying again", f"  {clock} "), columns), "loud"
    if picture is None:
        return clip(line(" looking ..."), columns), "head"
    prompts = picture.prompts
    stat, late = sum(each.is_stat for each in prompts), sum(each.is_late(now) for each in prompts)
    taken = sum(bool(each.taken_by) for each in prompts)
    said = [text.plural(picture.total, "volume") + " wanted"]
    said += [
        f"{count} {what}" for count, what in ((stat, "STAT"), (late, "LATE"), (taken, "walked for")) if count
    ]
    left = f" {picture.archive}  " + ", ".join(said)
    end = f"{name}  {clock} "
    return clip(line(fit(left, columns - width(end) - 1), " ", end), columns), "head"


def tabs(titles: Sequence[tuple[str, int | None]], shown: int, columns: int) -> Line:
    """The names of the views with their counts; the one that is shown stands out."""
    spans = [("  ", "")]
    for number, (title, count) in enumerate(titles):
        label = f" {title} " if count is None else f" {title} {count} "
        spans += [(label, "tab" if number == shown else ""), ("  ", "")]
    return clip(tuple(spans), columns)


def keys(pairs: Sequence[tuple[str, str]], columns: int) -> Line:
    """A line of the foot: keys and what they do."""
    spans = [(" ", "")]
    for key, what in pairs:
        spans += [(key, "key"), (f" {what}  ", "")]
    return clip(tuple(spans), columns)


def rule(title: str, columns: int) -> Line:
    """A line across, with a title in it."""
    start = f"── {title} " if title else ""
    return line((start + "─" * max(0, columns - width(start)), "faint"))


def pick_lines(walks: Sequence[Walk], columns: int) -> list[tuple[str, Line]]:
    """The pick list: a heading for each walk and each shelf, a line for each volume, with the barcode that
    it is about; empty for a heading."""
    if not walks:
        return [("", line("")), ("", line(("  Nothing to fetch.", "good")))]
    codes = barcode_columns([pick for walk in walks for pick in walk.picks])
    found: list[tuple[str, Line]] = []
    for walk in walks:
        if found:
            found.append(("", line("")))
        when = "now" if walk.number == 1 else "when there is room in the library again"
        title = f"  Walk {walk.number}, {when}: {text.plural(len(walk.picks), 'volume')}"
        found.append(("", line((cut(title, columns), "strong"))))
        for stop in walk.stops:
            place = f"shelf {stop.shelf}" if stop.shelf else "place unknown"
            at = f" at {stop.site}" if stop.site else ""
            found.append(("", line("  ", (cut(f"{place}{at}", columns - 2), "place"))))
            found += [(pick.barcode, _pick(pick, codes, columns)) for pick in stop.picks]
    return found


def _pick(pick: Prompt, codes: int, columns: int) -> Line:
    word, style = ("STAT", "stat") if pick.is_stat else (pick.urgency, "")
    tail = f"{pick.walker} walks" if pick.taken_by else ""
    tail_columns = min(WALKER_COLUMNS, columns // 5)
    room = columns - 8 - codes - 2 - URGENCY_COLUMNS - tail_columns - 2
    into = fit_name(f"→ {into_words(pick)}", room)
    return line(
        "    [ ] ", (fit_name(pick.barcode, codes), "strong"), "  ", into, " ",
        (word, style), " " * (URGENCY_COLUMNS - width(word)), (fit(tail, tail_columns), "walking"),
    )  # fmt: skip


def into_words(prompt: Prompt) -> str:
    """Where to put it: the place that is kept for it, or the library's next one that comes free."""
    if prompt.into:
        return " ".join(filter(None, (prompt.library, prompt.into)))
    return f"the next free slot of {prompt.library}" if prompt.library else "the library that reads it"


def drive_lines(drives: Sequence[Drive], mail: Sequence[Cartridge], columns: int) -> list[Line]:
    """What is in the drives and in the mail slots."""
    found: list[Line] = [line(("  Drives", "strong"))]
    for each in drives:
        said = ("" if each.in_service else "out of service", each.note)
        code = (each.barcode or "empty", "strong" if each.barcode else "faint")
        found.append(_place(f"{each.library} drive {each.number}", code, said, columns))
    if not drives:
        found.append(line(("  no library tells of drives", "faint")))
    found += [line(""), line(("  Mail slots", "strong"))]
    for slot in mail:
        go = f"take it to shelf {slot.shelf}" if slot.shelf else ""
        more = (go, slot.pool, slot.state)
        number = "" if slot.slot is None else slot.slot
        found.append(_place(f"{slot.library} mail slot {number}", (slot.barcode, "strong"), more, columns))
    if not mail:
        found.append(line(("  all empty", "faint")))
    return found


def _place(place: str, code: tuple[str, str], said: Sequence[str], columns: int) -> Line:
    """One place of a library, what lies in it, and what there is to say."""
    wide = min(30, columns // 3)
    rest = cut(", ".join(filter(None, said)), max(0, columns - wide - BACK_CODE_COLUMNS - 6))
    return line(f"  {fit(place, wide)}  ", (fit(code[0], BACK_CODE_COLUMNS), code[1]), "  ", rest)


def trip_lines(trips: Sequence[Trip], columns: int) -> list[tuple[str, Line]]:
    """Cartridges that a person carries out of a library or back, each with its barcode; two lines each."""
    if not trips:
        return [("", line("")), ("", line(("  Nothing is to be carried out or back.", "good")))]
    codes = barcode_columns([Prompt(each.barcode) for each in trips])
    found: list[tuple[str, Line]] = []
    for each in trips:
        state, style = _TRIP_WORDS.get(each.state, (each.state, ""))
        by = f", {each.by}" if each.by else ""
        box = "[x] " if each.state == "left" else "[ ] "
        room = columns - 6 - codes - 4
        target = fit_name(f"→ {each.target}", room)
        first = line("  ", box, (fit_name(each.barcode, codes), "strong"), "  ", target)
        found.append((each.barcode, first))
        found.append(
            (each.barcode, line(" " * (8 + codes), (cut(f"from {each.origin}: {state}{by}", room), style)))
        )
    return found


_TRIP_WORDS = {
    "planned": ("to be taken", ""),
    "left": ("taken, not confirmed there yet", "walking"),
    "": ("to be taken", ""),
}
