"""A scanned barcode: somebody holds this cartridge now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hsm.operators.scanning import Held, Verdict, decide

WANTED = Held(
    "HSM001L8", known=True, wanted=True, seen=False, library="lib", into="mail slot 101", belongs="shelf B3"
)


def test_what_is_wanted_and_seen_is_done() -> None:
    assert decide(replace(WANTED, seen=True), ["HSM001L8 (shelf B3)"]).verdict is Verdict.DONE


def test_what_is_wanted_and_not_seen_is_told_where_to_go() -> None:
    found = decide(WANTED, ["HSM001L8 (shelf B3)"])
    assert (found.verdict, found.text) == (
        Verdict.PUT_IN,
        "HSM001L8 is wanted: put it into mail slot 101 of lib",
    )
    assert "comes free" in decide(replace(WANTED, into=""), []).text


def test_the_wrong_cartridge_is_told_what_it_is_where_it_belongs_and_what_is_wanted() -> None:
    held = replace(WANTED, wanted=False, what="tape-a, full")
    found = decide(held, ["HSM002L8 (shelf C1)", "HSM003L8 (shelf C2)"])
    assert found.verdict is Verdict.NOT_WANTED
    assert found.text == (
        "HSM001L8 (tape-a, full) is not wanted now: it belongs on shelf B3. "
        "Wanted: HSM002L8 (shelf C1), HSM003L8 (shelf C2)"
    )


def test_the_same_cartridge_twice_is_in_already() -> None:
    held = replace(WANTED, wanted=False, seen=True, answered="done, by alice")
    found = decide(held, [])
    assert (found.verdict, found.text) == (
        Verdict.AGAIN,
        "HSM001L8 is in lib already (done, by alice); nothing is left to do",
    )


@pytest.mark.parametrize("wanted", [[], ["A (x)"], [f"T{n} (shelf)" for n in range(9)]])
def test_a_stranger_is_named_and_what_is_wanted_is_said_in_bounds(wanted: list[str]) -> None:
    found = decide(Held("XYZ", known=False, wanted=False, seen=False), wanted)
    assert found.verdict is Verdict.UNKNOWN
    assert "not in the catalog" in found.text
    assert len(found.text) < 250
    assert ("and 4 more" in found.text) is (len(wanted) == 9)
