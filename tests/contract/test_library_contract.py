"""What every Library must do. The libraries are in conftest.py."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drivers.base import CHUNK_BYTES, ElementKind, Library, SimulatedHands, Store, VolumeLabel
from drivers.errors import NotFound, OperatorNeeded, Permanent, Retryable

DATA = bytes(range(256)) * 5000


def label_of(barcode: str, pool: str = "tape-a") -> VolumeLabel:
    return VolumeLabel(barcode, f"uuid-of-{barcode}", pool)


def drives(library: Library) -> list[int]:
    return [element.address for element in library.inventory().drives()]


def mounted(library: Library, barcode: str, drive: int) -> Store:
    """Label the blank cartridge and mount it."""
    library.label(label_of(barcode), drive)
    return library.mount(label_of(barcode), drive)


def put(store: Store, key: str, data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), None)


def read(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


def place(library: Library, barcode: str) -> ElementKind | None:
    element = library.inventory().find(barcode)
    return None if element is None else element.kind


def hands(library: Library) -> SimulatedHands:
    if not isinstance(library, SimulatedHands):
        pytest.skip("nobody can carry this library's cartridges from a test")
    return library


def test_the_inventory_has_every_element_and_every_cartridge_once(hall: Any) -> None:
    elements = hall.library.inventory().elements
    assert len({element.address for element in elements}) == len(elements)
    kinds = Counter(element.kind for element in elements)
    assert kinds[ElementKind.DRIVE] >= 2
    assert kinds[ElementKind.MAIL] >= 1
    held = Counter(element.barcode for element in elements if element.barcode)
    assert held == Counter(hall.barcodes)
    assert place(hall.library, hall.absent) is None


def test_a_blank_cartridge_has_no_label_and_cannot_be_mounted(hall: Any) -> None:
    drive = drives(hall.library)[0]
    assert hall.library.read_label(hall.barcodes[0], drive) is None
    with pytest.raises(Permanent, match=hall.barcodes[0]):
        hall.library.mount(label_of(hall.barcodes[0]), drive)


def test_a_label_is_read_back_also_after_a_restart(hall: Any) -> None:
    barcode, drive = hall.barcodes[0], drives(hall.library)[0]
    hall.library.label(label_of(barcode), drive)
    assert hall.library.read_label(barcode, drive) == label_of(barcode)
    assert hall.crash().read_label(barcode, drive) == label_of(barcode)


def test_a_cartridge_that_is_not_blank_is_not_labelled(hall: Any) -> None:
    barcode, drive = hall.barcodes[0], drives(hall.library)[0]
    put(mounted(hall.library, barcode, drive), "k")
    hall.library.unmount(drive)
    for label in (label_of(barcode), label_of(barcode, "vault"), VolumeLabel(barcode, "new", "tape-a")):
        with pytest.raises(Permanent, match="not blank"):
            hall.library.label(label, drive)
    assert hall.library.read_label(barcode, drive) == label_of(barcode)
    assert read(hall.library.mount(label_of(barcode), drive), "k") == DATA


def test_what_was_put_is_there_when_the_volume_is_mounted_again_in_any_drive(hall: Any) -> None:
    library, barcode = hall.library, hall.barcodes[0]
    first, second = drives(library)[:2]
    put(mounted(library, barcode, first), "a/k")
    library.unmount(first)
    assert place(library, barcode) is ElementKind.SLOT
    assert read(library.mount(label_of(barcode), second), "a/k") == DATA


def test_mounting_what_is_mounted_there_gives_a_working_store(hall: Any) -> None:
    drive = drives(hall.library)[0]
    put(mounted(hall.library, hall.barcodes[0], drive), "k")
    again = hall.library.mount(label_of(hall.barcodes[0]), drive)
    assert read(again, "k") == DATA


def test_a_volume_that_says_it_is_another_one_is_refused_before_any_io(hall: Any) -> None:
    library, barcode, drive = hall.library, hall.barcodes[0], drives(hall.library)[0]
    put(mounted(library, barcode, drive), "k")
    library.unmount(drive)
    with pytest.raises(Permanent, match="expected other-uuid"):
        library.mount(VolumeLabel(barcode, "other-uuid", "tape-a"), drive)
    store = library.mount(label_of(barcode), drive)
    assert [stat.key for stat in store.list()] == ["k"]


def test_a_wrong_label_is_refused_also_while_the_volume_is_mounted(hall: Any) -> None:
    drive = drives(hall.library)[0]
    mounted(hall.library, hall.barcodes[0], drive)
    with pytest.raises(Permanent):
        hall.library.mount(VolumeLabel(hall.barcodes[0], "other-uuid", "tape-a"), drive)


def test_mounting_another_volume_unloads_and_keeps_the_first(hall: Any) -> None:
    library, (one, other, *_), drive = hall.library, hall.barcodes, drives(hall.library)[0]
    store = mounted(library, one, drive)
    put(store, "k")
    mounted(library, other, drive)
    assert place(library, one) is ElementKind.SLOT
    assert place(library, other) is ElementKind.DRIVE
    with pytest.raises((Retryable, Permanent), match=one):
        read(store, "k")
    assert read(library.mount(label_of(one), drive), "k") == DATA


@pytest.mark.parametrize("call", ["put", "get", "list", "stat", "delete", "capacity", "flush"])
def test_the_store_of_an_unmounted_volume_refuses_clearly(hall: Any, call: str) -> None:
    library, barcode, drive = hall.library, hall.barcodes[0], drives(hall.library)[0]
    store = mounted(library, barcode, drive)
    put(store, "k")
    library.unmount(drive)
    calls = {
        "put": lambda: put(store, "late"),
        "get": lambda: read(store, "k"),
        "list": lambda: list(store.list()),
        "stat": lambda: store.stat("k"),
        "delete": lambda: store.delete("k"),
        "capacity": store.capacity,
        "flush": store.flush,
    }
    with pytest.raises((Retryable, Permanent), match=barcode):
        calls[call]()
    assert not store.health().ok
    assert [stat.key for stat in library.mount(label_of(barcode), drive).list()] == ["k"]


def test_unmounting_an_empty_drive_does_nothing(hall: Any) -> None:
    before = hall.library.inventory()
    hall.library.unmount(drives(hall.library)[0])
    assert hall.library.inventory() == before


def test_a_volume_that_is_not_in_the_library_needs_an_operator(hall: Any) -> None:
    library, drive = hall.library, drives(hall.library)[0]
    put(mounted(library, hall.barcodes[0], drive), "k")
    for barcode in (hall.absent, "NOSUCHL8"):
        with pytest.raises(OperatorNeeded, match=barcode):
            library.mount(label_of(barcode), drive)
        with pytest.raises(OperatorNeeded, match=barcode):
            library.read_label(barcode, drive)
    assert place(library, hall.barcodes[0]) is ElementKind.DRIVE


def test_a_drive_that_is_not_there_is_refused(hall: Any) -> None:
    with pytest.raises(Permanent, match="99999"):
        hall.library.mount(label_of(hall.barcodes[0]), 99_999)
    with pytest.raises(Permanent, match="99999"):
        hall.library.unmount(99_999)


def test_ejecting_puts_the_volume_into_a_mail_slot(hall: Any) -> None:
    library, barcode = hall.library, hall.barcodes[0]
    address = library.eject(barcode)
    element = library.inventory().find(barcode)
    assert element is not None
    assert (element.kind, element.address) == (ElementKind.MAIL, address)
    assert library.eject(barcode) == address


def test_ejecting_a_mounted_volume_flushes_it_first(hall: Any) -> None:
    library, barcode, drive = hall.library, hall.barcodes[0], drives(hall.library)[0]
    put(mounted(library, barcode, drive), "k")
    library.eject(barcode)
    assert place(library, barcode) is ElementKind.MAIL
    assert read(hall.crash().mount(label_of(barcode), drive), "k") == DATA


def test_ejecting_needs_an_operator_when_the_mail_slots_are_full(hall: Any) -> None:
    library, drive = hall.library, drives(hall.library)[0]
    mails = sum(element.kind is ElementKind.MAIL for element in library.inventory().elements)
    assert mails < len(hall.barcodes), "the harness has too few cartridges for this test"
    store = mounted(library, hall.barcodes[-1], drive)
    for barcode in hall.barcodes[:mails]:
        library.eject(barcode)
    with pytest.raises(OperatorNeeded, match="mail"):
        library.eject(hall.barcodes[-1])
    assert place(library, hall.barcodes[-1]) is ElementKind.DRIVE
    put(store, "k")


def test_what_is_not_in_the_library_cannot_be_ejected(hall: Any) -> None:
    with pytest.raises(NotFound, match=hall.absent):
        hall.library.eject(hall.absent)


def test_an_operator_takes_a_volume_away_and_brings_it_back(hall: Any) -> None:
    library, barcode, drive = hall.library, hall.barcodes[0], drives(hall.library)[0]
    put(mounted(library, barcode, drive), "k")
    library.eject(barcode)
    hands(library).hand_remove(barcode)
    assert place(library, barcode) is None
    with pytest.raises(OperatorNeeded, match=barcode):
        library.mount(label_of(barcode), drive)
    library = hall.crash()
    assert place(library, barcode) is None
    hands(library).hand_insert(barcode)
    assert place(library, barcode) in (ElementKind.MAIL, ElementKind.SLOT)
    assert read(library.mount(label_of(barcode), drive), "k") == DATA
    library.unmount(drive)
    assert place(library, barcode) is ElementKind.SLOT


def test_an_operator_brings_a_volume_that_was_never_there(hall: Any) -> None:
    hands(hall.library).hand_insert(hall.absent)
    drive = drives(hall.library)[0]
    put(mounted(hall.library, hall.absent, drive), "k")


def test_hands_do_not_reach_into_a_drive_nor_find_what_is_not_there(hall: Any) -> None:
    library, drive = hall.library, drives(hall.library)[0]
    mounted(library, hall.barcodes[0], drive)
    with pytest.raises(Permanent):
        hands(library).hand_remove(hall.barcodes[0])
    with pytest.raises(Permanent):
        hands(library).hand_insert(hall.barcodes[1])
    for act in (hands(library).hand_insert, hands(library).hand_remove):
        with pytest.raises(NotFound):
            act("NOSUCHL8")
    with pytest.raises(NotFound):
        hands(library).hand_remove(hall.absent)


def test_everything_is_where_it_was_after_a_restart(hall: Any) -> None:
    library, (one, other, *_) = hall.library, hall.barcodes
    drive = drives(library)[1]
    store = mounted(library, one, drive)
    put(store, "k")
    store.flush()
    library.eject(other)
    before = library.inventory()
    library = hall.crash()
    assert library.inventory() == before
    assert read(library.mount(label_of(one), drive), "k") == DATA


def test_a_volume_left_in_a_drive_by_a_crash_can_be_unmounted_or_used_elsewhere(hall: Any) -> None:
    library, (one, other, *_) = hall.library, hall.barcodes
    first, second = drives(library)[:2]
    mounted(library, one, first)
    mounted(library, other, second)
    library = hall.crash()
    library.unmount(first)
    assert place(library, one) is ElementKind.SLOT
    library.mount(label_of(other), first)
    assert library.inventory().find(other).address == first


def test_two_drives_work_at_the_same_time(hall: Any) -> None:
    library = hall.library
    work = list(zip(hall.barcodes, drives(library), strict=False))[:2]

    def session(barcode: str, drive: int) -> None:
        library.label(label_of(barcode), drive)
        for turn in range(4):
            store = library.mount(label_of(barcode), drive)
            put(store, f"{barcode}/{turn}", DATA + barcode.encode())
            store.flush()
            for earlier in range(turn + 1):
                assert read(store, f"{barcode}/{earlier}") == DATA + barcode.encode()
            library.unmount(drive)

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(session, *item) for item in work]:
            running.result()
    held = Counter(element.barcode for element in library.inventory().elements if element.barcode)
    assert held == Counter(hall.barcodes)


def test_two_threads_that_want_one_drive_take_turns(hall: Any) -> None:
    library, drive = hall.library, drives(hall.library)[0]
    for barcode in hall.barcodes[:2]:
        library.label(label_of(barcode), drive)

    def session(barcode: str) -> int:
        done = 0
        for turn in range(12):
            try:
                store = library.mount(label_of(barcode), drive)
                put(store, f"{barcode}/{turn}", b"abc")
                store.flush()
                done += 1
            except Retryable:
                continue  # the other thread had the drive
        return done

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(session, hall.barcodes[:2]))
    for barcode in hall.barcodes[:2]:
        store = library.mount(label_of(barcode), drive)
        assert all(stat.key.startswith(barcode) for stat in store.list())


def test_a_volume_in_use_in_one_drive_is_not_taken_by_another(hall: Any) -> None:
    library, barcode = hall.library, hall.barcodes[0]
    first, second = drives(library)[:2]
    store = mounted(library, barcode, first)
    put(store, "k")
    with pytest.raises(Retryable, match=barcode):
        library.mount(label_of(barcode), second)
    assert read(store, "k") == DATA


def test_a_busy_drive_is_not_unloaded(hall: Any) -> None:
    library, (one, other, *_) = hall.library, hall.barcodes
    drive = drives(library)[0]
    store = mounted(library, one, drive)
    put(store, "k", bytes(CHUNK_BYTES * 2))
    pieces = store.get("k")
    next(pieces)
    with pytest.raises(Retryable, match="busy"):
        library.unmount(drive)
    with pytest.raises(Retryable, match="busy"):
        library.mount(label_of(other), drive)
    with pytest.raises(Retryable, match="busy"):
        library.eject(one)
    assert len(b"".join(pieces)) == CHUNK_BYTES
    library.unmount(drive)
    assert place(library, one) is ElementKind.SLOT


def test_a_mounted_volume_is_a_removable_store(hall: Any) -> None:
    store = mounted(hall.library, hall.barcodes[0], drives(hall.library)[0])
    assert store.traits.removable
    assert store.health().ok


def test_a_library_has_a_name(hall: Any) -> None:
    assert hall.library.name
