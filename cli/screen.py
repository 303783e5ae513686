"""Printing: tables that fit 80 columns, JSON for programs, errors for both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli import text

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many rows.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Skip so many rows first.")]

STATE_STYLES = {
    "verified": "green",
    "done": "green",
    "ONLINE": "green",
    "active": "cyan",
    "NEARLINE": "cyan",
    "waiting": "yellow",
    "OFFLINE": "yellow",
    "open": "yellow",
    "suspect": "red",
    "failed": "red",
    "lost": "red",
    "UNAVAILABLE": "red",
}


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to :class:`cli.session.Commands`: rich would end the command with 1."""
        raise BrokenPipeError


def out() -> Console:
    """Standard output as it is now: width, colours and encoding are asked of the terminal."""
    return _Screen(highlight=False, emoji=False, markup=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def say(*lines: object, style: str = "") -> None:
    """Lines of text on standard output, never broken: UIDs and paths in them are copied."""
    console = out()
    for line in lines:
        console.print(Text(str(line), style=style), soft_wrap=True)


def say_text(words: str, style: str = "") -> None:
    """A sentence or more, broken between words where the screen ends."""
    out().print(Text(words, style=style))


def say_json(value: Any) -> None:
    """One JSON document. Characters beyond ASCII as they are, unless the output cannot say them."""
    ascii_only = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=ascii_only) + "\n")
    sys.stdout.flush()


def state(name: object) -> Text:
    """A state's name in its colour."""
    shown = text.clean(name)
    return Text(shown, style=STATE_STYLES.get(shown, ""))


def make_table(columns: Sequence[str], title: str = "") -> Table:
    """An empty table. A column whose name begins with ``>`` is aligned to the right."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_edge=False,
    )
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table


def say_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", empty: str = ""
) -> None:
    """Print a table; ``empty`` instead when there are no rows."""
    table = make_table(columns, title)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    if table.row_count == 0:
        if empty:
            say(empty)
        return
    out().print(table)


def _cell(value: object) -> RenderableType:
    return value if isinstance(value, Text) else Text(text.clean(value))


def lines(*parts: Text | str) -> Text:
    """A cell of several lines; empty ones are left out."""
    shown = [part if isinstance(part, Text) else Text(text.clean(part)) for part in parts]
    return Text("\n").join(part for part in shown if part.plain)


def say_record(record: Mapping[str, Any], *, title: str = "") -> None:
    """One thing's values under each other, tables of things below."""
    table = Table(
        box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), title=title or None,
        title_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    nested = {}
    for key, value in record.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            nested[key] = value
        else:
            table.add_row(key.replace("_", " "), Text(text.words(value)))
    if table.row_count:
        out().print(table)
    for key, value in nested.items():
        say("")
        say_records(value, title=key.replace("_", " "))


def say_records(records: Sequence[Mapping[str, Any]], *, title: str = "", empty: str = "none") -> None:
    """Things whose keys are not known beforehand: a table, or blocks where there are many keys."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    if len(keys) > 6 or any(isinstance(record.get(key), list | dict) for record in records for key in keys):
        for number, record in enumerate(records, start=1):
            say_record(record, title=f"{title} {number}".strip())
        if not records:
            say(empty)
        return
    headers = [key.replace("_", " ") for key in keys]
    rows = [[text.words(record.get(key)) for key in keys] for record in records]
    say_table(headers, rows, title=title, empty=empty)


def complain(message: str, hint: str = "") -> None:
    """An error for the person: what happened, and what to do."""
    console = err()
    console.print(Text.assemble(("hsm: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text(hint, style="dim"), soft_wrap=True)
