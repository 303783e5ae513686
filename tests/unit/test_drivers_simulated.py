"""What only the simulated library does; what every library does is in tests/contract."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ElementKind, Store, VolumeLabel
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.simulated import FAMILY
from drivers.simulated.faults import Fault, dead_drive, door_open, write_error
from drivers.simulated.library import SimulatedLibrary, open_library
from drivers.simulated.medium import BLOCK_BYTES, flip_byte, make_foreign, swap, tear
from drivers.simulated.model import LTO8

ONE = VolumeLabel("HSM001L8", "uuid-1", "tape-a")
TWO = VolumeLabel("HSM002L8", "uuid-2", "tape-a")
DRIVE, OTHER_DRIVE = 256, 257
DATA = bytes(range(256)) * 4000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


def open_at(folder: Path, **options: Any) -> SimulatedLibrary:
    values: dict[str, Any] = {"cartridges": ("HSM001L8", "HSM002L8"), "capacity_bytes": 20_000_000}
    return SimulatedLibrary(folder, **(values | options))


@pytest.fixture
def library(folder: Path) -> SimulatedLibrary:
    return open_at(folder)


def ready(library: SimulatedLibrary, label: VolumeLabel = ONE, drive: int = DRIVE) -> Store:
    library.label(label, drive)
    return library.mount(label, drive)


def put(store: Store, key: str, data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), None)


def read(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


def keys(store: Store) -> list[str]:
    return [stat.key for stat in store.list()]


# Configuration


def test_the_family_makes_numbered_cartridges_and_puts_the_last_ones_on_the_shelf(folder: Path) -> None:
    assert FAMILY.open_library is not None
    library = FAMILY.open_library({"folder": str(folder), "cartridges": 4, "on_shelf": 1, "time_factor": 0})
    held = sorted(e.barcode for e in library.inventory().elements if e.barcode)
    assert held == ["HSM001L8", "HSM002L8", "HSM003L8"]
    assert isinstance(library, SimulatedLibrary)
    assert library.shelf() == ("HSM004L8",)


def test_every_option_is_taken(folder: Path) -> None:
    options = {
        "folder": str(folder),
        "slots": 7,
        "mail_slots": 3,
        "drives": 4,
        "cartridges": ["A1", "B2"],
        "on_shelf": ["C3"],
        "capacity_bytes": "1 MiB",
        "time_factor": 0,
        "hands": False,
    }
    assert set(options) == FAMILY.options
    library = open_library(options)
    kinds = [element.kind for element in library.inventory().elements]
    assert [kinds.count(kind) for kind in (ElementKind.SLOT, ElementKind.MAIL, ElementKind.DRIVE)] == [
        7,
        3,
        4,
    ]
    assert library.shelf() == ("C3",)
    assert not isinstance(library, SimulatedLibrary), "somebody else carries its cartridges"
    with pytest.raises(Permanent, match="option hands: 0; expected true or false"):
        open_library({**options, "hands": 0})
    label = VolumeLabel("A1", "u", "p")
    assert ready(library, label).capacity().total == 1 << 20


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("slots", 0),
        ("slots", "many"),
        ("mail_slots", 0),
        ("drives", 0),
        ("drives", 257),
        ("cartridges", 25),
        ("cartridges", ["lower"]),
        ("cartridges", ["../X"]),
        ("cartridges", [""]),
        ("cartridges", ["A" * 33]),
        ("cartridges", ["A", "A"]),
        ("on_shelf", 9),
        ("capacity_bytes", 0),
        ("capacity_bytes", "big"),
        ("time_factor", -1),
    ],
)
def test_a_wrong_option_is_refused(folder: Path, option: str, value: object) -> None:
    with pytest.raises(Permanent):
        open_library({"folder": str(folder), "time_factor": 0} | {option: value})


def test_opening_again_changes_nothing_and_may_add_cartridges_and_slots(folder: Path) -> None:
    open_at(folder, slots=2, mail_slots=1).eject("HSM001L8")
    again = open_library({"folder": str(folder)})
    assert again.inventory().find("HSM001L8") == open_at(folder).inventory().find("HSM001L8")
    assert len(again.inventory().elements) == 2 + 1 + 2
    more = open_at(folder, slots=3, cartridges=("HSM001L8", "HSM002L8", "HSM003L8"))
    assert more.inventory().find("HSM003L8") is not None
    element = more.inventory().find("HSM001L8")
    assert element is not None
    assert element.kind is ElementKind.MAIL


def test_the_same_options_open_the_same_library_again(folder: Path) -> None:
    options = {"folder": str(folder), "on_shelf": 2}
    library = open_library(options)
    library.hand_insert("HSM008L8")
    assert open_library(options).inventory() == library.inventory()
    assert open_library(options).shelf() == ("HSM007L8",)


def test_an_element_that_is_occupied_cannot_be_taken_out_of_the_configuration(folder: Path) -> None:
    open_at(folder, slots=4, cartridges=("A", "B", "C"))
    with pytest.raises(Permanent, match="C is in it"):
        open_at(folder, slots=2, cartridges=())
    assert len(open_at(folder, cartridges=()).inventory().elements) == 4 + 1 + 2


def test_element_addresses_do_not_change_with_the_size(folder: Path) -> None:
    elements = open_at(folder, slots=3, mail_slots=2).inventory().elements
    found = {(element.kind.value, element.address) for element in elements}
    slots = {("slot", 1024), ("slot", 1025), ("slot", 1026)}
    assert found == {("drive", 256), ("drive", 257), ("mail", 768), ("mail", 769)} | slots


def test_a_broken_state_file_is_said_and_not_taken_for_an_empty_library(folder: Path) -> None:
    open_at(folder)
    (folder / "library.json").write_text('{"shape": {')
    with pytest.raises(Corrupt, match=r"library\.json"):
        open_at(folder)


# Slots and hands


def test_a_volume_goes_back_to_the_slot_it_came_from(library: SimulatedLibrary) -> None:
    home = library.inventory().find("HSM002L8")
    library.read_label("HSM001L8", OTHER_DRIVE)
    library.read_label("HSM002L8", DRIVE)
    library.unmount(OTHER_DRIVE)
    library.unmount(DRIVE)
    assert library.inventory().find("HSM002L8") == home


def test_a_full_library_needs_an_operator_and_keeps_the_volume_mounted(folder: Path) -> None:
    library = open_at(folder, slots=2, mail_slots=1, on_shelf=("HSM003L8", "HSM004L8"))
    store = ready(library)
    library.hand_insert("HSM003L8")
    library.hand_insert("HSM004L8")  # the mail slot is full: it takes the free slot
    with pytest.raises(OperatorNeeded, match="free slot"):
        library.unmount(DRIVE)
    put(store, "k")
    library.hand_remove("HSM004L8")
    library.unmount(DRIVE)
    with pytest.raises(OperatorNeeded, match="no room"):
        library.hand_insert("HSM004L8")


def test_a_new_volume_does_not_take_the_slot_of_one_that_is_in_a_drive(folder: Path) -> None:
    library = open_at(folder, slots=3, mail_slots=1, on_shelf=("HSM003L8", "HSM004L8"))
    home = library.inventory().find("HSM001L8")
    library.read_label("HSM001L8", DRIVE)
    library.hand_insert("HSM003L8")
    library.hand_insert("HSM004L8")
    library.unmount(DRIVE)
    assert library.inventory().find("HSM001L8") == home


def test_hands_of_another_process_are_seen_at_once(library: SimulatedLibrary, folder: Path) -> None:
    elsewhere = open_library({"folder": str(folder)})
    elsewhere.hand_remove("HSM001L8")
    assert library.inventory().find("HSM001L8") is None
    with pytest.raises(OperatorNeeded):
        library.read_label("HSM001L8", DRIVE)
    elsewhere.hand_insert("HSM001L8")
    assert library.read_label("HSM001L8", DRIVE) is None


def test_a_volume_that_hands_take_away_under_the_robot_is_retryable(folder: Path) -> None:
    library = open_at(folder, time_factor=1.0, sleep=lambda _: library.hand_remove("HSM001L8"))
    with pytest.raises(Retryable, match="taken away"):
        library.read_label("HSM001L8", DRIVE)
    assert library.inventory().drives()[0].barcode is None


# The medium


def test_positions_are_block_numbers(library: SimulatedLibrary) -> None:
    store = ready(library)
    for key, size in (("a", 0), ("b", 1), ("c", BLOCK_BYTES), ("d", BLOCK_BYTES + 1), ("e", 5)):
        put(store, key, bytes(size))
    assert [stat.position for stat in store.list()] == [0, 1, 2, 3, 5]


def test_a_cartridge_can_be_filled_up_to_the_room_for_its_index(library: SimulatedLibrary) -> None:
    store = ready(library)
    written = 0
    with pytest.raises(NoSpace, match="HSM001L8"):
        for number in range(1000):
            put(store, f"{number}", DATA)
            written += len(DATA)
    assert 0.85 * 20_000_000 < written <= 0.95 * 20_000_000
    assert store.capacity().free == 19_000_000 - written
    put(store, "rest", bytes(store.capacity().free))
    assert store.capacity().free == 0
    put(store, "empty", b"")
    store.flush()
    library.unmount(DRIVE)
    store = library.mount(ONE, DRIVE)
    assert read(store, "17") == DATA
    assert store.capacity().free == 0


def test_what_a_failed_put_wrote_stays_on_the_tape(library: SimulatedLibrary) -> None:
    store = ready(library)
    before = store.capacity().free
    with pytest.raises(Corrupt):
        store.put("k", io.BytesIO(DATA), len(DATA), bytes(32))
    assert store.capacity().free == before - len(DATA)
    put(store, "l")
    assert store.stat("l").position == 2  # behind the dead blocks
    library.unmount(DRIVE)
    store = library.mount(ONE, DRIVE)
    assert keys(store) == ["l"]
    assert read(store, "l") == DATA
    assert store.capacity().free == before - 2 * len(DATA)


def test_what_was_put_after_the_last_flush_is_gone_after_a_crash(
    library: SimulatedLibrary, folder: Path
) -> None:
    store = ready(library)
    put(store, "early")
    free = store.capacity().free
    store.flush()
    put(store, "late")
    store.delete("early")
    store = open_at(folder).mount(ONE, DRIVE)
    assert keys(store) == ["early"]
    assert read(store, "early") == DATA
    assert store.capacity().free == free
    assert (folder / "cartridges/HSM001L8/image").stat().st_size == len(DATA)


def test_kill_9_loses_nothing_that_was_flushed(folder: Path) -> None:
    script = textwrap.dedent(
        """
        import io, sys, itertools
        from drivers.base import VolumeLabel
        from drivers.simulated.library import SimulatedLibrary
        library = SimulatedLibrary(sys.argv[1], cartridges=("HSM001L8",), capacity_bytes=10**9)
        label = VolumeLabel("HSM001L8", "uuid-1", "tape-a")
        library.label(label, 256)
        store = library.mount(label, 256)
        for number in itertools.count():
            data = bytes([number % 256]) * 10_000
            store.put(f"k{number}", io.BytesIO(data), len(data), None)
            if number % 3 == 0:
                store.flush()
                print(number, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    last = int(lines[-1])
    library = SimulatedLibrary(folder)
    assert library.inventory().drives()[0].barcode == "HSM001L8"
    store = library.mount(ONE, DRIVE)
    assert len(keys(store)) >= last + 1
    for number in range(len(keys(store))):
        assert read(store, f"k{number}") == bytes([number % 256]) * 10_000
    put(store, "after")
    library.unmount(DRIVE)
    assert read(library.mount(ONE, DRIVE), "after") == DATA


def test_a_label_that_is_half_written_is_a_blank_cartridge(
    library: SimulatedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers.simulated import medium

    real = medium.replace_json

    def power_cut(path: Path, value: object) -> None:
        if path.name == "label.json":
            raise OSError(5, "Input/output error")
        real(path, value)

    monkeypatch.setattr(medium, "replace_json", power_cut)
    with pytest.raises(Retryable):
        library.label(ONE, DRIVE)
    monkeypatch.undo()
    assert library.read_label("HSM001L8", DRIVE) is None
    put(ready(library), "k")


# Damaged media


def test_a_flipped_byte_is_read_without_complaint(library: SimulatedLibrary) -> None:
    store = ready(library)
    put(store, "before")
    put(store, "k")
    store.flush()
    flip_byte(library.medium_folder("HSM001L8"), "k", 70_000)
    store.drop_caches()
    found = read(store, "k")
    assert [at for at in range(len(DATA)) if found[at] != DATA[at]] == [70_000]
    assert read(store, "before") == DATA


def test_a_torn_cartridge_still_has_its_label_and_is_corrupt(library: SimulatedLibrary) -> None:
    put(ready(library), "k")
    library.unmount(DRIVE)
    tear(library.medium_folder("HSM001L8"))
    assert library.read_label("HSM001L8", DRIVE) == ONE
    with pytest.raises(Corrupt, match="HSM001L8 is unreadable: torn"):
        library.mount(ONE, DRIVE)
    with pytest.raises(Permanent, match="not blank"):
        library.label(ONE, DRIVE)
    library.unmount(DRIVE)


def test_a_medium_that_has_lost_its_end_is_corrupt_when_read(library: SimulatedLibrary) -> None:
    store = ready(library)
    put(store, "a")
    put(store, "b")
    store.flush()
    image = library.medium_folder("HSM001L8") / "image"
    with image.open("r+b") as file:
        file.truncate(len(DATA) + 10)
    assert read(store, "a") == DATA
    with pytest.raises(Corrupt, match="too early"):
        read(store, "b")


def test_a_foreign_cartridge_is_neither_labelled_nor_mounted_nor_changed(library: SimulatedLibrary) -> None:
    folder = library.medium_folder("HSM001L8")
    make_foreign(folder)
    before = (folder / "image").read_bytes()
    for call in (
        lambda: library.read_label("HSM001L8", DRIVE),
        lambda: library.label(ONE, DRIVE),
        lambda: library.mount(ONE, DRIVE),
    ):
        with pytest.raises(Permanent, match="foreign"):
            call()
    assert (folder / "image").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["image"]


def test_the_wrong_cartridge_in_a_slot_is_refused_before_any_io(library: SimulatedLibrary) -> None:
    for label, drive in ((ONE, DRIVE), (TWO, OTHER_DRIVE)):
        put(ready(library, label, drive), label.uuid)
        library.unmount(drive)
    swap(library.medium_folder("HSM001L8"), library.medium_folder("HSM002L8"))
    stored = {path: path.read_bytes() for path in library.medium_folder("HSM001L8").iterdir()}
    with pytest.raises(Permanent, match="is HSM002L8"):
        library.mount(ONE, DRIVE)
    assert library.read_label("HSM001L8", DRIVE) == TWO
    assert {path: path.read_bytes() for path in library.medium_folder("HSM001L8").iterdir()} == stored


# Scripted faults


@pytest.mark.parametrize("operation", ["move", "load", "label"])
def test_labelling_fails_at_each_step_and_works_when_tried_again(
    library: SimulatedLibrary, operation: str
) -> None:
    library.faults.add(Fault(operation, "retryable"))
    with pytest.raises(Retryable, match=operation):
        library.label(ONE, DRIVE)
    put(ready(library), "k")


@pytest.mark.parametrize("error", ["retryable", "permanent", "operator needed", "corrupt", "no space"])
@pytest.mark.parametrize("operation", ["put", "write"])
def test_a_put_that_fails_leaves_the_key_absent(
    library: SimulatedLibrary, operation: str, error: str
) -> None:
    store = ready(library)
    put(store, "before")
    library.faults.add(Fault(operation, error, key="k"))
    store.flush()
    with pytest.raises(DriverError, match="scripted fault"):
        put(store, "k", DATA * 3)
    with pytest.raises(NotFound):
        store.stat("k")
    store = library.mount(ONE, DRIVE)
    put(store, "k", DATA)
    store.flush()
    assert {key: read(store, key) == DATA for key in keys(store)} == {"before": True, "k": True}


def test_the_second_piece_of_a_get_fails(library: SimulatedLibrary) -> None:
    store = ready(library)
    put(store, "k", DATA * 3)
    library.faults.add(Fault("read", "corrupt", nth=2, barcode="HSM001L8"))
    pieces = store.get("k")
    next(pieces)
    with pytest.raises(Corrupt):
        next(pieces)
    library.unmount(DRIVE)


def test_after_a_write_error_a_volume_takes_nothing_more_until_it_is_mounted_again(
    library: SimulatedLibrary,
) -> None:
    """As a tape does: what was not in the index by then does not count."""
    store = ready(library)
    put(store, "proved")
    store.flush()
    put(store, "unproved")
    library.faults.add(write_error(DRIVE))
    for call in (lambda: put(store, "hit"), lambda: put(store, "next"), store.flush):
        with pytest.raises(Retryable):
            call()
    assert not store.health().ok
    assert read(store, "proved") == DATA
    store = library.mount(ONE, DRIVE)
    assert keys(store) == ["proved"]
    put(store, "next")
    library.faults.add(write_error(DRIVE))
    with pytest.raises(Retryable):
        library.unmount(DRIVE)
    library.unmount(DRIVE)
    assert keys(library.mount(ONE, DRIVE)) == ["proved"]


@pytest.mark.parametrize("operation", ["unload", "move"])
def test_unmounting_fails_at_each_step_and_loses_nothing_when_tried_again(
    library: SimulatedLibrary, folder: Path, operation: str
) -> None:
    put(ready(library), "k")
    library.faults.add(Fault(operation, "retryable"))
    with pytest.raises(Retryable):
        library.unmount(DRIVE)
    library.unmount(DRIVE)
    element = library.inventory().find("HSM001L8")
    assert element is not None
    assert element.kind is ElementKind.SLOT
    assert read(open_at(folder).mount(ONE, DRIVE), "k") == DATA


def test_nothing_moves_while_the_door_is_open(library: SimulatedLibrary) -> None:
    store = ready(library)
    library.faults.add(door_open())
    for _ in range(3):
        with pytest.raises(OperatorNeeded, match="door is open"):
            library.read_label("HSM002L8", OTHER_DRIVE)
        with pytest.raises(OperatorNeeded, match="door is open"):
            library.eject("HSM002L8")
    put(store, "k")
    store.flush()
    library.faults.clear()
    library.eject("HSM002L8")


def test_a_dead_drive_does_nothing_and_the_other_one_works(library: SimulatedLibrary) -> None:
    library.faults.add(dead_drive(DRIVE))
    for _ in range(2):
        with pytest.raises(Retryable, match="drive 256: Input/output error"):
            library.read_label("HSM001L8", DRIVE)
    put(ready(library, TWO, OTHER_DRIVE), "k")


def test_a_drive_that_dies_with_a_volume_mounted_keeps_it(library: SimulatedLibrary, folder: Path) -> None:
    store = ready(library)
    put(store, "k")
    store.flush()
    library.faults.add(dead_drive(DRIVE))
    for call in (lambda: put(store, "l"), lambda: read(store, "k"), lambda: library.unmount(DRIVE)):
        with pytest.raises(Retryable):
            call()
    library.faults.clear()
    assert read(open_at(folder).mount(ONE, DRIVE), "k") == DATA


# Time


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def timed(folder: Path, factor: float) -> tuple[SimulatedLibrary, Sleeps]:
    sleeps = Sleeps()
    return open_at(folder, time_factor=factor, sleep=sleeps), sleeps


def test_without_a_factor_nothing_sleeps_though_time_is_counted(folder: Path) -> None:
    library, sleeps = timed(folder, 0)
    put(ready(library), "k")
    library.unmount(DRIVE)
    assert sleeps == []
    assert library.time.seconds > LTO8.load_seconds + LTO8.unload_seconds + 2 * LTO8.move_seconds


def test_a_factor_scales_what_the_device_takes(folder: Path) -> None:
    library, sleeps = timed(folder, 0.01)
    put(ready(library), "k", DATA * 10)
    library.unmount(DRIVE)
    assert sum(sleeps) == pytest.approx(library.time.seconds * 0.01, abs=0.011)
    assert min(sleeps) >= 0.01


def test_loading_takes_a_move_and_the_threading(folder: Path) -> None:
    library, _ = timed(folder, 0)
    library.read_label("HSM001L8", DRIVE)
    assert library.time.seconds == pytest.approx(LTO8.move_seconds + LTO8.load_seconds)
    library.read_label("HSM001L8", DRIVE)
    assert library.time.seconds == pytest.approx(LTO8.move_seconds + LTO8.load_seconds)


def test_reading_in_the_order_of_the_tape_is_quicker_than_to_and_fro(folder: Path) -> None:
    library, _ = timed(folder, 0)
    store = ready(library)
    for number in range(16):
        put(store, f"{number:02d}")

    def seconds(order: list[str]) -> float:
        library.unmount(DRIVE)
        again = library.mount(ONE, DRIVE)
        before = library.time.seconds
        for key in order:
            read(again, key)
        return library.time.seconds - before

    names = [f"{number:02d}" for number in range(16)]
    assert seconds(names) == pytest.approx(LTO8.stream_seconds(16 * len(DATA)))
    to_and_fro = [name for pair in zip(names, reversed(names), strict=True) for name in pair]
    assert seconds(to_and_fro) > 16 * 10


def test_appending_after_reading_locates_the_end_of_data_again(folder: Path) -> None:
    library, _ = timed(folder, 0)
    store = ready(library)
    put(store, "a")
    put(store, "b")
    read(store, "a")
    before = library.time.seconds
    put(store, "c", b"x")
    assert library.time.seconds - before > 4
    before = library.time.seconds
    put(store, "d", b"x")
    assert library.time.seconds - before < 0.001


def test_the_expected_latency_is_scaled_too(folder: Path) -> None:
    library, _ = timed(folder, 0.5)
    assert 20 < ready(library).traits.latency_seconds < 70
    free, _ = timed(folder, 0)
    assert free.mount(ONE, DRIVE).traits.latency_seconds == 0


def test_the_robot_makes_one_move_at_a_time_while_drives_load(folder: Path) -> None:
    lock = threading.Lock()
    moving = most_moving = begun = 0
    both_begun = threading.Event()
    loaded_meanwhile: list[bool] = []

    def sleep(seconds: float) -> None:
        nonlocal moving, most_moving, begun
        if seconds == LTO8.move_seconds:
            with lock:
                moving += 1
                most_moving = max(most_moving, moving)
                begun += 1
            if begun == 2:
                both_begun.set()
            threading.Event().wait(0.05)  # the other thread's chance to move as well
            with lock:
                moving -= 1
        else:
            # A load lasts until both moves have begun: it would last for ever if it kept the robot.
            loaded_meanwhile.append(both_begun.wait(20))

    library = open_at(folder, time_factor=1.0, sleep=sleep)
    threads = [
        threading.Thread(target=library.read_label, args=(barcode, drive))
        for barcode, drive in (("HSM001L8", DRIVE), ("HSM002L8", OTHER_DRIVE))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_moving == 1
    assert loaded_meanwhile == [True, True]
    assert {e.barcode for e in library.inventory().drives()} == {"HSM001L8", "HSM002L8"}


def test_flushing_and_unmounting_at_the_same_time_do_not_wait_for_each_other(folder: Path) -> None:
    library = open_at(folder)
    library.label(ONE, DRIVE)
    stop = threading.Event()
    errors: list[BaseException] = []

    def flusher() -> None:
        while not stop.is_set():
            try:
                store = library.mount(ONE, DRIVE)
                store.put("k", io.BytesIO(b""), 0, None)
                store.delete("k")
                store.flush()
            except Retryable:
                continue
            except BaseException as error:  # noqa: BLE001 (told to the main thread)
                errors.append(error)
                return

    thread = threading.Thread(target=flusher, daemon=True)
    thread.start()
    for _ in range(60):
        try:
            library.unmount(DRIVE)
        except Retryable:
            continue
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert errors == []
