"""What every Store and every Library must do is in this folder; a driver joins with one line below.

A Store's line says how to open it in an empty folder. The harness that it gives can be crashed:
the store is left as it stands, nothing is closed, and what finds its storage afterwards is new.
"""

from __future__ import annotations

import atexit
import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import sshserver
from s3servers import new_prefix, open_at, server

from drivers.base import Library, Store, StoreLabel, VolumeLabel
from drivers.errors import DriverError, Retryable
from drivers.folder import FolderStore
from drivers.metered import MeteredStore
from drivers.nas import store as nas
from drivers.nas.helpers import Helpers, Limits
from drivers.optical.configure import open_optical
from drivers.raid.store import RaidStore
from drivers.sftp.store import SftpStore
from drivers.simulated.library import SimulatedLibrary
from drivers.tape.configure import open_mtx
from drivers.tape.fake import Tape
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.wrappers import FaultyStore, LimitedStore, RetryingStore, fail_at_random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sample_driver"))
import hsm_memory
from ltfs_hall import real_ltfs
from ltfs_harness import LtfsHarness, LtfsLibraryHarness, close_halls, forget_labelled

from tests.contract.troubles import Bench, OpenBench, SimulatedBench
from tests.loopmount import LoopMount

Wrap = Callable[[Store], Store]


class StoreHarness(Protocol):
    """A Store under test and the storage below it."""

    store: Store

    def crash(self) -> Store:
        """Forget the store as a killed process does, and open another one on the same storage."""
        ...

    def small(self, free: int) -> Store:
        """Open an empty store with about ``free`` bytes of room."""
        ...


class FolderHarness:
    def __init__(self, folder: Path, wrap: Wrap) -> None:
        self._folder, self._wrap = folder, wrap
        (folder / "pool").mkdir()
        self.store = self._open(0)

    def _open(self, reserve: int) -> Store:
        return self._wrap(FolderStore(self._folder / "pool", reserve_bytes=reserve))

    def crash(self) -> Store:
        self.store = self._open(0)
        return self.store

    def small(self, free: int) -> Store:
        system = os.statvfs(self._folder)
        return self._open(max(0, system.f_bavail * system.f_frsize - free))


class RaidHarness:
    """A folder of a real ext4 in a loop device, one for all tests of the process."""

    _mounted: LoopMount | None = None
    _numbers = itertools.count()

    def __init__(self, folder: Path) -> None:
        if RaidHarness._mounted is None:
            made = Path(tempfile.mkdtemp(prefix="hsm-raid-"))
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            RaidHarness._mounted = LoopMount(made, "ext4", 4096)
            atexit.register(RaidHarness._mounted.close)
        self._mount = RaidHarness._mounted
        self._root = self._mount.point / str(next(self._numbers))
        self._root.mkdir()
        self.store: Store = self._open(0)

    def _open(self, reserve: int) -> Store:
        return RaidStore(self._root, self._mount.uuid, reserve_bytes=reserve)

    def crash(self) -> Store:
        self.store = self._open(0)
        return self.store

    def small(self, free: int) -> Store:
        system = os.statvfs(self._root)
        return self._open(max(0, system.f_bavail * system.f_frsize - free))


