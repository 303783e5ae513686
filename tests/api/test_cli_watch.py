"""``hsm operator watch`` without a terminal: once, and with answers piped into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from api_world import Script

from cli.watch.ask import Looks
from cli.watch.plain import Line, answer
from hsm.client import Client
from hsm.errors import Refused

SCANNED = {"barcode": "T00001", "verdict": "done", "text": "T00001 is in sim: thank you"}


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
        ("T00001", [("operator_scan", "T00001")], "T00001 is in sim"),
        ("no T00001 lent to the museum", [("operator_refuse", "T00001")], "T00001 is refused"),
        ("no T00001", [], "to refuse, type: no BARCODE why"),
        ("no", [], "to refuse, type: no BARCODE why"),
        ("T00001 T00002", [], "is not understood"),
    ],
)
def test_a_typed_line_is_an_answer(
    client: Client, script: Script, typed: str, asked: list[tuple[str, str]], said: str
) -> None:
    script.answers["operator_scan"] = SCANNED
    assert said in answer(client, typed)
    assert [call[:2] for call in script.asked] == asked


def test_an_answer_that_is_refused_is_said_and_does_not_end_the_watch(client: Client, script: Script) -> None:
    script.answers["operator_scan"] = Refused("sim does not see T00001; the mail slots are empty")
    assert "does not see T00001" in answer(client, "T00001")


def test_without_a_terminal_lines_are_answers_and_the_end_of_input_ends_it(
    home: Path, script: Script
) -> None:
    script.answers["operator_scan"] = SCANNED
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
    assert script.asked[0][:2] == ("operator_scan", "T00001")


def test_the_screen_asks_what_the_daemon_understands_when_a_cartridge_of_a_shelf_is_in_a_mail_slot(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = [
        {"name": name, "library": "sim", "element": 101, "shelf": "A3", "pool": "tape"}
        for name in ("T00001", "T00002")
    ]
    monkeypatch.setattr(client, "volumes", lambda **_: mail)
    monkeypatch.setattr(client, "picklist", lambda: {"walks": []})
    monkeypatch.setattr(client, "prompts", lambda **_: [])
    monkeypatch.setattr(client, "movements", list)
    seen = Looks(client).look(fresh=True)
    assert [each.barcode for each in seen.trips] == ["T00002"], "something waits for the other one"


def test_once_prints_the_list_and_ends(home: Path, script: Script) -> None:
    result = subprocess.run(
        [*_command(home), "--once"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    assert "T00001" in result.stdout
    assert "shelf A3" in result.stdout
    assert script.asked == []


def test_without_a_daemon_it_ends_at_once_with_3(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "cli", "--socket", str(tmp_path / "none"), "operator", "watch"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 3
    assert "no daemon answers" in result.stderr


def _command(home: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "cli", "--home", str(home), "operator", "watch"]
