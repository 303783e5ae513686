"""When drives are cleaned, and what happens where they cannot be."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from drivers.base import Store, VolumeLabel
from drivers.errors import OperatorNeeded
from drivers.tape import logpages
from drivers.tape.configure import open_mtx
from drivers.tape.fake import Tape
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.tape.library import DRIVE_ADDRESS as DRIVE
from drivers.tape.library import TapeLibrary

ONE = VolumeLabel("HSM001L8", "uuid-1", "tape-a")
DATA = b"package" * 1000


def alerts(*flags: int) -> bytes:
    body = b"".join(n.to_bytes(2, "big") + bytes((0x40, 1, n in flags)) for n in range(1, 65))
    return b"\x2e\0" + len(body).to_bytes(2, "big") + body


def cleanings(count: int) -> bytes:
    return bytes.fromhex("1400000600014002") + count.to_bytes(2, "big")


@pytest.fixture
def machine() -> FakeIo:
    """The drive cleans in no time and says so; a cartridge of ``spent`` it gives back with an alert."""
    made = fake_library((ONE.barcode,))

    def cleaned(argv: Sequence[str]) -> None:
        held = made.loaded.get(0, "")
        if "unload" in argv and held.startswith("CLN"):
            made.drives[0].unload()
            made.log_pages[0, logpages.TAPE_ALERT] = alerts(*([0x16] if held in SPENT else []))

    made.before = cleaned
    return made


SPENT = frozenset({"CLN009L1"})


@pytest.fixture
def library(machine: FakeIo) -> TapeLibrary:
    made = open_mtx({"changer": CHANGER}, machine)
    made.label(ONE, DRIVE)
    return made


def insert(machine: FakeIo, *barcodes: str) -> None:
    for number, barcode in enumerate(barcodes, 4):
        machine.slots[number], machine.tapes[barcode] = barcode, Tape()


def put(store: Store, key: str) -> None:
    store.put(key, io.BytesIO(DATA), len(DATA), None)
    store.flush()


def cleaned_with(machine: FakeIo) -> list[str]:
    return [line.split()[-2] for line in machine.ran if " load " in line and line.split()[-2] in "456"]


def test_a_drive_that_asks_for_it_is_cleaned_before_the_cartridge_in_it_is_written(
    machine: FakeIo, library: TapeLibrary
) -> None:
    insert(machine, "CLN001L1")
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    store = library.mount(ONE, DRIVE)
    assert cleaned_with(machine) == ["4"]
    assert machine.slots[4] == "CLN001L1"
    put(store, "a")
    library.unmount(DRIVE)
    library.mount(ONE, DRIVE)
    assert cleaned_with(machine) == ["4"], "once is enough"


def test_a_periodic_cleaning_waits_for_the_next_change_of_cartridges(
    machine: FakeIo, library: TapeLibrary
) -> None:
    insert(machine, "CLN001L1")
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_PERIODIC)
    put(library.mount(ONE, DRIVE), "a")
    assert cleaned_with(machine) == []
    library.unmount(DRIVE)
    library.mount(ONE, DRIVE)
    assert cleaned_with(machine) == ["4"]


def test_a_dirty_drive_without_a_cleaning_cartridge_is_read_and_not_written(
    machine: FakeIo, library: TapeLibrary
) -> None:
    put(library.mount(ONE, DRIVE), "a")
    library.unmount(DRIVE)
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    store = library.mount(ONE, DRIVE)
    assert b"".join(store.get("a")) == DATA
    before = list(machine.tapes[ONE.barcode].records)
    with pytest.raises(OperatorNeeded, match=r"no cleaning cartridge; put a new one \(CLN"):
        put(store, "b")
    assert machine.tapes[ONE.barcode].records == before
    insert(machine, "CLN001L1")
    store = library.mount(ONE, DRIVE)  # the same request, tried again
    put(store, "b")
    assert cleaned_with(machine) == ["4"]


def test_a_cleaning_cartridge_that_is_used_up_is_put_aside_for_the_next_one(
    machine: FakeIo, library: TapeLibrary
) -> None:
    insert(machine, "CLN009L1", "CLN010L1")
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    put(library.mount(ONE, DRIVE), "a")
    assert cleaned_with(machine) == ["4", "5"]
    library.clean(DRIVE)
    assert cleaned_with(machine) == ["4", "5", "5"]


def test_where_all_cleaning_cartridges_are_used_up_a_person_is_told_which(
    machine: FakeIo, library: TapeLibrary
) -> None:
    insert(machine, "CLN009L1")
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    with pytest.raises(OperatorNeeded, match=r"CLN009L1: expired cleaning media \(0x16\)"):
        library.mount(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    with pytest.raises(OperatorNeeded, match="only used ones"):
        put(store, "a")
    assert machine.slots[4] == "CLN009L1"
    machine.slots[4] = None
    library.unmount(DRIVE)
    insert(machine, "CLN001L1")
    put(library.mount(ONE, DRIVE), "a")


def test_a_drive_that_was_cleaned_at_its_panel_is_written_again(
    machine: FakeIo, library: TapeLibrary
) -> None:
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    machine.log_pages[0, logpages.LIFE] = cleanings(7)
    with pytest.raises(OperatorNeeded):
        put(library.mount(ONE, DRIVE), "a")
    library.unmount(DRIVE)
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts()
    machine.log_pages[0, logpages.LIFE] = cleanings(8)
    put(library.mount(ONE, DRIVE), "a")


def test_who_does_not_want_drives_cleaned_has_them_written_dirty(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER, "auto_clean": False}, machine)
    library.label(ONE, DRIVE)
    insert(machine, "CLN001L1")
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts(logpages.CLEAN_NOW)
    put(library.mount(ONE, DRIVE), "a")
    assert cleaned_with(machine) == []