class TapeHarness:
    label = VolumeLabel("HSM001L8", "5f0c0a3e-0000-4000-8000-000000000001", "tape-a")

    def __init__(self, folder: Path, wrap: Wrap) -> None:
        self._folder, self._wrap = folder, wrap
        self._numbers = itertools.count()
        library = self._library("library", 4 << 30)
        drive = library.inventory().drives()[0].address
        library.label(self.label, drive)
        self.store = wrap(library.mount(self.label, drive))

    def _library(self, name: str, capacity: int) -> SimulatedLibrary:
        return SimulatedLibrary(
            self._folder / name, cartridges=(self.label.barcode,), capacity_bytes=capacity
        )

    def crash(self) -> Store:
        library = self._library("library", 4 << 30)
        self.store = self._wrap(library.mount(self.label, library.inventory().drives()[0].address))
        return self.store

    def small(self, free: int) -> Store:
        library = self._library(f"small-{next(self._numbers)}", free * 20 // 19)
        drive = library.inventory().drives()[0].address
        library.label(self.label, drive)
        return self._wrap(library.mount(self.label, drive))


class PlainTapeHarness:
    """A plain volume in a tape drive without the device; a crash is a power cut."""

    label = VolumeLabel("HSM001L8", "5f0c0a3e-0000-4000-8000-000000000001", "tape-a")

    def __init__(self, folder: Path, wrap: Wrap, block_bytes: int, survivors: int | None) -> None:
        self._wrap, self._block_bytes, self._survivors = wrap, block_bytes, survivors
        self._io = fake_library((self.label.barcode,))
        self.store = self._open(self._io, None, label=True)

    def _open(self, io: FakeIo, capacity: int | None, *, label: bool) -> Store:
        options = {"changer": CHANGER, "block_bytes": self._block_bytes, "capacity_bytes": capacity}
        library = open_mtx(options, io)
        drive = library.inventory().drives()[0].address
        if label:
            library.label(self.label, drive)
        return self._wrap(library.mount(self.label, drive))

    def crash(self) -> Store:
        self._io.power_cut(self._survivors)
        self.store = self._open(self._io, None, label=False)
        return self.store

    def small(self, free: int) -> Store:
        return self._open(fake_library((self.label.barcode,)), free * 50 // 49, label=True)


class DiscHarness:
    """A disc in a jukebox of image files: real burns by xorriso, without the device."""

    label = VolumeLabel("DISC001", "5f0c0a3e-0000-4000-8000-000000000001", "discs")
    labelled = b""

    def __init__(self, folder: Path, wrap: Wrap) -> None:
        needs_xorriso()
        self._folder, self._wrap = folder, wrap
        self.store = self._open("jukebox", 1 << 30, label=True)

    def _open(self, name: str, capacity: int, *, label: bool) -> Store:
        options = {
            "images": str(self._folder / name),
            "discs": [self.label.barcode],
            "spool": str(self._folder / "spool" / name),
            "capacity_bytes": capacity,
        }
        library = open_optical(options)
        drive = library.inventory().drives()[0].address
        image = self._folder / name / f"{self.label.barcode}.iso"
        if label and not DiscHarness.labelled:
            library.label(self.label, drive)
            DiscHarness.labelled = image.read_bytes()
        elif label:  # one burn less for each test: its bytes are always the same
            image.write_bytes(DiscHarness.labelled)
        return self._wrap(library.mount(self.label, drive))

    def crash(self) -> Store:
        self.store = self._open("jukebox", 1 << 30, label=False)
        return self.store

    def small(self, free: int) -> Store:
        return self._open("small", free * 25 // 24, label=True)


def needs_xorriso() -> None:
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")


class S3Harness:
    """One prefix of a bucket on a real server, with its label."""

    def __init__(self, wrap: Wrap, **settings: Any) -> None:
        self._wrap = wrap
        self._settings = {"prefix": new_prefix()} | settings
        self._url = server().url
        label = StoreLabel("cloud", "5f0c0a3e-0000-4000-8000-000000000002")
        open_at(self._url, **self._settings).write_label(label)
        self._settings["expect_uuid"] = label.uuid
        self.store = self.crash()

    def crash(self) -> Store:
        self.store = self._wrap(open_at(self._url, **self._settings))
        return self.store

    def small(self, free: int) -> Store:
        return self._wrap(open_at(self._url, **self._settings, quota_bytes=free))


NAS_HELPERS = Helpers(Limits())
atexit.register(NAS_HELPERS.close)
"""Of all tests of this process: a helper costs a tenth of a second to start, and belongs to no folder."""


class NasHarness:
    """A folder behind helper processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "pool").mkdir()
        self.store: Store = self._open(0)

    def _open(self, reserve: int) -> Store:
        settings = nas.Settings(str(self._folder / "pool"), reserve_bytes=reserve)
        return nas.NasStore(settings, NAS_HELPERS)

    def crash(self) -> Store:
        self.store = self._open(0)
        return self.store

    def small(self, free: int) -> Store:
        system = os.statvfs(self._folder)
        return self._open(max(0, system.f_bavail * system.f_frsize - free))


class SampleHarness:
    """The sample driver of docs/writing-a-driver.md, as if its package were installed."""

    def __init__(self, folder: Path) -> None:
        self._shelf = str(folder)
        self.store: Store = self._open(self._shelf, 8 << 30)

    @staticmethod
    def _open(shelf: str, size: int) -> Store:
        assert hsm_memory.FAMILY.open_store
        return hsm_memory.FAMILY.open_store({"shelf": shelf, "size_bytes": size})

    def crash(self) -> Store:
        self.store = self._open(self._shelf, 8 << 30)
        return self.store

    def small(self, free: int) -> Store:
        return self._open(f"{self._shelf}/small", free)


class SftpHarness:
    """A folder behind a real OpenSSH server, which serves all tests of this process."""

    def __init__(self, folder: Path) -> None:
        if sshserver.MISSING:
            pytest.skip(sshserver.MISSING)
        self._folder = folder
        (folder / "pool").mkdir()
        self.store: Store = self._open()

    def _open(self, **changes: Any) -> Store:
        settings = sshserver.shared_server().settings(self._folder / "pool", **changes)
        return SftpStore(settings, rng=random.Random(5))

    def crash(self) -> Store:
        self.store = self._open()
        return self.store

    def small(self, free: int) -> Store:
        return self._open(quota_bytes=free)


def as_it_is(store: Store) -> Store:
    return store


def retried(store: Store) -> Store:
    """Fails often and tries again; not in puts, because not every test's source can be wound back."""
    at_random = fail_at_random(random.Random(7), 0.15, Retryable)

    def fault(operation: str, key: str) -> DriverError | None:
        return None if operation in ("put", "write") else at_random(operation, key)

    return RetryingStore(FaultyStore(store, fault), attempts=40, rng=random.Random(8), sleep=lambda _: None)


def metered(store: Store) -> Store:
    return MeteredStore(store, lambda _: None, lambda: 0.0)


def limited(store: Store) -> Store:
    elapsed = 0.0

    def sleep(seconds: float) -> None:
        nonlocal elapsed
        elapsed += seconds

    return LimitedStore(store, bytes_per_second=1000, clock=lambda: elapsed, sleep=sleep)


OpenStore = Callable[[Path], StoreHarness]

STORES: dict[str, OpenStore] = {
    "folder": lambda folder: FolderHarness(folder, as_it_is),
    "raid": RaidHarness,
    "simulated cartridge": lambda folder: TapeHarness(folder, as_it_is),
    "plain tape": lambda folder: PlainTapeHarness(folder, as_it_is, 256 << 10, None),
    "plain tape, small blocks, a torn tail": lambda folder: PlainTapeHarness(folder, as_it_is, 4096, 1),
    "sample of a third party": SampleHarness,
    "nas": NasHarness,
    "sftp": SftpHarness,
    "LTFS": lambda folder: LtfsHarness(folder, as_it_is, "emulated"),
    "optical": lambda folder: DiscHarness(folder, as_it_is),
    "folder, retried": lambda folder: FolderHarness(folder, retried),
    "folder, metered": lambda folder: FolderHarness(folder, metered),
    "folder, limited": lambda folder: FolderHarness(folder, limited),
    "s3": lambda folder: S3Harness(as_it_is),
    "simulated cartridge, retried": lambda folder: TapeHarness(folder, retried),
}


CARRY_NOTES = ("cartridge", "plain", "LTFS", "optical")


class LibraryHarness(Protocol):
    """A Library under test: at least two drives, two cartridges and one mail slot, all media blank."""

    library: Library
    barcodes: tuple[str, ...]
    """In the library, in slots."""
    absent: str
    """A cartridge that is not in the library."""

    def crash(self) -> Library:
        """Forget the library as a killed process does, and open it again."""
        ...


class SimulatedHarness:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "library"
        self.barcodes = ("HSM001L8", "HSM002L8", "HSM003L8")
        self.absent = "HSM004L8"
        self.library: Library = self._open()

    def _open(self) -> SimulatedLibrary:
        return SimulatedLibrary(
            self._folder,
            slots=5,
            mail_slots=2,
            drives=2,
            cartridges=self.barcodes,
            on_shelf=(self.absent,),
            capacity_bytes=64 << 20,
        )

    def crash(self) -> Library:
        self.library = self._open()
        return self.library


class JukeboxHarness:
    """A jukebox of image files with two burners."""

    def __init__(self, folder: Path) -> None:
        needs_xorriso()
        self._folder = folder
        self.barcodes = ("DISC001", "DISC002", "DISC003")
        self.absent = "DISC004"
        self.library: Library = self._open()

    def _open(self) -> Library:
        return open_optical(
            {
                "images": str(self._folder / "jukebox"),
                "discs": list(self.barcodes),
                "drives": 2,
                "slots": 5,
                "mail_slots": 2,
                "spool": str(self._folder / "spool"),
                "capacity_bytes": 64 << 20,
            }
        )

    def crash(self) -> Library:
        self.library = self._open()
        return self.library


class FakeTapeHarness:
    """A robot and tape drives without the devices, cabled crosswise."""

    def __init__(self, folder: Path) -> None:
        self.barcodes = ("HSM001L8", "HSM002L8", "HSM003L8")
        self.absent = "HSM004L8"
        self._io = fake_library(self.barcodes, slots=5, mail_slots=2)
        self._io.cabling = (1, 0)
        self._io.tapes[self.absent] = Tape()
        self.library: Library = self._open()

    def _open(self) -> Library:
        library: Any = open_mtx({"changer": "CHANGER1"}, self._io)
        library.hand_insert, library.hand_remove = self._io.hand_insert, self._io.hand_remove
        opened: Library = library
        return opened

    def crash(self) -> Library:
        self._io.power_cut()
        self.library = self._open()
        return self.library


OpenLibrary = Callable[[Path], LibraryHarness]

LIBRARIES: dict[str, OpenLibrary] = {
    "simulated": SimulatedHarness,
    "mtx": FakeTapeHarness,
    "optical": JukeboxHarness,
    "mtx, LTFS": lambda folder: LtfsLibraryHarness(folder, "emulated"),
}

if real_ltfs():  # tests/ltfs_emulator/README.md
    STORES["real LTFS"] = lambda folder: LtfsHarness(folder, as_it_is, "real")
    LIBRARIES["mtx, real LTFS"] = lambda folder: LtfsLibraryHarness(folder, "real")
BENCHES: dict[str, OpenBench] = {"simulated": SimulatedBench}
"""Libraries with hands that make trouble."""

if os.environ.get("HSM_LAB"):  # inside the laboratory (make lab): its devices, and only these
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
    if os.environ.get("LAB_SETUP") == "disks":
        from diskhalls import NfsHarness

        STORES = {"NFS 4.2": lambda folder: NfsHarness("4.2"), "NFS 3": lambda folder: NfsHarness("3")}
        LIBRARIES, BENCHES = {}, {}
    else:
        from halls import LabBench, LabCartridge, LabHall

        STORES = {"cartridge in the laboratory": LabCartridge}
        LIBRARIES = {"laboratory": LabHall}
        BENCHES = {"laboratory": LabBench}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each example of a property is a mount of the emulated LTFS: those are for ``HSM_SIM=long``, and for a
    real one, which mounts in a fiftieth of the time. tests/unit/test_ltfs_story.py kills it at random."""
    if os.environ.get("HSM_SIM") == "long":
        return
    left_out = [
        item
        for item in items
        if item.name.endswith("[LTFS]") and getattr(_function(item), "is_hypothesis_test", False)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _function(item: pytest.Item) -> object:
    return getattr(item, "obj", None)


@pytest.fixture(autouse=True)
def _no_ltfs_outlives_its_test() -> Iterator[None]:
    yield
    close_halls()


@pytest.fixture(autouse=True, scope="session")
def _no_cartridges_are_left() -> Iterator[None]:
    yield
    forget_labelled()


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    """How one kind of store is opened in an empty folder."""
    opener: OpenStore = STORES[request.param]
    return opener


@pytest.fixture
def harness(open_store: OpenStore, tmp_path: Path) -> StoreHarness:
    return open_store(tmp_path)


@pytest.fixture(params=[name for name in STORES if any(each in name for each in CARRY_NOTES)])
def noted(request: pytest.FixtureRequest, tmp_path: Path) -> StoreHarness:
    """A store that carries notes."""
    opener: OpenStore = STORES[request.param]
    return opener(tmp_path)


@pytest.fixture
def store(harness: StoreHarness) -> Store:
    return harness.store


@pytest.fixture(params=LIBRARIES)
def hall(request: pytest.FixtureRequest, tmp_path: Path) -> LibraryHarness:
    """A library with its cartridges."""
    opener: OpenLibrary = LIBRARIES[request.param]
    return opener(tmp_path)


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    opener: OpenBench = BENCHES[request.param]
    return opener(tmp_path)
