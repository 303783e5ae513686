"""Drive or medium to blame."""

from __future__ import annotations

import pytest

from hsm.barcodes import belongs, generation, is_write_once
from hsm.blame import Blame, Pair, blame, consequence, to_avoid
from hsm.model import ReadBack

D1, D2 = ("lib", 1), ("lib", 2)


def pair(drive: tuple[str, int], volume: str, failing: int = 0) -> Pair:
    return Pair(drive, volume, 3, failing, failing)


@pytest.mark.parametrize(
    ("pairs", "to_blame", "words"),
    [
        ([pair(D1, "A")], Blame.NOBODY, "work together"),
        ([pair(D2, "A", 1)], Blame.NOBODY, "never met"),
        ([pair(D1, "A", 1)], Blame.UNKNOWN, "another drive yet"),
        ([pair(D1, "A", 1), pair(D2, "A", 2)], Blame.MEDIUM, "repack"),
        ([pair(D1, "A", 1), pair(D1, "B", 1), pair(D2, "A")], Blame.DRIVE, "A, B"),
        ([pair(D1, "A", 1), pair(D1, "B", 1), pair(D2, "A", 1)], Blame.BOTH, "2 drives"),
        ([pair(D1, "A", 1), pair(D2, "A")], Blame.DRIVE, "works in another drive"),
        ([pair(D1, "A", 1), pair(D1, "B"), pair(D2, "A")], Blame.UNKNOWN, "clean the drive"),
    ],
)
def test_a_second_drive_or_a_second_cartridge_tells_who_is_to_blame(
    pairs: list[Pair], to_blame: Blame, words: str
) -> None:
    verdict = blame(pairs, D1, "A")
    assert verdict.blame is to_blame
    assert words in verdict.why


def test_a_cartridge_is_suspect_after_a_second_drive_has_failed_with_it_too() -> None:
    first = consequence([pair(D1, "A", 1)], D1, "A", permanent=True, in_service=[D1, D2])
    assert (first.volume_suspect, first.certain, first.drive_off) == (False, False, "")
    second = consequence([pair(D1, "A", 1), pair(D2, "A", 1)], D2, "A", permanent=False, in_service=[D1, D2])
    assert (second.volume_suspect, second.certain) == (True, True)


@pytest.mark.parametrize(
    ("failing", "permanent", "suspect"),
    [(1, False, False), (2, False, False), (3, False, True), (1, True, True)],
)
def test_with_one_drive_it_is_tried_there_again_unless_that_cannot_help(
    failing: int, permanent: bool, suspect: bool
) -> None:
    what = consequence([pair(D1, "A", failing)], D1, "A", permanent=permanent, in_service=[D1])
    assert what.volume_suspect is suspect


def test_a_drive_goes_out_of_service_for_cartridges_that_fail_nowhere_else() -> None:
    bad = [pair(D1, name, 1) for name in "ABC"]
    assert "A, B, C" in consequence(bad, D1, "C", permanent=False, in_service=[D1, D2]).drive_off
    worn = [*bad, pair(D2, "C", 1)]
    assert consequence(worn, D1, "C", permanent=False, in_service=[D1, D2]).drive_off == ""
    assert consequence(worn, D1, "C", permanent=False, in_service=[D1, D2], off_after=2).drive_off


def test_what_failed_together_is_kept_apart_while_another_drive_could_have_the_volume() -> None:
    assert to_avoid([pair(D1, "A", 1), pair(D2, "B")], [D1, D2]) == {("lib", 1, "A")}
    assert to_avoid([pair(D1, "A", 1)], [D1]) == set()
    assert to_avoid([pair(D1, "A", 1), pair(D2, "A", 1)], [D1, D2]) == set(), "any is as good as the other"


@pytest.mark.parametrize(
    ("barcode", "known", "worm"),
    [("HSM001L6", "LTO6", False), ("HSM001LW", "LTO6", True), ("ABCDEFM8", "LTO7", False), ("L6", "", False)],
)
def test_a_barcode_tells_the_generation_of_a_cartridge(barcode: str, known: str, worm: bool) -> None:
    assert (generation(barcode), is_write_once(barcode)) == (known, worm)


def test_a_pattern_is_of_the_whole_barcode() -> None:
    assert belongs("HSM001L8", ["HSM*"])
    assert belongs("HSM001L8", ["VLT*", "HSM00?L8"])
    assert not belongs("XHSM001L8", ["HSM*"])


@pytest.mark.parametrize(
    ("words", "of_ten"),
    [("every", 10), ("sample 10%", 1), ("sample 1%", 1), ("sample 25%", 3), ("other-drive", 0)],
)
def test_how_many_packages_a_session_reads_back(words: str, of_ten: int) -> None:
    assert ReadBack.of(words).at_once(10) == of_ten


@pytest.mark.parametrize("words", ["", "never", "sample", "sample 0%", "sample 101%", "sample x%", 5, None])
def test_another_way_to_read_back_is_refused(words: object) -> None:
    with pytest.raises(ValueError, match=r"expected|found"):
        ReadBack.of(words)
