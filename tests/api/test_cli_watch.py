"""``hsm operator watch``: typed on a real (pseudo) terminal, and piped into without one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from api_world import Script

from cli.watch import Line, answer
from hsm.client import Client
from hsm.errors import Refused


def test_a_line_is_finished_by_enter_and_mended_by_backspace() -> None:
    line = Line()
    assert list(line.feed("T0000")) == []
    assert list(line.feed("2\x7f1\r\n")) == ["T00001"]
    assert list(line.feed("wrong\x15right\n\x1b[A\n")) == ["right", "[A"]
    assert not line.ended
    assert list(line.feed("\x04")) == []
    assert line.ended


def test_a_line_has_a_limit() -> None:
    line = Line()
    list(line.feed("x" * 10_000))
    assert len(line.typed) == 200


@pytest.mark.parametrize(
    ("typed", "asked", "said"),
    [
        ("T00001", [("operator_done", "T00001")], "T00001 is in sim"),
        ("no T00001 lent to the museum", [("operator_refuse", "T00001")], "T00001 is refused"),
        ("no T00001", [], "to refuse, type: no BARCODE why"),
        ("no", [], "to refuse, type: no BARCODE why"),
        ("T00001 T00002", [], "is not understood"),
    ],
)
def test_a_typed_line_is_an_answer(
    client: Client, script: Script, typed: str, asked: list[tuple[str, str]], said: str
) -> None:
    script.answers["operator_done"] = {"barcode": "T00001", "library": "sim", "answered": True}
    assert said in answer(client, typed)
    assert [call[:2] for call in script.asked] == asked


def test_an_answer_that_is_refused_is_said_and_does_not_end_the_watch(client: Client, script: Script) -> None:
    script.answers["operator_done"] = Refused("sim does not see T00001; the mail slots are empty")
    assert "does not see T00001" in answer(client, "T00001")


def test_without_a_terminal_lines_are_answers_and_the_end_of_input_ends_it(
    home: Path, script: Script
) -> None:
    script.answers["operator_done"] = {"barcode": "T00001", "library": "sim", "answered": True}
    result = subprocess.run(
        [*_command(home), "--interval", "0.2"],
        input="T00001\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "T00001" in result.stdout
    assert "T00001 is in sim" in result.stdout
    assert script.asked[0][:2] == ("operator_done", "T00001")


def test_on_a_terminal_a_scanned_barcode_answers_and_ctrl_c_ends(home: Path, script: Script) -> None:
    script.answers["operator_done"] = {"barcode": "T00001", "library": "sim", "answered": True}
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        _command(home),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        # A suite that was started in the background ignores it, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        screen = _read_until(ours, lambda shown: "loaded>" in shown and "shelf A3" in shown)
        assert "\x07" in screen, "a new prompt rings"
        os.write(ours, b"T00001\r")
        _read_until(ours, lambda shown: "T00001 is in sim" in shown)
        assert script.asked[0][:2] == ("operator_done", "T00001")
        process.send_signal(signal.SIGINT)
        _read_until(ours, lambda _: process.poll() is not None)
        assert process.returncode == 130
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def _command(home: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "cli", "--home", str(home), "operator", "watch"]


def _read_until(descriptor: int, seen: Callable[[str], bool], seconds: float = 30.0) -> str:
    """What the terminal was sent, once ``seen`` holds; escape sequences other than the bell removed."""
    shown = ""
    deadline = time.monotonic() + seconds
    while not seen(shown):
        assert time.monotonic() < deadline, shown
        ready, _, _ = select.select([descriptor], [], [], 0.05)
        if ready:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # the other side is closed
                data = b""
            shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
    return shown
