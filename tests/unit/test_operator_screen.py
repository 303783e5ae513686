"""What the operators' screen draws, on any size of terminal."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from test_operator_values import NOW, mount

from cli.watch import letters, terminal
from cli.watch import state as states
from cli.watch.actions import ANSWERS
from cli.watch.lines import fit, fit_name, plain, width, wrap
from cli.watch.press import press
from cli.watch.screen import screen
from cli.watch.state import State
from cli.watch.terminal import Look
from cli.watch.values import picture

SIZES = [(80, 24), (200, 50), (132, 43), (40, 12), (20, 5), (1, 1), (300, 100)]


def state_of(*mounts: dict[str, Any], size: tuple[int, int] = (80, 24), **more: Any) -> State:
    given = {"status": {"mounts_open": len(mounts)}} | more
    start = State(NOW, name="anna", columns=size[0], rows=size[1])
    return states.seen(start, picture(NOW, mounts, **given))[0]


def drawn(state: State, *, halves: bool = True) -> list[str]:
    return [plain(each) for each in screen(state, halves=halves)]


WALKS = [
    {"number": 1, "stops": [
        {"site": "", "shelf": "A3", "items": [mount("T00001L8", into="mail slot 101")]},
        {"site": "north", "shelf": "B1", "items": [mount("T00002L8", acked_by="bob (as root)")]},
    ]},
    {"number": 2, "stops": [{"site": "", "shelf": "", "items": [mount("T00003L8", priority="stat")]}]},
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("barcode", ["T00001L8", "x" * 150, "山田太郎" * 20, "a b", ""])
@pytest.mark.parametrize("halves", [True, False])
def test_every_line_has_exactly_the_columns_of_the_terminal(
    size: tuple[int, int], barcode: str, halves: bool
) -> None:
    long = [{"who": "C-MOVE from " + "W" * 90, "since": None} for _ in range(40)]
    others = [{"barcode": barcode, "where": "shelf " + "z" * 90} for _ in range(9)]
    wanted = mount(barcode, waiters=long, where="shelf " + "山" * 90, alternatives=others, note="n" * 200)
    state = state_of(wanted, mount("T00002L8"), size=size, walks=WALKS)
    keys = [(), ("f2",), ("f7",), ("enter",), ("f1",), ("tab",), ("tab", "tab"), ("tab", "tab", "tab")]
    for pressed in keys:
        shown = state
        for key in pressed:
            shown, _ = press(shown, key, "", 0.0)
        lines = drawn(shown, halves=halves)
        assert len(lines) == size[1]
        assert {width(each) for each in lines} == {size[0]}


def test_a_small_screen_shows_what_somebody_needs_before_they_walk() -> None:
    later = (NOW + timedelta(minutes=30)).isoformat()
    waiters = [{"who": "C-MOVE from WS1 to WS1", "since": NOW.isoformat()}]
    others = [{"barcode": "V00001L8", "where": "shelf Z at vault", "seconds": 14400}]
    state = state_of(
        mount(priority="stat", deadline=later, waiters=waiters, alternatives=others, into="mail slot 101"),
        size=(80, 24),
    )
    shown = "\n".join(drawn(state))
    for words in (
        "1 volume wanted, 1 STAT", "STAT", "T00001L8", "shelf A3", "mail slot 101", "C-MOVE from WS1 to WS1",
        "in 30 min", "nobody yet", "V00001L8 shelf Z at vault",
    ):  # fmt: skip
        assert words in shown, words
    assert letters.large("T00001L8", halves=True)[0] in shown


def test_every_action_has_its_key_in_the_foot() -> None:
    for size in ((80, 24), (200, 50)):
        foot = "\n".join(drawn(state_of(mount(), size=size))[-2:])
        for answer in ANSWERS:
            assert f"{answer.key.upper()} {answer.label}" in foot
        for key in ("Enter", "Tab", "F8", "F9", "F1 ", "F10"):
            assert key in foot


def test_a_wide_screen_shows_details_and_pick_list_beside_the_list() -> None:
    wanted = [mount("T00001L8"), mount("T00002L8"), mount("T00003L8")]
    lines = drawn(state_of(*wanted, size=(200, 50), walks=WALKS))
    shown = "\n".join(lines)
    assert letters.large("T00001L8", halves=True)[1] in shown
    assert "pick list" in shown
    assert any("Walk 1, now: 2 volumes" in each and "│" in each for each in lines)


def test_the_pick_list_goes_from_shelf_to_shelf_and_says_where_to_put_what() -> None:
    wanted = [mount("T00001L8"), mount("T00002L8"), mount("T00003L8")]
    state, _ = press(state_of(*wanted, walks=WALKS), "tab", "", 0.0)
    lines = [each.strip() for each in drawn(state)]
    order = [lines.index(each) for each in ("Walk 1, now: 2 volumes", "shelf A3", "shelf B1 at north")]
    assert order == sorted(order)
    assert any(each.startswith("[ ] T00001L8  → lib1 mail slot 101") for each in lines)
    assert any("T00002L8" in each and "bob walks" in each for each in lines)
    assert any("place unknown" in each for each in lines)


def test_drives_slots_and_what_goes_back_are_shown() -> None:
    status = {"daemon": {"drives": [
        {"library": "lib1", "drive": 0, "barcode": "T00044L8"},
        {"library": "lib1", "drive": 1, "barcode": None, "in_service": False},
    ]}}  # fmt: skip
    mail = [{"name": "T00009L8", "library": "lib1", "element": 101, "shelf": "C4"}]
    state = state_of(mount(), status=status, mail=mail)
    state = replace(state, view=states.DRIVES)
    shown = "\n".join(drawn(state))
    for words in ("lib1 drive 0", "T00044L8", "out of service", "lib1 mail slot 101", "take it to shelf C4"):
        assert words in shown
    shown = "\n".join(drawn(replace(state, view=states.WAYS)))
    assert "→ shelf C4" in shown
    assert "from lib1 mail slot 101: to be taken" in shown


def test_a_list_of_ten_thousand_draws_only_what_is_seen_and_says_which_part() -> None:
    """Seconds, where drawing every prompt would take a minute: bounded with room for a busy machine."""
    state = state_of(*(mount(f"T{number:05d}L8") for number in range(10_000)), size=(200, 50))
    start = time.perf_counter()
    for _ in range(50):
        state, _ = press(state, "pagedown", "", 0.0)
        lines = drawn(state)
    state, _ = press(state, "end", "", 0.0)
    shown = "\n".join(drawn(state))
    assert time.perf_counter() - start < 5.0
    assert "T09999L8" in shown
    assert any("10000" in each for each in lines)
    state, _ = press(replace(state, columns=80, rows=24), "home", "", 0.0)
    assert "1 to 5 of 10000" in "\n".join(drawn(state))


def test_without_utf8_letters_lose_their_accents_and_stay_letters() -> None:
    shown = Look(utf8=False).plain("Außenlager Süd, Łódź, e\u0301tage, 山 → 2…")
    assert shown == "Ausenlager Sud, Lodz, etage, ?? > 2~"


def test_where_to_put_a_cartridge_keeps_the_number_of_the_slot_however_long_the_names_are() -> None:
    long = mount("ARCHIVE-2026-000412-LTO8-WORM", into="mail slot 102")
    walk = {"number": 1, "stops": [{"site": "", "shelf": "A3", "items": [long]}]}
    state, _ = press(state_of(long, walks=[walk]), "tab", "", 0.0)
    (row,) = (each for each in drawn(state) if "[ ]" in each)
    assert re.search(r"ARCHIVE-.*-WORM +→.*102 ", row)


def test_without_utf8_only_ascii_reaches_the_terminal_and_the_columns_stay() -> None:
    look = Look(utf8=False)
    waiters = [{"who": "C-MOVE from 山田", "since": None}]
    state = state_of(mount(waiters=waiters, where="Regal Ä7"), mount("T00002L8"), size=(80, 24))
    for pressed in ((), ("enter",), ("f2",)):
        shown = state
        for key in pressed:
            shown, _ = press(shown, key, "", 0.0)
        for each in drawn(shown, halves=False):
            assert look.plain(each).isascii()
            assert width(look.plain(each)) == 80


@pytest.mark.parametrize(
    ("environment", "utf8"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8@euro"}, True),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "de_DE.ISO8859-1"}, False),
        ({"LANG": "POSIX"}, False),
        ({}, False),
    ],
)
def test_the_locale_says_whether_there_is_more_than_ascii(environment: dict[str, str], utf8: bool) -> None:
    assert terminal.says_utf8(environment) is utf8


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "linux"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "vt100"}, False),
        ({"TERM": "no-such-terminal"}, False),
        ({}, False),
    ],
)
def test_colours_are_used_where_the_terminal_has_them(environment: dict[str, str], colours: bool) -> None:
    assert terminal.has_colours(environment) is colours


def test_without_colours_nothing_is_said_by_colour_alone() -> None:
    look = Look(colours=False)
    for name in ("stat", "late", "loud", "good", "walking", "chosen", "head", "key", "strong", "faint"):
        style = look.style(name)
        assert style.color is None
        assert style.bgcolor is None
    assert look.style("stat").reverse
    assert look.style("late").bold


def test_large_letters_are_as_wide_as_promised_and_unlike_each_other() -> None:
    assert len(set(letters.FONT.values())) == len(letters.FONT)
    assert set(map(str.upper, letters.FONT)) >= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    for drawing in letters.FONT.values():
        assert [len(row) for row in drawing] == [5] * 5
    for halves in (True, False):
        found = letters.large("T00001L8", halves=halves)
        assert len(found) == letters.rows(halves=halves)
        assert {len(row) for row in found} == {letters.columns("T00001L8")}
    assert letters.large("bücher", halves=True) == []
    assert letters.large("", halves=True) == []


def test_long_barcodes_are_told_apart_by_their_ends() -> None:
    assert fit_name("ARCHIVE-2026-000412-LTO8", 16) == "ARCHIVE-…12-LTO8"
    assert fit_name("MV0412L8", 10) == "MV0412L8  "
    for columns in range(1, 30):
        assert width(fit_name("東京テープ零一二三 ARCHIVE", columns)) == columns


def test_text_is_cut_and_broken_by_columns_not_characters() -> None:
    assert fit("山田花子", 5) == "山田…"
    assert fit("ab", 4) == "ab  "
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("山田花子", 5) == ["山田", "花子"]
    assert wrap("one two three four", 7, 2) == ["one two", "three …"]
