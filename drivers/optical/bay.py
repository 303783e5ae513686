"""A burner of a library with the disc in it: what a robot and a person have in common.

Has what :class:`drivers.tape.library.TapeLibrary` and :class:`drivers.tape.manual.ManualLibrary` ask of a
drive, so that discs are moved by the same code as cartridges.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from drivers.base import VolumeLabel
from drivers.errors import Corrupt, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.labels import require_typed, require_volume
from drivers.optical import xorriso
from drivers.optical.burner import Burner, Contents, XorrisoBurner, require_disc
from drivers.optical.dicomdir import NAME, entries_of, file_set_id
from drivers.optical.fileset import DIGESTS, digest_list, file_digest
from drivers.optical.index import (
    INDEX,
    INDEX_BYTES_MAX,
    LABEL,
    LABEL_BYTES_MAX,
    DiscLabel,
    parse_index,
    parse_label,
)
from drivers.optical.media import Medium
from drivers.optical.once import GROWISOFS, ISO9660, UDF, XORRISO, OnceBurner
from drivers.optical.promised import Promises
from drivers.optical.recorded import Recorded, label_files
from drivers.optical.spool import Spool
from drivers.optical.store import DIRECTORY_BYTES_MAX, DiscStore
from drivers.optical.xorriso import State
from drivers.tape.label import Content, Found, require_blank, volume_of

LOAD_SECONDS = 120.0
_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Writing:
    """How discs are written."""

    medium: Medium
    spool: Path
    spool_bytes: int | None = None
    append: bool = True
    pool_append: dict[str, bool] = field(default_factory=dict)
    """For pools that want it otherwise."""
    speed: int | None = None
    burner: str = XORRISO
    file_system: str = ISO9660

    @property
    def once(self) -> bool:
        """Discs are written in one go, their label with the rest."""
        return self.burner == GROWISOFS or self.file_system == UDF

    def appends(self, pool: str) -> bool:
        return self.pool_append.get(pool, self.append)


@dataclass(slots=True)
class Seen:
    """What a tape drive would have said; a burner never asks to be cleaned."""

    cleaning_asked: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a disc is in."""

    online: bool


