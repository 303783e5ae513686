"""What happens to a tape library in a year, on real devices: exports, hands, bad spots, strangers' tapes."""

from __future__ import annotations

import hashlib
import io
import random
import re
import tarfile
from collections.abc import Iterator

import pytest
from halls import HandledLibrary, open_library, stock
from instruments import DRIVES, OPERATION_READ, ask, fail, mt, mtx, opened, run

from drivers.base import Store, VolumeLabel
from drivers.errors import DriverError, OperatorNeeded, Permanent, WrongVolume
from drivers.tape.library import TapeLibrary
from drivers.tape.store import PlainStore

STUDIES, CARTRIDGES = 200, 3
STUDY_BYTES = (20_000, 400_000)
SEED = 20_260
BLOCK = 256 << 10

Packages = dict[str, bytes]


def label_of(barcode: str) -> VolumeLabel:
    return VolumeLabel(barcode, f"uuid-of-{barcode}", "tape-a")


def package(number: int) -> bytes:
    """A tar of one study; the same bytes for the same number."""
    chance = random.Random(SEED + number)
    data, out = chance.randbytes(chance.randrange(*STUDY_BYTES)), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(f"study-{number}/image.dcm")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def put(store: Store, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


def drives(library: TapeLibrary | HandledLibrary) -> list[int]:
    return [element.address for element in library.inventory().drives()]


def written(library: TapeLibrary, barcode: str, packages: Packages) -> None:
    """Label the blank cartridge and fill it in one session."""
    drive = drives(library)[0]
    library.label(label_of(barcode), drive)
    store = library.mount(label_of(barcode), drive)
    for key, data in packages.items():
        put(store, key, data)
    store.flush()
    library.unmount(drive)


@pytest.fixture(scope="module")
def studies() -> dict[str, Packages]:
    """Two hundred studies on three cartridges: barcode -> key -> package."""
    barcodes = [f"HSM00{at}L6" for at in range(1, CARTRIDGES + 1)]
    shares: dict[str, Packages] = {barcode: {} for barcode in barcodes}
    for number in range(STUDIES):
        shares[barcodes[number % CARTRIDGES]][f"1.2.3/{number}.tar"] = package(number)
    return shares


@pytest.fixture
def filled(library: None, studies: dict[str, Packages]) -> Iterator[TapeLibrary]:
    """The library with all studies written, and the process that wrote them gone."""
    stock(*studies)
    writing = open_library()
    for barcode, packages in studies.items():
        written(writing, barcode, packages)
    yield open_library()


def assert_identical(library: TapeLibrary, barcode: str, packages: Packages, drive: int) -> None:
    store = library.mount(label_of(barcode), drive)
    assert [stat.key for stat in store.list()] == list(packages)
    for key, data in packages.items():
        assert read(store, key) == data, key
    library.unmount(drive)


def test_two_hundred_studies_survive_an_export_a_torn_out_cartridge_and_a_bad_spot(
    filled: TapeLibrary, studies: dict[str, Packages]
) -> None:
    library, (one, two, three) = filled, list(studies)
    first, second = drives(library)

    # One is exported, and asked for while it is away.
    library.eject(one)
    at_mail = next(int(at) for at, held in ask("status")["at"].items() if held == one)
    assert ask("take", ie=at_mail - 0x10) == {"barcode": one}
    with pytest.raises(OperatorNeeded, match=one):
        library.mount(label_of(one), first)

    # One is torn out of its slot, unseen by the changer's sensors.
    ask("lift", barcode=two, quiet=True)
    with pytest.raises(OperatorNeeded, match=two):
        library.mount(label_of(two), first)

    # One has a spot that the first drive cannot read: told with its name, and read in the other drive.
    store = library.mount(label_of(three), first)
    victim = list(studies[three])[len(studies[three]) // 2]
    position = store.stat(victim).position
    fail(OPERATION_READ, (3, 0x11, 0), at=[0, position], times=999, alerts=[1, 4, 5])
    with pytest.raises(DriverError, match=three):
        read(store, victim)
    for key, data in studies[three].items():
        if key != victim:
            assert read(store, key) == data, key
    library.unmount(first)
    assert_identical(library, three, studies[three], second)

    # Both come back, one by the mail slot and one into another slot than before.
    ask("insert", ie=1, barcode=one)
    ask("place", barcode=two, element=0x1007, quiet=True)
    assert_identical(library, one, studies[one], second)
    assert_identical(library, two, studies[two], second)


def test_a_tape_is_read_by_hand_with_mt_tar_and_sha256sum_alone(
    filled: TapeLibrary, studies: dict[str, Packages], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("by-hand")
    barcode = next(iter(studies))
    slot = next(at - 0x0FFF for at, held in held_by_address().items() if held == barcode)
    assert mtx("load", slot, 0).returncode == 0
    # The label says how; the last tape file lists the others.
    label = run("dd", "if=/dev/nst0", "bs=1M").stdout
    assert barcode in label
    mt(0, "eod")
    mt(0, "bsf", 2)
    mt(0, "fsf", 1)
    index = run("dd", "if=/dev/nst0", f"bs={BLOCK}").stdout
    listed = re.findall(r'"file": (\d+), .*?"sha256": "([0-9a-f]{64})", "key": "([^"]+)"', index)
    assert [key for _, _, key in listed] == list(studies[barcode])
    mt(0, "rewind")
    for number, digest, key in listed[:3] + listed[-3:]:
        assert mt(0, "asf", number).returncode == 0
        out = folder / "package.tar"
        assert run("dd", "if=/dev/nst0", f"of={out}", f"bs={BLOCK}").returncode == 0
        (folder / "sums").write_text(f"{digest}  {out}\n")
        assert run("sha256sum", "-c", folder / "sums").returncode == 0
        assert mt(0, "asf", number).returncode == 0
        unpacked = run("tar", "-b", BLOCK // 512, "-tf", "/dev/nst0").stdout.split()
        assert unpacked == [f"study-{key.split('/')[1].split('.')[0]}/image.dcm"]


def held_by_address() -> dict[int, str]:
    return {int(address): held for address, held in ask("status")["at"].items()}


def test_swapped_stickers_are_noticed_and_nothing_is_written() -> None:
    stock("HSM001L6", "HSM002L6")
    library = open_library()
    for barcode in ("HSM001L6", "HSM002L6"):
        written(library, barcode, {f"{barcode}/k": barcode.encode()})
    ask("relabel", barcode="HSM001L6", new="SWAP00L6")
    ask("relabel", barcode="HSM002L6", new="HSM001L6")
    ask("relabel", barcode="SWAP00L6", new="HSM002L6")
    drive = drives(library)[0]
    for barcode, other in (("HSM001L6", "HSM002L6"), ("HSM002L6", "HSM001L6")):
        with pytest.raises(WrongVolume, match=f"{barcode}.*{other}"):
            library.mount(label_of(barcode), drive)
    library.unmount(drive)
    ask("relabel", barcode="HSM001L6", new="SWAP00L6")
    ask("relabel", barcode="HSM002L6", new="HSM001L6")
    ask("relabel", barcode="SWAP00L6", new="HSM002L6")
    for barcode in ("HSM001L6", "HSM002L6"):
        store = library.mount(label_of(barcode), drive)
        assert [(stat.key, read(store, stat.key)) for stat in store.list()] == [
            (f"{barcode}/k", barcode.encode())
        ]


LTFS_LABEL = b"VOL1ABC123L             LTFS" + b" " * 51 + b"4"
ANSI_LABEL = b"VOL1BACKUP              OTHERSYSTEM  NIGHTLY       " + b" " * 28 + b"4"
STRANGERS = {
    "tar archive": [tarfile.TarInfo("payroll.db").tobuf() + bytes(9728)],
    "LTFS volume": [LTFS_LABEL],
    "ANSI label 'BACKUP'": [ANSI_LABEL],
    "unknown kind": [b"\x93" * 4096],
    "file mark": [],
}


@pytest.mark.parametrize("words", STRANGERS)
def test_a_strangers_tape_offered_as_scratch_is_named_and_left_alone(words: str) -> None:
    stock("HSM001L6")
    mtx("status")
    mtx("load", 1, 0)
    with opened(0) as tape:
        for record in STRANGERS[words]:
            tape.write(record)
        tape.operate(5)
        tape.write(b"more of it".ljust(512))
        tape.operate(5)
    mtx("unload", 1, 0)
    library = open_library()
    drive = drives(library)[0]
    for attempt in (
        lambda: library.label(label_of("HSM001L6"), drive),
        lambda: library.mount(label_of("HSM001L6"), drive),
    ):
        with pytest.raises(Permanent, match=words):
            attempt()
    library.unmount(drive)
    mtx("load", 1, 1)
    with opened(1) as tape:
        for record in STRANGERS[words]:
            assert tape.read(1 << 20) == record
        assert tape.read(1 << 20) == b""
        assert tape.read(1 << 20) == b"more of it".ljust(512)


def test_a_cartridge_that_was_unloaded_and_never_taken_out_is_threaded_again() -> None:
    """What a robot that jams after the drive's unload leaves, or a daemon that dies then."""
    stock("HSM001L6")
    library = open_library()
    drive = drives(library)[0]
    library.label(label_of("HSM001L6"), drive)
    put(library.mount(label_of("HSM001L6"), drive), "k", package(1))
    library.unmount(drive)
    library.read_label("HSM001L6", drive)
    assert mt(0, "offline").returncode == 0
    assert read(library.mount(label_of("HSM001L6"), drive), "k") == package(1)
    library.unmount(drive)


def test_a_full_cartridge_keeps_its_index_and_all_that_was_accepted() -> None:
    """The driver says ENOSPC at early warning; a capacity that promises more is not believed."""
    stock("HSM001L6", capacity_mb=6, early_warning_kb=1024)
    library = open_library(capacity_bytes=1 << 30)
    drive = drives(library)[0]
    library.label(label_of("HSM001L6"), drive)
    store = library.mount(label_of("HSM001L6"), drive)
    accepted: Packages = {}
    with pytest.raises(DriverError, match="HSM001L6"):
        for number in range(100):
            put(store, f"k{number}", package(number))
            accepted[f"k{number}"] = package(number)
    store.flush()
    assert len(accepted) > 10
    library = open_library(capacity_bytes=1 << 30)
    store = library.mount(label_of("HSM001L6"), drives(library)[0])
    assert {stat.key: read(store, stat.key) for stat in store.list()} == accepted


def test_a_write_error_counts_nothing_that_was_not_proved() -> None:
    stock("HSM001L6")
    library = open_library()
    drive = drives(library)[0]
    library.label(label_of("HSM001L6"), drive)
    store = library.mount(label_of("HSM001L6"), drive)
    assert isinstance(store, PlainStore)
    for number in range(5):
        put(store, f"k{number}", package(number))
    store.flush()
    put(store, "unproved", package(5))
    fail(0x0A, (3, 0x0C, 0), times=1, alerts=[3, 6])
    with pytest.raises(DriverError, match="HSM001L6"):
        put(store, "hit", package(6))
    library = open_library()
    store = library.mount(label_of("HSM001L6"), drives(library)[1])
    found = {stat.key: read(store, stat.key) for stat in store.list()}
    assert {f"k{number}": package(number) for number in range(5)}.items() <= found.items()
    assert "hit" not in found
    assert all(found[key] == package(5) for key in found if key == "unproved")


def test_a_drive_that_died_with_a_cartridge_in_it_does_not_stop_the_other() -> None:
    stock("HSM001L6", "HSM002L6")
    library = open_library()
    first, second = drives(library)
    for barcode in ("HSM001L6", "HSM002L6"):
        written(library, barcode, {f"{barcode}/k": b"data"})
    library.mount(label_of("HSM001L6"), first)
    for operation in (0x00, 0x01, 0x08, 0x1B, 0x2B, 0x92):
        fail(operation, (4, 0x44, 0), times=9999)
    with pytest.raises(DriverError, match=r"HSM001L6|90WT000001"):
        library.unmount(first)
    store = library.mount(label_of("HSM002L6"), second)
    assert read(store, "HSM002L6/k") == b"data"
    assert held_by_address()[DRIVES] == "HSM001L6"
