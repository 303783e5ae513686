"""Processes of ``hsm`` that are forked from one that has imported it: a start from nothing costs one and a
half seconds of imports, most of what a test of a real daemon would cost.

What is forked is a whole process in a session of its own, that has the command line, the environment and the
files it is given. That ``hsm`` starts from nothing too is shown by tests/crash/test_start_stop.py and
tests/api/test_cli_exits.py.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

ROOT = Path(__file__).parents[1]


class Process:
    """What tests use of :class:`subprocess.Popen`."""

    def __init__(self, nursery: Nursery, words: Sequence[str], pid: int) -> None:
        self._nursery = nursery
        self._words = words
        self.pid = pid
        self._ended = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None, *, group: bool = False) -> int:
        """The exit status; with ``group`` once whatever it started has ended too.

        :raises subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["hsm", *self._words], timeout or 0.0)
            self.returncode = self._nursery.ask({"wait": self.pid, "all": group})["status"]
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """tests/nursery_process.py, running."""

    def __init__(self, hook: Path | None = None) -> None:
        """:param hook: the folder of the crash hook, where processes get a plan for it."""
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line = [sys.executable, "-m", "tests.nursery_process", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                [*line, *([str(hook)] if hook else [])],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )

    def start(
        self, words: Sequence[str], environ: Mapping[str, str], output: IO[bytes], errors: IO[bytes]
    ) -> Process:
        """``hsm`` with these words, without anything to read; it runs when this returns."""
        with open(os.devnull, "rb") as nothing:
            files = [nothing.fileno(), output.fileno(), errors.fileno()]
            message = {"start": list(words), "environ": dict(environ), "cwd": os.getcwd()}
            return Process(self, words, self.ask(message, files)["pid"])

    def run(
        self, words: Sequence[str], environ: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As :func:`subprocess.run` of ``hsm``, whose output is kept.

        :raises subprocess.TimeoutExpired: it was killed after ``timeout`` seconds.
        """
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self.start(words, environ, output, errors)
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(["hsm", *words], status, *texts)

    def ask(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(message).encode()], files)
            return cast(dict[str, Any], json.loads(self._control.recv(1 << 12)))

    def close(self) -> None:
        """End it; what still runs of it is killed."""
        self._control.close()
        self._process.wait(20)


@functools.cache
def nursery() -> Nursery:
    """The one of this test process."""
    made = Nursery()
    atexit.register(made.close)
    return made
