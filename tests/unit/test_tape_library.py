"""What only libraries of real drives do, with the devices played; what every library does is in
tests/contract."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers import registry
from drivers.base import ElementKind, Overwriting, SimulatedHands, Store, VolumeLabel
from drivers.errors import DriverError, NotFound, OperatorNeeded, Permanent, Retryable, StaleMap, WrongVolume
from drivers.tape import MANUAL, MTX, logpages
from drivers.tape.configure import open_manual, open_mtx
from drivers.tape.fake import Tape
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library, sense_text
from drivers.tape.io import Completed, LinuxIo
from drivers.tape.label import PlainLabel, label_records
from drivers.tape.library import TapeLibrary
from drivers.tape.manual import ManualLibrary

ONE, TWO = VolumeLabel("HSM001L8", "uuid-1", "tape-a"), VolumeLabel("HSM002L8", "uuid-2", "tape-a")
DRIVE, OTHER = 60_000, 60_001
DATA = bytes(range(256)) * 3000


@pytest.fixture
def machine() -> FakeIo:
    return fake_library(("HSM001L8", "HSM002L8", "HSM003L8"))


@pytest.fixture
def library(machine: FakeIo) -> TapeLibrary:
    return open_mtx({"changer": CHANGER}, machine)


def put(store: Store, key: str = "k", data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), None)


def read(store: Store, key: str = "k") -> bytes:
    return b"".join(store.get(key))


def moves(machine: FakeIo) -> list[str]:
    """The commands that move something."""
    return [line for line in machine.ran if line.split()[0] == "mtx" and "status" not in line]


def alerts_page(*flags: int) -> bytes:
    body = b"".join(n.to_bytes(2, "big") + bytes((0x40, 1, n in flags)) for n in range(1, 65))
    return b"\x2e\0" + len(body).to_bytes(2, "big") + body


def test_a_drive_is_known_by_its_serial_number_however_it_is_cabled(machine: FakeIo) -> None:
    machine.cabling = (1, 0)
    library = open_mtx({"changer": "CHANGER1"}, machine)
    library.label(ONE, DRIVE)
    assert machine.drives[0].tape is machine.tapes["HSM001L8"]
    assert "90WT000001" in library.mount(ONE, DRIVE).name  # type: ignore[attr-defined]


def test_devices_that_change_their_names_are_found_again(machine: FakeIo) -> None:
    library = open_mtx({"changer": "CHANGER1"}, machine)
    library.label(ONE, DRIVE)
    library.unmount(DRIVE)
    machine.cabling = (1, 0)
    assert library.read_label("HSM001L8", DRIVE) == ONE
    put(library.mount(ONE, DRIVE))
    library.unmount(DRIVE)
    assert machine.slots[1] == "HSM001L8"


def test_a_changer_that_does_not_name_its_drives_is_never_guessed(machine: FakeIo) -> None:
    machine.names_its_drives = False
    with pytest.raises(OperatorNeeded, match=r"option drives"):
        open_mtx({"changer": CHANGER}, machine).inventory()
    named = open_mtx({"changer": CHANGER, "drives": {"0": "90WT000002", 1: "/dev/nst0"}}, machine)
    assert [element.address for element in named.inventory().drives()] == [DRIVE, OTHER]
    with pytest.raises(OperatorNeeded, match="still empty"):
        named.read_label("HSM001L8", DRIVE)  # the admin named them crosswise: noticed, nothing written


def test_a_library_that_is_switched_off_does_not_keep_the_archive_from_starting(machine: FakeIo) -> None:
    library = open_mtx({"changer": "NOT-THERE"}, machine)
    with pytest.raises(OperatorNeeded, match="NOT-THERE"):
        library.inventory()


def test_drives_that_are_not_ours_are_not_offered(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER, "drives": {1: "90WT000002"}}, machine)
    assert [element.address for element in library.inventory().drives()] == [OTHER]
    with pytest.raises(Permanent, match="no drive 60000"):
        library.mount(ONE, DRIVE)


def test_slots_of_another_system_are_not_ours(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER, "slots": "1-2, 5, 9"}, machine)
    numbers = [e.address for e in library.inventory().elements if e.kind is not ElementKind.DRIVE]
    assert numbers == [1, 2, 5, 9]
    with pytest.raises(OperatorNeeded, match="HSM003L8"):
        library.read_label("HSM003L8", DRIVE)


@pytest.mark.parametrize("slots", ["", "1-", "a", "1,,2"])
def test_slots_that_cannot_be_read_are_refused(machine: FakeIo, slots: str) -> None:
    with pytest.raises(Permanent, match="option slots"):
        open_mtx({"changer": CHANGER, "slots": slots}, machine)


def test_cleaning_cartridges_and_unreadable_labels_are_nobodys_volumes(machine: FakeIo) -> None:
    machine.slots[4] = "CLN001CU"
    library = open_mtx({"changer": CHANGER}, machine)
    element = next(e for e in library.inventory().elements if e.address == 4)
    assert (element.barcode, element.note) == (None, "cleaning cartridge CLN001CU")


@pytest.mark.parametrize("look", range(1, 8))
def test_whenever_a_hand_takes_the_cartridge_away_nothing_else_is_loaded(
    machine: FakeIo, library: TapeLibrary, look: int
) -> None:
    library.inventory()
    looks = 0

    def grab(argv: Sequence[str]) -> None:
        nonlocal looks
        looks += argv[0] == "mtx"
        if looks == look and machine.slots[1] == "HSM001L8":
            machine.slots[1] = "HSM003L8"
            machine.slots[3] = None

    machine.before = grab
    try:
        library.label(ONE, DRIVE)
    except (OperatorNeeded, Retryable) as error:
        assert "HSM001L8" in str(error)
        assert machine.tapes["HSM003L8"].records == []
    else:
        assert machine.loaded[0] == "HSM001L8"
    assert machine.tapes["HSM003L8"].records == [], "the wrong cartridge was written"


@pytest.mark.parametrize(
    ("key", "code", "qualifier"),
    [("Not Ready", "04", "18"), ("Illegal Request", "3B", "12"), ("Not Ready", "3A", "02")],
)
def test_an_open_door_or_a_missing_magazine_asks_for_an_inventory(
    machine: FakeIo, library: TapeLibrary, key: str, code: str, qualifier: str
) -> None:
    library.inventory()
    machine.complaints = [sense_text(key, code, qualifier)] * 9
    with pytest.raises(StaleMap, match="inventory"):
        library.label(ONE, DRIVE)
    machine.complaints.clear()
    library.label(ONE, DRIVE)


def test_unit_attentions_are_taken_note_of_and_the_move_is_decided_anew(
    machine: FakeIo, library: TapeLibrary
) -> None:
    attention = sense_text("Unit Attention", "28", "01")
    machine.complaints = [attention, attention]
    library.inventory()
    before = len(machine.ran)
    machine.complaints = []

    def complain(argv: Sequence[str]) -> None:
        if "load" in argv and len(machine.complaints) == 0 and machine.seconds == 0:
            machine.seconds += 1
            machine.complaints = [attention]

    machine.before = complain
    library.label(ONE, DRIVE)
    ran = machine.ran[before:]
    loads = [at for at, line in enumerate(ran) if " load " in line]
    assert len(loads) == 2
    assert any("status" in line for line in ran[loads[0] : loads[1]])


def test_a_jammed_robot_is_for_a_person(machine: FakeIo, library: TapeLibrary) -> None:
    library.inventory()
    machine.before = lambda argv: (
        machine.complaints.append(sense_text("Hardware Error", "15", "01")) if "load" in argv else None
    )
    with pytest.raises(OperatorNeeded, match="jammed"):
        library.label(ONE, DRIVE)


def test_a_hanging_robot_is_given_up_after_its_time_limit(machine: FakeIo) -> None:
    class Hanging(FakeIo):
        def run(self, argv: Sequence[str], timeout: float) -> Completed:
            if "load" in argv:
                raise TimeoutError(errno.ETIMEDOUT, f"took more than {timeout:g} s")
            return super().run(argv, timeout)

    hanging = Hanging(**{name: getattr(machine, name) for name in ("tapes", "slots", "mail_slots", "drives")})
    library = open_mtx({"changer": CHANGER, "move_seconds": 33}, hanging)
    with pytest.raises(Retryable, match="more than 33 s; the robot may be stuck"):
        library.label(ONE, DRIVE)


def test_a_move_that_succeeds_and_says_otherwise_is_believed_to_have_succeeded(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.inventory()

    class Liar:
        said = False

    def load_first(argv: Sequence[str]) -> None:
        if "load" in argv and not Liar.said:
            Liar.said = True
            machine._load(1, 0)
            machine.complaints = [sense_text("Aborted Command", "47", "00")]

    machine.before = load_first
    library.label(ONE, DRIVE)
    assert machine.tapes["HSM001L8"].records


def test_a_changer_that_shows_no_labels_in_drives_is_followed_by_what_was_moved(machine: FakeIo) -> None:
    machine.shows_labels_in_drives = False
    library = open_mtx({"changer": CHANGER}, machine)
    library.label(ONE, DRIVE)
    put(library.mount(ONE, DRIVE))
    found = library.inventory().find("HSM001L8")
    assert found is not None
    assert found.address == DRIVE
    library.label(TWO, DRIVE)
    assert machine.slots[1] == "HSM001L8"
    assert read(library.mount(ONE, OTHER)) == DATA


def test_a_cartridge_goes_home_and_to_a_free_slot_when_home_is_taken(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.label(ONE, DRIVE)
    machine.slots[1] = "HSM003L8"
    machine.slots[3] = None
    library.unmount(DRIVE)
    assert machine.slots[3] == "HSM001L8"


def test_a_full_library_keeps_the_cartridge_mounted(machine: FakeIo, library: TapeLibrary) -> None:
    library.label(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    for number in range(1, 9):
        machine.slots[number] = machine.slots[number] or f"X{number:05d}L8"
    with pytest.raises(OperatorNeeded, match="no free slot"):
        library.unmount(DRIVE)
    put(store)


def test_a_label_that_is_not_what_the_barcode_promises_is_refused_with_both_named(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.label(TWO, DRIVE)
    library.unmount(DRIVE)
    machine.tapes["HSM001L8"], machine.tapes["HSM002L8"] = (
        machine.tapes["HSM002L8"],
        machine.tapes["HSM001L8"],
    )
    before = list(machine.tapes["HSM001L8"].records)
    with pytest.raises(WrongVolume, match=r"HSM001L8.*HSM002L8 \(uuid-2\).*expected uuid-1"):
        library.mount(ONE, DRIVE)
    assert machine.tapes["HSM001L8"].records == before


FOREIGN = {
    "an LTFS volume": [
        f"VOL1ABC123 {'':13}LTFS         {'':14}{'':28}4".encode(),
        None,
        b"<ltfslabel/>",
        None,
    ],
    "a tar archive": [b"etc/hostname".ljust(257, b"\0") + b"ustar  \0" + bytes(247), None],
    "ANSI label": [b"VOL1BKP001".ljust(79) + b"3", None],
    "Bacula": [bytes(12) + b"BB02" + bytes(100), None],
    "file mark": [None, b"x", None],
    "unknown kind": [b"\x00\x01", None],
}


@pytest.mark.parametrize("words", FOREIGN)
def test_somebody_elses_tape_is_called_by_its_name_and_left_alone(
    machine: FakeIo, library: TapeLibrary, words: str
) -> None:
    machine.tapes["HSM001L8"].records = list(FOREIGN[words])
    for act in (
        lambda: library.read_label("HSM001L8", DRIVE),
        lambda: library.label(ONE, DRIVE),
        lambda: library.mount(ONE, DRIVE),
    ):
        with pytest.raises(WrongVolume, match=words):
            act()
    assert machine.tapes["HSM001L8"].records == FOREIGN[words]


def test_overwriting_wants_the_barcode_typed_out_before_anything_moves(
    machine: FakeIo, library: TapeLibrary
) -> None:
    assert isinstance(library, Overwriting)
    machine.tapes["HSM001L8"].records = list(FOREIGN["a tar archive"])
    for typed in ("", "yes", "HSM002L8", "hsm001l8"):
        with pytest.raises(Permanent, match="HSM001L8"):
            library.overwrite(ONE, DRIVE, typed)
    assert machine.ran == []
    assert "tar archive" in library.overwrite(ONE, DRIVE, "HSM001L8")
    assert library.read_label("HSM001L8", DRIVE) == ONE


def test_an_ltfs_tape_is_not_overwritten_as_long_as_it_has_two_partitions(
    machine: FakeIo, library: TapeLibrary
) -> None:
    machine.tapes["HSM001L8"].records = list(FOREIGN["an LTFS volume"])
    with pytest.raises(Permanent, match="two partitions"):
        library.overwrite(ONE, DRIVE, "HSM001L8")
    assert machine.tapes["HSM001L8"].records == FOREIGN["an LTFS volume"]


def test_a_damaged_label_of_ours_is_not_blank(machine: FakeIo, library: TapeLibrary) -> None:
    header, _ = label_records(PlainLabel(ONE, 4096))
    machine.tapes["HSM001L8"].records = [header, b"{torn", None]
    with pytest.raises(WrongVolume, match="label is damaged"):
        library.label(ONE, DRIVE)


def test_a_write_protected_cartridge_is_read_and_not_written(machine: FakeIo, library: TapeLibrary) -> None:
    library.label(ONE, DRIVE)
    put(library.mount(ONE, DRIVE))
    library.unmount(DRIVE)
    machine.tapes["HSM001L8"].protected = machine.tapes["HSM002L8"].protected = True
    store = library.mount(ONE, DRIVE)
    assert read(store) == DATA
    assert "write-protect" in store.health().message
    with pytest.raises(Permanent, match="write-protect"):
        put(store, "more")
    with pytest.raises(Permanent, match="write-protect"):
        library.label(TWO, OTHER)


def test_a_drive_that_somebody_else_has_open_is_retried_later(machine: FakeIo, library: TapeLibrary) -> None:
    library.inventory()
    machine.drives[0].open(write=False)
    with pytest.raises(Retryable, match="another process"):
        library.read_label("HSM001L8", DRIVE)


def test_loading_waits_for_the_drive_without_blocking_and_not_for_ever(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER, "load_seconds": 40}, machine)
    library.inventory()
    load = machine.drives[0].load
    machine.drives[0].load = lambda tape, polls_until_ready=0: load(tape, polls_until_ready=30)  # type: ignore[method-assign]
    assert library.read_label("HSM001L8", DRIVE) is None
    assert 25 <= machine.seconds <= 40
    machine.drives[1].load = lambda tape, polls_until_ready=0: machine.drives[1].__init__() or None  # type: ignore[method-assign, misc]
    with pytest.raises(OperatorNeeded, match="still empty after 40 s"):
        library.read_label("HSM002L8", OTHER)


def test_a_cartridge_that_was_unloaded_and_never_taken_out_is_threaded_again(
    machine: FakeIo, library: TapeLibrary
) -> None:
    """The robot jams, or the daemon dies, between the drive's unload and the robot's move."""
    library.label(ONE, DRIVE)
    put(library.mount(ONE, DRIVE))
    machine.before = lambda argv: (
        machine.complaints.append(sense_text("Hardware Error", "15", "01")) if "unload" in argv else None
    )
    with pytest.raises(OperatorNeeded, match="jammed"):
        library.unmount(DRIVE)
    machine.before, machine.complaints = None, []
    begun = machine.seconds
    assert read(library.mount(ONE, DRIVE)) == DATA
    assert machine.drives[0].log.count("LOAD") == 1
    assert machine.seconds - begun < 120, "and not the 20 minutes that a load may take"


def test_a_cartridge_comes_out_although_its_last_index_cannot_be_written(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.label(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    put(store)
    machine.drives[0].fault = lambda name, _: (
        OSError(errno.EIO, "dead") if name in ("write", "weof") else None
    )
    with pytest.raises(Retryable):
        library.unmount(DRIVE)
    assert machine.loaded[0] == "HSM001L8"
    library.unmount(DRIVE)
    assert machine.slots[1] == "HSM001L8"
    machine.drives[0].fault = None
    assert list(library.mount(ONE, DRIVE).list()) == []


def test_a_volume_whose_drive_failed_is_mounted_anew(machine: FakeIo, library: TapeLibrary) -> None:
    library.label(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    put(store, "good")
    store.flush()
    machine.drives[0].fault = lambda name, _: OSError(errno.EIO, "dirt") if name == "write" else None
    with pytest.raises(Retryable):
        put(store, "bad")
    assert not store.health().ok
    machine.drives[0].fault = None
    again = library.mount(ONE, DRIVE)
    assert again.health().ok
    put(again, "bad")
    again.flush()
    assert [stat.key for stat in again.list()] == ["good", "bad"]


def test_a_drive_that_asks_for_it_is_cleaned_before_the_next_cartridge(
    machine: FakeIo, library: TapeLibrary
) -> None:
    machine.slots[4], machine.tapes["CLN001CU"] = "CLN001CU", Tape()
    library.label(ONE, DRIVE)
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts_page(logpages.CLEAN_NOW)
    library.unmount(DRIVE)
    machine.log_pages[0, logpages.TAPE_ALERT] = alerts_page()
    held = 3

    def cleaning(argv: Sequence[str]) -> None:
        nonlocal held
        if "unload" in argv and machine.loaded.get(0) == "CLN001CU":
            held -= 1
            if held == 0:
                machine.drives[0].unload()

    machine.before = cleaning
    before = len(moves(machine))
    library.mount(ONE, DRIVE)
    assert [line.removeprefix(f"mtx -f {CHANGER} ") for line in moves(machine)[before:]] == [
        "load 4 0", "unload 4 0", "unload 4 0", "unload 4 0", "load 1 0",
    ]  # fmt: skip
    library.unmount(DRIVE)
    before = len(moves(machine))
    library.mount(ONE, DRIVE)
    assert len(moves(machine)) == before + 1, "it is clean now"


def test_cleaning_without_a_cleaning_cartridge_says_what_to_put_in(library: TapeLibrary) -> None:
    with pytest.raises(OperatorNeeded, match="CLN"):
        library.clean(DRIVE)


def test_capacity_is_what_the_drive_says_else_what_the_barcode_says(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.label(ONE, DRIVE)
    assert library.mount(ONE, DRIVE).capacity().total == 12_000_000_000_000
    library.unmount(DRIVE)
    machine.log_pages[0, logpages.CAPACITY] = bytes.fromhex("3100001000014004000000640003400400000100")
    found = library.mount(ONE, DRIVE).capacity()
    assert (found.total, found.free) == (256 << 20, (100 << 20) - (256 << 20) // 50)


def test_two_threads_that_want_each_others_cartridge_do_not_wait_for_ever(
    machine: FakeIo, library: TapeLibrary
) -> None:
    library.label(ONE, DRIVE)
    library.label(TWO, OTHER)
    library.mount(ONE, DRIVE)
    library.mount(TWO, OTHER)
    ended: list[str] = []
    start = threading.Barrier(2)

    def want(label: VolumeLabel, drive: int) -> None:
        start.wait()
        try:
            library.mount(label, drive)
        except DriverError as error:
            ended.append(type(error).__name__)
        else:
            ended.append("mounted")

    threads = [threading.Thread(target=want, args=pair) for pair in ((TWO, DRIVE), (ONE, OTHER))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(ended) == 2
    assert set(machine.loaded.values()) | set(filter(None, machine.slots.values())) == {
        "HSM001L8", "HSM002L8", "HSM003L8",
    }  # fmt: skip


def test_the_block_size_is_a_pools_and_the_volume_keeps_it(machine: FakeIo) -> None:
    options: dict[str, Any] = {"changer": CHANGER, "pool_blocks": {"tape-a": "64 KiB"}}
    open_mtx(options, machine).label(ONE, DRIVE)
    store: Any = open_mtx({"changer": CHANGER}, machine).mount(ONE, DRIVE)
    assert store.label.block_bytes == 64 << 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_bytes": 100}, "100 bytes"),
        ({"block_bytes": "16 MiB"}, "16777216 bytes"),
        ({"pool_blocks": {"a": 1000}}, "1000 bytes"),
        ({"pool_blocks": 5}, "pool_blocks"),
        ({"format": "tar"}, "expected plain"),
        ({"drives": "0"}, "option drives"),
        ({"drives": {"x": "S"}}, "option drives"),
        ({"compression": "on"}, "true or false"),
        ({"load_seconds": -1}, "load_seconds"),
    ],
)
def test_options_that_make_no_sense_are_refused(machine: FakeIo, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        open_mtx({"changer": CHANGER, **options}, machine)


def test_the_families_are_registered() -> None:
    for family in (MTX, MANUAL):
        assert registry.family(family.name) is family
    with pytest.raises(Permanent, match="option 'changer' is missing"):
        registry.open_library("mtx", {})


@pytest.fixture
def desk() -> FakeIo:
    """Two drives and no robot; hands put tapes into them."""
    machine = fake_library((), drives=2)
    machine.tapes = {"HSM001L8": Tape(), "HSM002L8": Tape()}
    return machine


@pytest.fixture
def shelf(desk: FakeIo) -> ManualLibrary:
    return open_manual({"drives": ["90WT000001", "90WT000002"]}, desk)


def test_a_person_is_asked_for_what_is_not_in_a_drive(desk: FakeIo, shelf: ManualLibrary) -> None:
    assert [e.barcode for e in shelf.inventory().elements] == [None, None]
    with pytest.raises(OperatorNeeded, match=r"put HSM001L8 into drive /dev/nst0"):
        shelf.mount(ONE, DRIVE)


def test_a_blank_cartridge_is_named_by_the_person_and_an_own_one_by_its_label(
    desk: FakeIo, shelf: ManualLibrary
) -> None:
    assert isinstance(shelf, SimulatedHands)
    with pytest.raises(OperatorNeeded, match="the drives are empty"):
        shelf.hand_insert("HSM001L8")
    desk.drives[1].load(desk.tapes["HSM001L8"])
    assert shelf.inventory().find("HSM001L8") is None
    shelf.hand_insert("HSM001L8")
    found = shelf.inventory().find("HSM001L8")
    assert found is not None
    assert found.address == OTHER
    assert shelf.read_label("HSM001L8", OTHER) is None
    shelf.label(ONE, OTHER)
    put(shelf.mount(ONE, OTHER))
    shelf.unmount(OTHER)
    assert desk.drives[1].tape is None
    assert shelf.inventory().find("HSM001L8") is None
    desk.drives[0].load(desk.tapes["HSM001L8"])
    assert shelf.inventory().find("HSM001L8") is not None
    assert read(shelf.mount(ONE, DRIVE)) == DATA


def test_another_cartridge_than_the_one_asked_for_is_an_operators_mistake_and_not_the_volumes(
    desk: FakeIo, shelf: ManualLibrary
) -> None:
    desk.drives[0].load(desk.tapes["HSM002L8"])
    shelf.hand_insert("HSM002L8")
    shelf.label(TWO, DRIVE)
    with pytest.raises(OperatorNeeded, match=r"put HSM001L8 into.*volume uuid-2 \(HSM002L8\)"):
        shelf.mount(ONE, DRIVE)
    desk.tapes["HSM002L8"].records = list(FOREIGN["a tar archive"])
    desk.drives[0].load(desk.tapes["HSM002L8"])
    with pytest.raises(OperatorNeeded, match="tar archive"):
        shelf.mount(ONE, DRIVE)
    with pytest.raises(OperatorNeeded, match="tar archive"):
        shelf.hand_insert("HSM001L8")


def test_a_blank_cartridge_that_nobody_named_is_not_written(desk: FakeIo, shelf: ManualLibrary) -> None:
    desk.drives[0].load(desk.tapes["HSM001L8"])
    with pytest.raises(OperatorNeeded, match="HSM001L8"):
        shelf.label(ONE, DRIVE)
    assert desk.tapes["HSM001L8"].records == []


def test_a_name_that_was_told_is_forgotten_when_the_drive_is_emptied(
    desk: FakeIo, shelf: ManualLibrary
) -> None:
    desk.drives[0].load(desk.tapes["HSM001L8"])
    shelf.hand_insert("HSM001L8")
    desk.drives[0].unload()
    shelf.inventory()
    desk.drives[0].load(desk.tapes["HSM002L8"])
    assert shelf.inventory().find("HSM001L8") is None


def test_asking_for_another_volume_gives_the_mounted_one_back_flushed(
    desk: FakeIo, shelf: ManualLibrary
) -> None:
    desk.drives[0].load(desk.tapes["HSM001L8"])
    shelf.hand_insert("HSM001L8")
    shelf.label(ONE, DRIVE)
    put(shelf.mount(ONE, DRIVE))
    with pytest.raises(OperatorNeeded, match="put HSM002L8"):
        shelf.mount(TWO, DRIVE)
    assert desk.drives[0].tape is None
    desk.drives[1].load(desk.tapes["HSM001L8"])
    assert read(shelf.mount(ONE, OTHER)) == DATA
    assert shelf.eject("HSM001L8") == OTHER
    with pytest.raises(NotFound):
        shelf.eject("HSM001L8")


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    trace = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {trace}; wait"
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0\.3 s"):
        LinuxIo().run(["sh", "-c", script], 0.3)
    assert time.monotonic() - begun < 10
    child = int(trace.read_text())
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
            break
        time.sleep(0.01)
    else:
        pytest.fail("the child lives on")


def test_a_command_gives_its_output_and_status() -> None:
    done = LinuxIo().run([sys.executable, "-c", "import sys; print('out'); sys.exit('err')"], 20)
    assert (done.status, done.out, done.err) == (1, b"out\n", "err\n")
    with pytest.raises(FileNotFoundError):
        LinuxIo().run(["no-such-program-here"], 5)
