"""Which media need looking after, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hsm.barcodes import drive_generation, reads
from hsm.blame import Blame
from hsm.refresh import Medium, advice, drive_of
from hsm.states import VolumeState

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GOOD = Medium("HSM001L6", VolumeState.FULL, True, NOW - timedelta(days=900), capacity=10**9, drives=(7, 6))


@pytest.mark.parametrize(
    ("product", "generation"),
    [
        ("ULT3580-TD8", 8),
        ("ULTRIUM-HH9", 9),
        ("Ultrium 6-SCSI", 6),
        ("LTO-10", 10),
        ("HH LTO 7", 7),
        ("DVDRAM GH24", 0),
        ("", 0),
    ],
)
def test_a_drive_says_of_which_generation_it_is(product: str, generation: int) -> None:
    assert drive_generation(product) == generation


def test_a_drive_that_does_not_say_is_known_by_what_it_has_written() -> None:
    assert drive_of("", ["HSM001L6", "HSM002L7", "CLEAN1"]) == 7
    assert drive_of("ULT3580-TD8", ["HSM002L7"]) == 8
    assert drive_of("", []) == 0


def test_each_generation_reads_what_its_makers_say() -> None:
    known = {6: (4, 5, 6), 7: (5, 6, 7), 8: (7, 8), 9: (8, 9), 10: (10,), 1: (1,)}
    assert {each: tuple(reads(each)) for each in known} == known


def test_a_good_medium_needs_nothing() -> None:
    assert advice(GOOD, NOW) == []


@pytest.mark.parametrize(
    ("change", "act", "words"),
    [
        ({"state": VolumeState.SUSPECT, "error": "tape 1 broke"}, True, "suspect: tape 1 broke"),
        ({"suspects": 3}, True, "3 damaged copies"),
        ({"blame": Blame.MEDIUM, "why": "fails in 2 drives"}, True, "fails in 2 drives"),
        ({"blame": Blame.UNKNOWN, "why": "not tried elsewhere"}, False, "not tried elsewhere"),
        ({"overdue": NOW - timedelta(days=800)}, True, "not read back since 2024-03-23"),
        ({"drives": (9, 8)}, True, "no drive in service reads LTO-6"),
        ({"drives": (8, 9, 8)}, True, "there are LTO-8, LTO-9"),
        ({"created_at": NOW - timedelta(days=4000)}, False, "10 years in the archive"),
        ({"mounts": 5001}, False, "5001 mounts"),
        ({"bytes_moved": 201 * 10**9}, False, "201 times its whole length"),
    ],
)
def test_what_is_wrong_or_worn_is_said_with_what_to_do(
    change: dict[str, object], act: bool, words: str
) -> None:
    (found,) = advice(replace(GOOD, **change), NOW)  # type: ignore[arg-type]
    assert found.act is act
    assert words in found.words


def test_the_oldest_generation_that_can_be_read_is_named_before_it_cannot() -> None:
    (found,) = advice(replace(GOOD, drives=(8, 8), name="HSM001L7"), NOW)
    assert not found.act
    assert "hsm volume repack --generation LTO7" in found.words
    assert advice(replace(GOOD, drives=None), NOW) == [], "nobody knows the drives"


def test_the_urgent_comes_first_and_disks_do_not_wear() -> None:
    worn = replace(GOOD, mounts=9000, suspects=1)
    assert [each.act for each in advice(worn, NOW)] == [True, False]
    disk = replace(worn, name="nas", removable=False, suspects=0, created_at=NOW - timedelta(days=9000))
    assert advice(disk, NOW) == []
