"""Runs the commands of an LTFS as children: with a time limit, and with bounded output.

An ltfs with an empty drive has been seen to write to its standard error without end. Of every child's output
only the beginning and the end are kept, and a command that floods is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

from drivers.errors import Permanent, Retryable

HEAD_BYTES = TAIL_BYTES = 64 << 10
FLOOD_BYTES = 16 << 20
"""More than any command has to say."""
_PIECE = 16 << 10
_END_SECONDS = 10.0


class Child:
    """A running command. Its output is read by a thread of its own until it ends."""

    def __init__(self, argv: Sequence[str]) -> None:
        """:raises Permanent: there is no such command."""
        self.argv = tuple(argv)
        environment = os.environ | {"LC_ALL": "C", "LANG": "C"}
        environment["PATH"] = f"{environment.get('PATH', '')}:/usr/local/bin:/usr/sbin:/sbin"
        try:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Permanent(
                f"{self.argv[0]} cannot be run ({error.strerror}); install an LTFS and name its commands in "
                "the option ltfs"
            ) from error
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0
        self._lock = threading.Lock()
        self._limited = True
        self._reader = threading.Thread(target=self._read, name=f"output of {self.argv[0]}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def flooded(self) -> bool:
        """It wrote more than :data:`FLOOD_BYTES`."""
        return self._total > FLOOD_BYTES

    def unlimited(self) -> None:
        """From now on a flood is thrown away and the child lives: it holds a mounted volume."""
        self._limited = False

    def text(self) -> str:
        """What it has said so far, the middle of much left out."""
        with self._lock:
            cut = b"\n...\n" if self._total > HEAD_BYTES + len(self._tail) else b""
            said = self._head + cut + self._tail
        return said.decode("utf-8", "replace")

    def wait(self, seconds: float) -> int | None:
        """Its exit status (negative: the signal that ended it), or None when it still runs."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(_END_SECONDS)  # a grandchild may hold the pipe
        return status

    def kill(self) -> None:
        """End it and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait(_END_SECONDS)

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:
            while piece := os.read(pipe.fileno(), _PIECE):
                with self._lock:
                    room = HEAD_BYTES - len(self._head)
                    self._head += piece[:room]
                    self._tail += piece[room:]
                    if len(self._tail) > 2 * TAIL_BYTES:
                        del self._tail[:-TAIL_BYTES]
                    self._total += len(piece)
                if self._limited and self.flooded:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()  # so that it is not left as a zombie when nobody else asks for it


def run(argv: Sequence[str], seconds: float, what: str) -> tuple[int, str]:
    """Run a command to its end: its exit status and what it said.

    :raises Permanent: there is no such command.
    :raises Retryable: it took longer than ``seconds``, or flooded; it has been killed.
    """
    child = Child(argv)
    try:
        status = child.wait(seconds)
    except BaseException:
        child.kill()
        raise
    if status is None:
        child.kill()
        raise Retryable(f"{what}: {argv[0]} took more than {seconds:g} s and was ended; is the drive stuck?")
    if child.flooded:
        raise Retryable(f"{what}: {argv[0]} wrote without end and was ended; is a cartridge loaded?")
    return status, child.text()
