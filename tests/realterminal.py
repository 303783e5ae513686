"""A program on a real pseudo terminal, and a terminal emulator that shows what it drew."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyte

ENTER = "\r"
F2, F3, F4, F7 = "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[18~"
F10, TAB, ESCAPE, DOWN = "\x1b[21~", "\t", "\x1b", "\x1b[B"


class Emulator(pyte.Screen):
    """pyte's screen with the answers and private modes it does not know left out."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows)
        self.bells = 0

    def bell(self, *_: Any) -> None:
        self.bells += 1

    def report_device_status(self, *_: Any, **__: Any) -> None:
        """The program needs no answer."""

    def report_device_attributes(self, *_: Any, **__: Any) -> None:
        """The program needs no answer."""


class Terminal:
    """Runs ``command`` on a terminal of this size; a context manager.

    :param environment: all of the program's environment.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int = 80, rows: int = 24
    ) -> None:
        self._ours, theirs = pty.openpty()
        self._resize(columns, rows)
        self.emulator = Emulator(columns, rows)
        self.raw = b""
        self._stream = pyte.ByteStream(self.emulator)
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(environment),
            preexec_fn=_lead,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.hang_up()

    @property
    def shown(self) -> str:
        """The lines of the screen."""
        return "\n".join(line.rstrip() for line in self.emulator.display)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Another size of window; the program is told as a terminal tells it."""
        self.emulator.resize(rows, columns)
        self._resize(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the terminal, as when a connection breaks."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def read(self, seconds: float = 0.05) -> None:
        """Take in what was drawn within so many seconds."""
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if ready:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the program has closed the other side
                return
            self.raw += data
            self._stream.feed(data.replace(b"\x1b[?2026$p", b"").replace(b"\x1b[?2048$p", b""))

    def until(self, seen: Callable[[str], Any], what: str, seconds: float = 60.0) -> str:
        """The screen once ``seen`` holds of it."""
        deadline = time.monotonic() + seconds
        while not seen(self.shown):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.shown}"
            self.read()
        return self.shown

    def until_ended(self, seconds: float = 60.0) -> int:
        """The exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end within {seconds:g} s\n{self.shown}"
            self.read()
        return self.process.returncode


def _lead() -> None:
    """The terminal is the session's, so that its end reaches the program; and signals do what they usually
    do, whatever the suite was started under."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