class DiscDrive:
    """A burner: its device is asked for each time, for an image file changes with the disc."""

    def __init__(
        self, name: str, device: Callable[[], str | None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = name
        self.seen = Seen()
        self._device = device
        self._sleep = sleep

    def status(self) -> Status:
        """Looks into the drive."""
        device = self._device()
        return Status(device is not None and xorriso.look(device).state is not State.EMPTY)

    def device(self) -> str:
        """:raises OperatorNeeded: the drive is empty."""
        device = self._device()
        if device is None:
            raise OperatorNeeded(f"drive {self.name} is empty; put a disc in")
        return device

    def wait_loaded(self, barcode: str) -> None:
        """:raises OperatorNeeded: the disc is not recognised in time."""
        for _ in range(int(LOAD_SECONDS / _POLL_SECONDS)):
            if self.status().online:
                return
            self._sleep(_POLL_SECONDS)
        raise OperatorNeeded(f"drive {self.name} does not recognise the disc {barcode}; look at it")

    def eject(self) -> None:
        device = self._device()
        if device is not None:
            xorriso.eject(device)

    def cleaned(self) -> None:
        """Nothing to note."""


class DiscBay:
    """A drive. ``lock`` is held by whoever loads, mounts or empties it."""

    def __init__(self, address: int, drive: DiscDrive, writing: Writing) -> None:
        self.address = address
        self.drive = drive
        self.lock = threading.RLock()
        self.store: DiscStore | None = None
        self._writing = writing
        self._promises = Promises(writing.spool / "labels")

    @property
    def mounted(self) -> VolumeLabel | None:
        """Who is mounted here."""
        return None if self.store is None else self.store.label.volume

    def identify(self) -> Found:
        """What the loaded disc is.

        :raises OperatorNeeded: nothing is loaded.
        """
        if self.store is not None:
            return _ours(self.store.label)
        burner = self._burner()
        disc = burner.look()
        require_disc(disc, self.drive.name)
        if disc.state is State.BLANK:
            return Found(Content.BLANK, "a blank disc")
        try:
            contents = burner.contents()
        except Retryable as error:
            return Found(Content.FOREIGN, f"a written disc whose directory cannot be read ({error})")
        try:
            if LABEL not in contents:
                name = xorriso.volume_id(self.drive.device())
                return Found(Content.FOREIGN, f"a disc of somebody else's, {name or 'without a name'!r}")
            return _ours(parse_label(contents.whole(LABEL, LABEL_BYTES_MAX)))
        except Corrupt as error:
            return Found(Content.BROKEN, f"a disc of this archive whose label is damaged: {error}")
        finally:
            contents.close()

    def forget(self) -> None:
        """The disc was taken out by hand while it was mounted: its Store is of no use any more."""
        if self.store is not None:
            self.store.close()
            self.store = None

    def read_label(self, barcode: str) -> VolumeLabel | None:
        """The label of the loaded disc, or the one that it gets with its first burn; None when it is blank.

        :raises WrongVolume: it is somebody else's; the message says whose.
        """
        volume = volume_of(self.identify(), barcode, self.drive.name)
        return volume or (self._promises.of(barcode) if self._writing.once else None)

    def label(self, label: VolumeLabel) -> None:
        """Burn the label onto a blank disc, as its first session, and read it back. A disc that is written
        once stays blank until there is something to burn with it.

        :raises WrongVolume: it is not blank; the message says what it is.
        """
        found = self.identify()
        require_blank(found, label.barcode, self.drive.name)
        if self._writing.once:
            self._promises.make(label)
            return
        burner = self._burner()
        files = label_files(DiscLabel(label), Recorded(), False)
        self._writing.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._writing.spool) as folder:
            tree = Path(folder)
            for name, data in files.items():
                (tree / name).write_bytes(data)
            (tree / DIGESTS).write_bytes(digest_list({name: file_digest(tree / name) for name in files}))
            burner.burn(tree, file_set_id(label.barcode), close=False)
        contents = burner.contents()
        try:
            if contents.whole(LABEL, LABEL_BYTES_MAX) != files[LABEL]:
                raise Permanent(f"label {label.barcode}: other bytes were read back; take another disc")
        finally:
            contents.close()

    def overwrite(self, label: VolumeLabel, typed: str) -> str:
        """A disc is written once.

        :raises Permanent: always, but for a blank one.
        """
        require_typed(label, typed)
        found = self.identify()
        if found.content is not Content.BLANK:
            raise Permanent(f"{label.barcode} is {found.words}, and a disc is written once; take a blank one")
        self.label(label)
        return found.words

    def mount(self, label: VolumeLabel) -> DiscStore:
        """The loaded disc as a Store.

        :raises WrongVolume: it is blank, somebody else's, or another volume than ``label``.
        """
        if self.store is not None:
            require_volume(label, self.store.label.volume, self.drive.name)
            if not self.store.failed:
                return self.store
            if self.store.busy:
                raise Retryable(f"drive {self.drive.name} is busy with {label.barcode}; try again")
            self.forget()
        found = self.identify()
        promised = found.content is Content.BLANK and self._writing.once
        if promised and self._promises.of(label.barcode) == label:
            self.store = self._store(label, Recorded(), Contents.none(self.drive.name), 1)
            return self.store
        if found.label is None:
            raise WrongVolume(
                f"{label.barcode} in drive {self.drive.name} is {found.words}; expected volume "
                f"{label.uuid} of pool {label.pool!r}: nothing was written"
            )
        require_volume(label, found.label.volume, self.drive.name)
        burner = self._burner()
        contents = burner.contents()
        try:
            recorded = _recorded(contents, found.label.volume)
            state = burner.look().state
            recorded.closed = recorded.closed or state is State.CLOSED
            first = 1 + max((_number(each.rest) for each in recorded.objects.values()), default=0)
            first = max(first, 1 + max((_number(path) for path in recorded.digests), default=0))
            self.store = self._store(found.label.volume, recorded, contents, first)
        except BaseException:
            contents.close()
            raise
        return self.store

    def _store(self, volume: VolumeLabel, recorded: Recorded, contents: Contents, first: int) -> DiscStore:
        return DiscStore(
            self._burner(),
            DiscLabel(volume),
            recorded,
            contents,
            self._writing.medium,
            Spool(self._writing.spool / f"drive-{self.address}", first),
            append=self._writing.appends(volume.pool),
            spool_bytes=self._writing.spool_bytes,
        )

    def release(self) -> None:
        """Burn what waits, let go of the disc, and open the drive.

        :raises Retryable: a put or get is under way.
        :raises Permanent: the burn failed; the next call lets the disc go.
        """
        store = self.store
        if store is not None:
            if store.busy:
                raise Retryable(
                    f"drive {self.drive.name} is busy with {store.label.volume.barcode}; try again"
                )
            if not store.failed:
                store.flush()
            if self._writing.once and store.burnt:
                self._promises.keep(store.label.volume.barcode)
            self.forget()
        self.drive.eject()

    def report(self, barcode: str | None) -> Any:
        """Burners have no counters that could be asked for.

        :raises Permanent: always.
        """
        raise Permanent(f"drive {self.drive.name} is a burner: it keeps no counters of its own")

    def _burner(self) -> Burner:
        writing, device = self._writing, self.drive.device()
        if not writing.once:
            return XorrisoBurner(device, writing.speed)
        return OnceBurner(device, writing.speed, program=writing.burner, udf=writing.file_system == UDF)


def _ours(label: DiscLabel) -> Found:
    volume = label.volume
    words = f"volume {volume.uuid} ({volume.barcode}) of pool {volume.pool!r}"
    return Found(Content.OURS, words, cast(Any, label))


def _recorded(contents: Contents, volume: VolumeLabel) -> Recorded:
    """What the last session says.

    :raises Corrupt: one of our lists cannot be read.
    """
    objects, closed, notes = parse_index(contents.whole(INDEX, INDEX_BYTES_MAX), volume.uuid)
    digests: dict[str, bytes] = {}
    if DIGESTS in contents:
        for line in contents.whole(DIGESTS, INDEX_BYTES_MAX).decode("ascii", "replace").splitlines():
            digest, _, path = line.partition("  ")
            try:
                digests[path] = bytes.fromhex(digest)
            except ValueError as error:
                raise Corrupt(f"{DIGESTS} of {volume.barcode}: {line[:80]!r}") from error
    entries = entries_of(contents.whole(NAME, DIRECTORY_BYTES_MAX)) if NAME in contents else []
    known = {each.key: each for each in objects}
    return Recorded(known, digests, entries, closed, contents.used, notes)


def _number(path: str) -> int:
    """Of ``OBJECTS/O0000012`` or ``DICOM/P0000012/F0000001``; 0 for files of ours."""
    parts = path.split("/")
    return int(parts[1][1:]) if len(parts) > 1 and parts[1][1:].isdigit() else 0
