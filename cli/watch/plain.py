"""``hsm operator watch`` without a terminal that can be drawn on: the list is printed when it changes."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cli import screen, text
from cli.operator import COLUMNS, mount_row
from hsm.client import ApiError, Client, Unreachable

Record = dict[str, Any]

LINE_LENGTH_MAX = 200
LIST_MAX = 1000
EMPTY = "nothing is asked for"
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
        return text.clean(client.operator_scan(word)["text"])
    except ApiError as error:
        return str(error)


def look(client: Client) -> tuple[list[Record], str]:
    """The open mount requests, and what is wrong when they cannot be had."""
    try:
        return client.prompts(limit=LIST_MAX), ""
    except Unreachable as error:
        return [], f"{error}; trying again"


def show_once(client: Client) -> None:
    """Print the list once.

    :raises ApiError: the daemon does not answer.
    """
    screen.say_table(COLUMNS, map(mount_row, client.prompts(limit=LIST_MAX)), empty=EMPTY)


def watch_mounts(client: Client, interval: float) -> None:
    """Print the list when it changes, and take typed lines as answers, until the end of the input."""
    line, shown, complained = Line(), None, ""
    while not line.ended:
        mounts, wrong = look(client)
        barcodes = [(mount["barcode"], mount.get("acked_by")) for mount in mounts]
        if wrong and wrong != complained:
            screen.complain(wrong)
        elif not wrong and barcodes != shown:
            screen.say_table(COLUMNS, map(mount_row, mounts), empty=EMPTY)
            shown = barcodes
        complained = wrong
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
