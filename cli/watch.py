"""``hsm operator watch``: a list that refreshes itself, with a line to type into."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from cli import screen, text
from cli.operator import COLUMNS, mount_row, thanks
from hsm.client import ApiError, Client, Unreachable

Record = dict[str, Any]

LINE_LENGTH_MAX = 200
_BACKSPACES = "\x7f\x08"
_KILL_LINE = "\x15"
_END_OF_INPUT = "\x04"


@dataclass
class Line:
    """The line being typed. Feed it characters; it gives back each finished line."""

    typed: str = ""
    ended: bool = False

    def feed(self, characters: str) -> Iterator[str]:
        for character in characters:
            if character in "\r\n":
                line, self.typed = self.typed.strip(), ""
                if line:
                    yield line
            elif character in _BACKSPACES:
                self.typed = self.typed[:-1]
            elif character == _KILL_LINE:
                self.typed = ""
            elif character == _END_OF_INPUT:
                self.ended = True
            elif character.isprintable() and len(self.typed) < LINE_LENGTH_MAX:
                self.typed += character


def answer(client: Client, line: str) -> str:
    """Do what a typed line says, and say what came of it."""
    word, _, rest = line.partition(" ")
    try:
        if word.lower() == "no":
            barcode, _, why = rest.strip().partition(" ")
            if not barcode or not why.strip():
                return "to refuse, type: no BARCODE why"
            client.operator_refuse(barcode, why.strip())
            return f"{barcode} is refused"
        if rest:
            return f"{line!r} is not understood: type a barcode, or: no BARCODE why"
        return thanks(word, client.operator_done(word))
    except ApiError as error:
        return str(error)


def look(client: Client) -> tuple[list[Record], str]:
    """The open mount requests, and what is wrong when they cannot be had."""
    try:
        return client.mounts(), ""
    except Unreachable as error:
        return [], f"{error}; trying again"


def watch_mounts(client: Client, interval: float) -> None:
    """Show the list until Ctrl-C or the end of the input."""
    client.mounts()  # a daemon that is not there ends the command at once
    console = screen.out()
    live = console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty()
    _watch_live(client, interval) if live else _watch_plain(client, interval)


def _watch_live(client: Client, interval: float) -> None:
    line, said, known = Line(), "", set[str]()
    mounts, wrong = look(client)
    due = time.monotonic() + interval
    with _single_keys(sys.stdin.fileno()), Live(auto_refresh=False, screen=False) as live:
        while not line.ended:
            if {mount["barcode"] for mount in mounts} - known:
                live.console.bell()
            known = {mount["barcode"] for mount in mounts}
            live.update(_picture(mounts, line.typed, wrong or said), refresh=True)
            for typed in line.feed(_typed(due - time.monotonic())):
                said = answer(client, typed)
                due = 0.0
            if time.monotonic() >= due:
                mounts, wrong = look(client)
                due = time.monotonic() + interval


def _picture(mounts: list[Record], typed: str, said: str) -> Group:
    table = screen.make_table(COLUMNS)
    for mount in mounts:
        table.add_row(*(cell if isinstance(cell, Text) else text.clean(cell) for cell in mount_row(mount)))
    return Group(
        table if mounts else Text("nothing is asked for"),
        Text(said, style="yellow"),
        Text(f"loaded> {typed}_"),
    )


def _watch_plain(client: Client, interval: float) -> None:
    """Without a terminal that can be drawn on: print the list when it changes."""
    line, shown = Line(), None
    while not line.ended:
        mounts, wrong = look(client)
        barcodes = [mount["barcode"] for mount in mounts]
        if wrong:
            screen.complain(wrong)
        elif barcodes != shown:
            screen.say_table(COLUMNS, map(mount_row, mounts), empty="nothing is asked for")
            shown = barcodes
        for typed in line.feed(_typed(interval)):
            screen.say(answer(client, typed))


def _typed(seconds: float) -> str:
    """What was typed within so many seconds; the end of the input is Ctrl-D."""
    descriptor = sys.stdin.fileno()
    ready, _, _ = select.select([descriptor], [], [], max(0.0, seconds))
    if not ready:
        return ""
    data = os.read(descriptor, 4096)
    return data.decode("utf-8", "ignore") if data else "\n" + _END_OF_INPUT


@contextlib.contextmanager
def _single_keys(descriptor: int) -> Iterator[None]:
    """Characters as they are typed and without echo; Ctrl-C still interrupts."""
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
