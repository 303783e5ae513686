"""The medium changer by ``mtx``: what the product relies on, seen on the kernel's real ``sg`` driver."""

from __future__ import annotations

import re

import pytest
from instruments import DRIVES, MAIL, OPERATION_MOVE, SLOTS, ask, changer_device, fail, mt, mtx, run

MECHANICAL_ERROR = (4, 0x15, 1)


def status() -> dict[str, str]:
    """``Storage Element 1`` -> what ``mtx status`` says of it."""
    answer = mtx("status")
    assert answer.returncode == 0, answer.stderr
    lines = (line.strip() for line in answer.stdout.splitlines()[1:])
    return {name.strip(): rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def test_the_inventory_has_drives_slots_mail_slots_and_barcodes() -> None:
    first = mtx("status").stdout.splitlines()[0].strip()
    assert first == f"Storage Changer {changer_device()}:2 Drives, 10 Slots ( 2 Import/Export )"
    held = status()
    assert held["Data Transfer Element 0"] == held["Data Transfer Element 1"] == "Empty"
    assert held["Storage Element 1"] == "Full :VolumeTag=PAC001L6"
    assert held["Storage Element 7"] == "Full :VolumeTag=CLN001CU"
    assert held["Storage Element 8"] == "Empty:VolumeTag="
    assert held["Storage Element 9 IMPORT/EXPORT"] == "Empty:VolumeTag="
    assert len(held) == 12


def test_a_cartridge_is_loaded_into_a_drive_and_goes_back() -> None:
    answer = mtx("load", 2, 1)
    assert (answer.returncode, answer.stdout.strip()[-4:]) == (0, "done")
    held = status()
    assert held["Data Transfer Element 1"] == "Full (Storage Element 2 Loaded):VolumeTag = PAC002L6"
    assert held["Storage Element 2"] == "Empty:VolumeTag="
    assert mtx("unload", 2, 1).returncode == 0
    assert status()["Storage Element 2"] == "Full :VolumeTag=PAC002L6"


def test_a_cartridge_goes_out_by_a_mail_slot_and_another_one_comes_in() -> None:
    assert mtx("transfer", 3, 10).returncode == 0
    assert status()["Storage Element 10 IMPORT/EXPORT"] == "Full :VolumeTag=PAC003L6"
    assert ask("take", ie=1) == {"barcode": "PAC003L6"}
    ask("insert", ie=0, barcode="NEW001L6")
    held = status()
    assert held["Storage Element 10 IMPORT/EXPORT"] == "Empty:VolumeTag="
    assert held["Storage Element 9 IMPORT/EXPORT"] == "Full :VolumeTag=NEW001L6"
    assert mtx("transfer", 9, 3).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("load", 8, 0), "Source Element Address 4103 is Empty"),
        (("load", 99, 0), "Invalid <storage-element-number>"),
        (("load", 1, 7), "illegal <drive-number>"),
        (("transfer", 1, 2), "Destination Element Address 4097 is Already Full"),
        (("unload", 8, 0), "Data Transfer Element 0 is Empty"),
    ],
)
def test_a_move_that_cannot_be_is_refused_in_words_and_nothing_moves(
    words: tuple[str, int, int], says: str
) -> None:
    before = status()
    answer = mtx(*words)
    assert answer.returncode != 0
    assert says in answer.stderr
    assert status() == before


def test_a_full_drive_is_refused() -> None:
    mtx("load", 1, 0)
    answer = mtx("load", 2, 0)
    assert answer.returncode != 0
    assert "Drive 0 Full (Storage Element 1 loaded)" in answer.stderr


@pytest.mark.parametrize("sense", [MECHANICAL_ERROR, (2, 0x04, 0x03), (5, 0x53, 0x02)])
def test_a_move_that_fails_tells_its_sense_data_and_works_when_tried_again(
    sense: tuple[int, int, int],
) -> None:
    fail(OPERATION_MOVE, sense, device="changer")
    answer = mtx("load", 1, 0)
    assert answer.returncode != 0
    assert f"Additional Sense Code = {sense[1]:02X}" in answer.stderr
    assert f"Additional Sense Qualifier = {sense[2]:02X}" in answer.stderr
    assert "MOVE MEDIUM from Element Address 4096 to 256 Failed" in answer.stderr
    assert mtx("load", 1, 0).returncode == 0


def test_nothing_moves_while_the_door_is_open() -> None:
    ask("door", open=True)
    mtx("status")
    answer = mtx("load", 1, 0)
    assert answer.returncode != 0
    assert "Sense Key=Not Ready" in answer.stderr
    ask("door", open=False)
    mtx("status")
    assert mtx("load", 1, 0).returncode == 0


@pytest.mark.parametrize("quiet", [False, True])
def test_a_cartridge_moved_by_hand_is_seen_where_it_is_now(quiet: bool) -> None:
    ask("lift", barcode="PAC001L6", quiet=quiet)
    ask("place", barcode="PAC001L6", element=SLOTS + 7, quiet=quiet)
    held = status()
    assert held["Storage Element 1"] == "Empty:VolumeTag="
    assert held["Storage Element 8"] == "Full :VolumeTag=PAC001L6"


def test_an_unreadable_barcode_is_a_full_element_without_a_name() -> None:
    ask("smudge", barcode="PAC001L6")
    assert status()["Storage Element 1"] == "Full :VolumeTag="


def test_mtx_guesses_a_home_slot_for_a_cartridge_that_came_by_hand() -> None:
    """Why the product never believes "Storage Element n Loaded": here slot 1 is not where it came from."""
    mtx("load", 1, 0)
    ask("lift", barcode="PAC003L6")
    ask("place", barcode="PAC003L6", element=DRIVES + 1)
    held = status()
    assert held["Data Transfer Element 0"].startswith("Full (Storage Element 1 Loaded)")
    assert held["Data Transfer Element 1"].startswith("Full (Storage Element 1 Loaded)")


def test_a_drive_in_use_keeps_its_cartridge() -> None:
    """The st driver locks the door of an open drive when asked to (MTLOCK)."""
    mtx("load", 1, 0)
    assert mt(0, "lock").returncode == 0
    answer = mtx("unload", 1, 0)
    assert answer.returncode != 0
    assert "Additional Sense Code = 53" in answer.stderr
    mt(0, "unlock")
    assert mtx("unload", 1, 0).returncode == 0


def test_element_addresses_are_those_of_the_mode_page() -> None:
    """ELEMENT ADDRESS ASSIGNMENT (SMC-3, 7.3.3): mtx numbers elements from these."""
    page = run("sg_modes", "-p", "0x1d", "-H", changer_device())
    assert page.returncode == 0, page.stderr
    words = bytes.fromhex("".join(re.findall(r"^ *[0-9a-f]+ ((?: +[0-9a-f]{2})+)", page.stdout, re.M)))
    body = words[words.index(b"\x1d\x12") :]
    numbers = [int.from_bytes(body[at : at + 2], "big") for at in range(2, 18, 2)]
    assert numbers == [1, 1, SLOTS, 8, MAIL, 2, DRIVES, 2]
