"""The terminal program: keys and news in, changed lines out. What it knows is one ``State``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")  # old terminals print what they do not know

from rich.segment import Segment
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from cli import text
from cli.watch import state as states
from cli.watch.lines import Line
from cli.watch.link import Answered, Away, Link, News, OpenClient, Seen, Stopped
from cli.watch.press import Do, Effect, Named, Quit, ask_name, press
from cli.watch.screen import screen
from cli.watch.state import State
from cli.watch.terminal import Look

TERMINATED = 143
FAULT = 1


class Told(Message):
    """News of the daemon, on its way to the screen's thread."""

    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news


class Canvas(Widget):
    """The lines of the screen; only those that changed are sent to the terminal."""

    def __init__(self, look: Look, resized: Callable[[Size], None]) -> None:
        super().__init__()
        self._look = look
        self._resized = resized
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """Put these lines in the place of the last ones."""
        before, self._lines = self._lines, lines
        columns = self.size.width
        changed = [
            Region(0, row, columns, 1)
            for row, drawn in enumerate(lines)
            if row >= len(before) or drawn != before[row]
        ]
        if changed:
            self.refresh(*changed)

    def on_resize(self, event: events.Resize) -> None:
        """Another size of terminal: everything is drawn anew."""
        self._resized(event.size)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line with the terminal's attributes."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width)
        look = self._look
        spans = [Segment(look.plain(said), look.style(style)) for said, style in self._lines[y] if said]
        return Strip(spans).adjust_cell_length(width)


class Front(Screen[None], inherit_bindings=False):
    """The only screen: the canvas fills it."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self._canvas = canvas

    def compose(self) -> ComposeResult:
        yield self._canvas


class Watch(App[int], inherit_bindings=False):
    """``hsm operator watch`` on a terminal. Its return value is the exit code.

    :param open_client: a client of the daemon under an operator's name.
    :param name: the operator's, when it is known; else it is asked for, with ``login`` proposed.
    :param interval: seconds between two looks.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; overflow: hidden; }
    Canvas { width: 100%; height: 100%; background: ansi_default; color: ansi_default; }
    """

    def __init__(
        self,
        open_client: Callable[[str], OpenClient],
        look: Look,
        *,
        name: str = "",
        login: str = "",
        interval: float = 2.0,
        bell: bool = True,
    ) -> None:
        super().__init__(ansi_color=True)
        self._open_client = open_client
        self._interval = interval
        self._terminal = look
        self.canvas = Canvas(look, self._resize)
        self._link: Link | None = None
        self.fault = ""
        self._seen_at = time.monotonic()
        self.state = State(text.now(), name=name, bell=bell)
        if not name:
            self.state = ask_name(self.state, login)

    def get_default_screen(self) -> Screen[None]:
        return Front(self.canvas)

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)
        if self.state.name:
            self._begin(self.state.name)
        if not self.is_headless:
            # A terminal that is gone ends it at once, even below nohup: there is nothing to draw on.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, lambda *_: self.call_later(self.exit, TERMINATED))

    def _begin(self, name: str) -> None:
        """Look and answer under this name from now on."""
        self._link = Link(self._open_client(name), self._interval, lambda news: self.post_message(Told(news)))
        self._link.start()

    def _resize(self, size: Size) -> None:
        self.state = replace(self.state, columns=size.width, rows=size.height)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        event.stop()
        typed = event.character or ""
        self._press(event.key, typed if event.is_printable else "")

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text is typed text; a line end at its end is Enter."""
        event.stop()
        for character in event.text.strip("\r\n"):
            self._press("", character)
        if event.text.endswith(("\r", "\n")):
            self._press("enter", "")

    def _press(self, key: str, character: str) -> None:
        self.state, effects = press(self.state, key, character, time.monotonic())
        for effect in effects:
            self._take(effect)
        self._draw()

    def _take(self, effect: Effect) -> None:
        if isinstance(effect, Quit):
            if self._link is not None:
                self._link.end()
            self.exit(effect.code)
        elif isinstance(effect, Named):
            self._begin(effect.name)
        elif isinstance(effect, Do) and self._link is not None:
            self._link.do(effect.act)

    def on_told(self, told: Told) -> None:
        """What the daemon said."""
        if isinstance(told.news, Seen):
            self._seen_at = time.monotonic()
            self.state, ring = states.seen(self.state, told.news.picture)
            if ring:
                self.bell()
        elif isinstance(told.news, Away):
            self.state = states.gone_away(self.state, told.news.error, answers=told.news.answers)
        elif isinstance(told.news, Stopped):
            self.fault = told.news.fault
            self.exit(FAULT)
        elif isinstance(told.news, Answered):
            self.state = states.answered(self.state, told.news.outcome)
            if told.news.outcome.loud:
                self.bell()
        self._draw()

    def _tick(self) -> None:
        self.state = replace(self.state, now=text.now(), age=time.monotonic() - self._seen_at)
        self._draw()

    def _draw(self) -> None:
        self.canvas.show(screen(self.state, halves=self._terminal.utf8))
