"""What the terminal can do: characters beyond ASCII, colours. Decided from the environment, never asked."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.style import Style

COLOUR_FAMILIES = frozenset(
    {
        "alacritty", "ansi", "aterm", "cons25", "cygwin", "eterm", "foot", "ghostty", "gnome", "iterm",
        "iterm2", "kitty", "konsole", "linux", "mintty", "mlterm", "ms", "putty", "rxvt", "screen", "st",
        "teraterm", "terminator", "tmux", "vte", "wezterm", "wsvt25", "xterm",
    }
)  # fmt: skip
"""First words of TERM that stand for terminals with at least the eight colours of ECMA-48."""

_COLOUR: Mapping[str, Style] = {
    "strong": Style(bold=True),
    "faint": Style(dim=True),
    "head": Style(reverse=True),
    "tab": Style(bold=True, reverse=True),
    "key": Style(reverse=True),
    "place": Style(underline=True),
    "stat": Style(bold=True, color="bright_white", bgcolor="red"),
    "late": Style(bold=True, color="red"),
    "loud": Style(bold=True, color="bright_white", bgcolor="red"),
    "good": Style(color="green"),
    "walking": Style(color="cyan"),
    "chosen": Style(reverse=True),
    "typed": Style(bold=True),
    "letters": Style(bold=True),
}
_PLAIN: Mapping[str, Style] = {
    **_COLOUR,
    "faint": Style(),
    "stat": Style(bold=True, reverse=True),
    "late": Style(bold=True),
    "loud": Style(bold=True, reverse=True),
    "good": Style(),
    "walking": Style(),
}
_BOLD = frozenset({"strong", "place", "late"})
_ASCII = str.maketrans(
    {"…": "~", "→": ">", "─": "-", "│": "|", "·": "-", "▶": ">", "█": "#"}
    | dict.fromkeys("┌┐└┘├┤", "+")
    | dict(zip("ßøØłŁıæÆœŒ", "soOlLiaAoO", strict=True))
)


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw.

    :ivar utf8: the terminal shows characters beyond ASCII.
    :ivar colours: it has at least the eight colours of ECMA-48, and nobody asked for none.
    """

    utf8: bool = True
    colours: bool = True

    def style(self, name: str) -> Style:
        """The attributes of a kind of text: the empty name, or several with a space, are fine."""
        table = _COLOUR if self.colours else _PLAIN
        parts = name.split()
        if "chosen" in parts:
            # Reversed colours are hard to read: on the chosen line only what is urgent keeps its own.
            if "stat" in parts:
                parts = ["stat"] if self.colours else ["chosen", "strong"]
            else:
                parts = ["chosen", *("strong" for part in parts if part in _BOLD)]
        return Style.combine([Style.null(), *(table[part] for part in parts)])

    def plain(self, text: str) -> str:
        """``text`` in characters that the terminal has; as many columns as before."""
        if self.utf8 or text.isascii():
            return text
        return "".join(map(_as_ascii, text.translate(_ASCII)))


def _as_ascii(character: str) -> str:
    """A letter without its accents, so that a shelf in the Südbau is found; else a question mark a column."""
    letter = unicodedata.normalize("NFD", character)[:1]
    columns = max(0, cell_len(character))
    return letter if letter.isascii() and len(letter) == columns else "?" * columns


def look(environment: Mapping[str, str], *, ascii_only: bool = False) -> Look:
    """What this environment says of the terminal."""
    return Look(not ascii_only and says_utf8(environment), has_colours(environment))


def says_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale's character set is UTF-8, by the order of POSIX: LC_ALL, LC_CTYPE, LANG."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if environment.get(name):
            charset = environment[name].partition(".")[2].partition("@")[0]
            return charset.lower().replace("-", "") == "utf8"
    return False


def has_colours(environment: Mapping[str, str]) -> bool:
    """Whether colours are wanted (https://no-color.org) and the terminal is of a family that has them.

    One that is not known has none: bold and reverse say the same, and every terminal has those.
    """
    if environment.get("NO_COLOR"):
        return False
    if environment.get("COLORTERM"):
        return True
    term = environment.get("TERM", "").lower()
    if term.endswith(("-m", "-mono")):
        return False
    return "color" in term or re.split(r"[-.+]", term)[0] in COLOUR_FAMILIES


def environment_at_start() -> dict[str, str]:
    """The environment as this process was given it.

    Python sets LC_CTYPE to UTF-8 by itself where the locale is C (PEP 538), so ``os.environ`` does not
    say what the terminal was set up for.
    """
    try:
        given = Path("/proc/self/environ").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return dict(os.environ)
    pairs = (line.partition("=") for line in given.split("\0") if "=" in line)
    at_start = {name: value for name, _, value in pairs}
    locale = {name: at_start[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if name in at_start}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return others | locale
