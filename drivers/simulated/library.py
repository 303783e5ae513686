"""The simulated library: its robot, its drives, and the order in which they are locked.

A drive's lock comes before the robot's; a second drive's lock is only tried, so that two threads
that want each other's cartridge get `Retryable` and not a deadlock.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drivers import options as opt
from drivers.base import ElementKind, Inventory, Store, VolumeLabel
from drivers.errors import (
    Corrupt,
    DriverError,
    NotFound,
    OperatorNeeded,
    Permanent,
    Retryable,
    WrongVolume,
)
from drivers.labels import require_typed
from drivers.oserrors import translated
from drivers.reports import DriveReport
from drivers.simulated.drive import CartridgeStore, Drive, Timekeeper
from drivers.simulated.faults import Event, FaultScript
from drivers.simulated.medium import Medium
from drivers.simulated.model import LTO8, DriveModel
from drivers.simulated.places import Places, PlacesFile, Shape, is_cleaning

_BARCODE = re.compile(r"[A-Z0-9]{1,32}")


class SimulatedRobot:
    """A :class:`drivers.base.Library` in ``folder``, which is made when it is not there.

    ``None`` for a number means "as it is", or the default in a new library. ``cartridges`` and
    ``on_shelf`` say which cartridges there are, when they are not there already; where they are
    after that is what was done with them. ``drive`` is always the drive's element address.
    ``time_factor`` scales the time that everything takes: 0 is none, 1 is that of a real library.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        slots: int | None = None,
        mail_slots: int | None = None,
        drives: int | None = None,
        cartridges: tuple[str, ...] = (),
        on_shelf: tuple[str, ...] = (),
        capacity_bytes: int | None = None,
        time_factor: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        model: DriveModel = LTO8,
    ) -> None:
        self._folder = Path(folder)
        with translated(f"open the simulated library {self._folder}"):
            (self._folder / "cartridges").mkdir(parents=True, exist_ok=True)
        self.faults = FaultScript(self._folder)
        self.time = Timekeeper(time_factor, sleep)
        self._model = model
        self._robot = threading.Lock()
        self._places = PlacesFile(self._folder)
        with self._places.changing() as box:
            wanted = {
                "slots": slots, "mail_slots": mail_slots, "drives": drives, "capacity_bytes": capacity_bytes,
            }  # fmt: skip
            box[0] = _reshape(box[0], wanted)
            for barcode in (*on_shelf, *cartridges):
                if not _BARCODE.fullmatch(barcode):
                    raise Permanent(f"barcode {barcode!r}; expected up to 32 of A-Z and 0-9, as HSM001L8")
                box[0] = box[0].added(barcode, on_shelf=barcode in on_shelf)
            shape = box[0].shape
        self._capacity = shape.capacity_bytes
        self._drives = {
            address: Drive(address, model, self.time, self.faults.check)
            for address in shape.addresses(ElementKind.DRIVE)
        }

    @property
    def name(self) -> str:
        return self._folder.name

    def inventory(self) -> Inventory:
        """See :meth:`drivers.base.Library.inventory`; drives first, then slots, then mail slots.

        :raises StaleMap: the door is open.
        """
        return self._look().inventory()

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        """See :meth:`drivers.base.Library.read_label`.

        :raises OperatorNeeded: the cartridge is not in the library.
        :raises WrongVolume: it carries something else than a label of ours (it is foreign).
        :raises Retryable: the drive, or the one that holds the cartridge, is busy.
        """
        with self._drive(drive) as bay:
            self._load(barcode, bay)
            return self._medium(barcode).label()

    def label(self, label: VolumeLabel, drive: int) -> None:
        """See :meth:`drivers.base.Library.label`; a label of the same volume is refused too."""
        with self._drive(drive) as bay:
            self._load(label.barcode, bay)
            medium = self._medium(label.barcode)
            found = medium.label()
            if found is not None:
                raise WrongVolume(
                    f"{label.barcode} is not blank: it is volume {found.uuid} of pool {found.pool!r}"
                )
            bay.check("label")
            medium.format(label)

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        """See :meth:`drivers.base.Overwriting.overwrite`.

        :raises Permanent: it is mounted.
        """
        require_typed(label, typed)
        with self._drive(drive) as bay:
            self._load(label.barcode, bay)
            if bay.store is not None:
                raise Permanent(f"overwrite {label.barcode}: it is mounted; unmount it first")
            medium = self._medium(label.barcode)
            try:
                found = medium.label()
                was = "blank" if found is None else f"volume {found.uuid} of pool {found.pool!r}"
            except (WrongVolume, Corrupt) as error:
                was = str(error)
            bay.check("label")
            medium.erase()
            medium.format(label)
            return was

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        """See :meth:`drivers.base.Library.mount`. What is mounted there already is returned as it is.

        :raises Corrupt: the index is unreadable.
        :raises Retryable: the drive, or the one that holds the cartridge, is busy.
        """
        with self._drive(drive) as bay:
            self._load(label.barcode, bay)
            medium = self._medium(label.barcode)
            found = medium.label()
            if found is None:
                raise WrongVolume(f"{label.barcode} in drive {drive} is blank, expected volume {label.uuid}")
            if (found.barcode, found.uuid) != (label.barcode, label.uuid):
                raise WrongVolume(
                    f"what carries the barcode {label.barcode} in drive {drive} is {found.barcode} "
                    f"({found.uuid}), expected {label.uuid}: nothing was read or written",
                    found.barcode,
                )
            failed: Medium | None = None
            if bay.store is not None and bay.store.failed:
                if bay.store.busy:
                    raise Retryable(f"drive {drive} is busy with {label.barcode}; try again later")
                failed = bay.store.medium
                bay.store.close()
                bay.store = None  # its end is looked for anew
            if bay.store is None:
                medium.recover()
                if failed is not None:
                    medium.go_on_behind(failed)
                bay.flush_failed = False
                bay.store = CartridgeStore(bay, medium)
            return bay.store

    def unmount(self, drive: int) -> None:
        """See :meth:`drivers.base.Library.unmount`.

        :raises OperatorNeeded: there is no free slot.
        :raises Retryable: a put or get is under way.
        """
        with self._drive(drive) as bay:
            self._empty(bay)

    def eject(self, barcode: str) -> int:
        """See :meth:`drivers.base.Library.eject`. In a mail slot already: that one's address.

        :raises NotFound: the cartridge is not in the library.
        :raises Retryable: a put or get on it is under way.
        """
        places = self._look()
        place = places.where.get(barcode)
        if place is None:
            raise NotFound(f"{barcode} is not in the library")
        kind = places.shape.kind(place)
        if kind is ElementKind.MAIL:
            return place
        if kind is ElementKind.DRIVE:
            places.mail_for(barcode)  # before anything is unloaded
            with self._drive(place) as bay:
                if self._places.read().at(place) != barcode:
                    raise Retryable(f"{barcode} was taken out of drive {place} meanwhile")
                self._release(bay)
                return self._move(barcode, place, lambda now: now.mail_for(barcode))
        return self._move(barcode, place, lambda now: now.mail_for(barcode))

    def report(self, drive: int) -> DriveReport:
        """See :meth:`drivers.base.Reporting.report`; counted since the library was opened."""
        with self._drive(drive) as bay:
            return bay.report()

    def clean(self, drive: int) -> None:
        """See :meth:`drivers.base.Cleaning.clean`; a cleaning cartridge's barcode begins with CLN."""
        with self._drive(drive) as bay:
            where = self._places.read().where
            found = next((b for b, place in where.items() if is_cleaning(b) and place is not None), None)
            if found is None:
                raise OperatorNeeded(
                    f"library {self.name} has no cleaning cartridge; put one (CLN...) into it"
                )
            self._empty(bay)
            home = self._places.read().in_library(found)
            self._move(found, home, lambda _: bay.address)
            bay.clean()
            self._move(found, bay.address, lambda _: home)

    def shelf(self) -> tuple[str, ...]:
        """The cartridges that are not in the library, for tests and demonstrations."""
        return tuple(barcode for barcode, place in self._places.read().where.items() if place is None)

    def medium_folder(self, barcode: str) -> Path:
        """Where a cartridge's content is, for the damages of :mod:`drivers.simulated.medium`."""
        return self._folder / "cartridges" / barcode

    def _look(self) -> Places:
        """Where everything is, as the changer says; what everything that moves begins with."""
        self.faults.check(Event("look"))
        return self._places.read()

    def _medium(self, barcode: str) -> Medium:
        return Medium(self.medium_folder(barcode), barcode, self._capacity)

    @contextmanager
    def _drive(self, address: int) -> Iterator[Drive]:
        """The drive, locked."""
        bay = self._drives.get(address)
        if bay is None:
            known = ", ".join(str(known) for known in self._drives)
            raise Permanent(f"library {self.name} has no drive {address}; its drives are {known}")
        with bay.lock:
            yield bay

    def _load(self, barcode: str, bay: Drive) -> None:
        """Have ``barcode`` loaded in ``bay``, wherever it was."""
        place = self._look().in_library(barcode)
        if place != bay.address:
            self._empty(bay)
            if place in self._drives:
                self._take_from(self._drives[place], barcode, bay)
            else:
                self._move(barcode, place, lambda _: bay.address)
        if bay.threaded != barcode:
            bay.thread(barcode)

    def _take_from(self, other: Drive, barcode: str, bay: Drive) -> None:
        if not other.lock.acquire(blocking=False):
            raise Retryable(f"{barcode} is in drive {other.address}, which is busy")
        try:
            if other.store is not None:
                raise Retryable(f"{barcode} is mounted in drive {other.address}; unmount it there")
            self._release(other)
            self._move(barcode, other.address, lambda _: bay.address)
        finally:
            other.lock.release()

    def _empty(self, bay: Drive) -> None:
        """Unload what is in the drive and put it into a slot."""
        places = self._look()
        barcode = places.at(bay.address)
        if barcode is None:
            return
        places.slot_for(barcode)  # before anything is unloaded
        self._release(bay)
        self._move(barcode, bay.address, lambda now: now.slot_for(barcode))

    def _release(self, bay: Drive) -> None:
        """Flush and unload; the cartridge lies in the drive's mouth then."""
        if bay.store is not None:
            if bay.store.busy:
                raise Retryable(f"drive {bay.address} is busy with {bay.threaded}; try again later")
            if not bay.flush_failed:
                try:
                    bay.store.flush()
                except DriverError:
                    # The next attempt gives the cartridge free: what was not flushed was never counted.
                    bay.flush_failed = True
                    raise
            bay.store.close()
            bay.store = None
        if bay.threaded is not None:
            bay.unthread()

    def _move(self, barcode: str, source: int, target: Callable[[Places], int]) -> int:
        """One move of the robot, which has one hand; the target is chosen when its turn comes."""
        with self._robot:
            self.faults.check(Event("move", barcode=barcode))
            self._places.read().moved(barcode, source, target(self._places.read()))
            self.time.spend(self._model.move_seconds)
            with self._places.changing() as box:
                address = target(box[0])
                box[0] = box[0].moved(barcode, source, address)
            return address


class SimulatedLibrary(SimulatedRobot):
    """With the hands that carry cartridges between the shelf and its mail slots
    (:class:`drivers.base.SimulatedHands`)."""

    def hand_insert(self, barcode: str) -> None:
        """See :meth:`drivers.base.SimulatedHands.hand_insert`, and :meth:`Places.inserted`."""
        with self._places.changing() as box:
            box[0] = box[0].inserted(barcode)

    def hand_remove(self, barcode: str) -> None:
        """See :meth:`drivers.base.SimulatedHands.hand_remove`, and :meth:`Places.removed`."""
        with self._places.changing() as box:
            box[0] = box[0].removed(barcode)


def _reshape(places: Places, wanted: Mapping[str, int | None]) -> Places:
    now = places.shape
    given = {name: number for name, number in wanted.items() if number is not None}
    return places.reshaped(
        Shape(
            slots=given.get("slots", now.slots),
            mail_slots=given.get("mail_slots", now.mail_slots),
            drives=given.get("drives", now.drives),
            capacity_bytes=given.get("capacity_bytes", now.capacity_bytes),
        )
    )


def open_library(options: Mapping[str, Any]) -> SimulatedRobot:
    """A library of the options of the family ``simulated``; see :class:`SimulatedRobot`.

    ``cartridges`` is a list of barcodes, or a number: HSM001L8 and so on (8 in a new library).
    ``on_shelf`` is a list of barcodes, or how many of the numbered cartridges, the last ones, begin
    on the shelf. Where neither is given, a library that is there already stays as it is. Without
    ``hands`` it is as a real robot: somebody else carries the cartridges, as with a second
    :class:`SimulatedLibrary` of the same folder, and who answers a prompt has not thereby loaded it.
    """
    folder = opt.text(options, "folder")
    if folder is None:
        raise Permanent("driver simulated: option folder is missing")
    cartridges, on_shelf = opt.names(options, "cartridges"), opt.names(options, "on_shelf")
    if cartridges is None:
        if PlacesFile(Path(folder)).exists():
            cartridges, on_shelf = (), on_shelf if isinstance(on_shelf, tuple) else ()
        else:
            cartridges = 8
    if isinstance(cartridges, int):
        cartridges = tuple(f"HSM{number:03d}L8" for number in range(1, cartridges + 1))
    if isinstance(on_shelf, int):
        if on_shelf > len(cartridges):
            raise Permanent(f"option on_shelf: {on_shelf} of {len(cartridges)} cartridges")
        on_shelf = cartridges[len(cartridges) - on_shelf :]
    return (SimulatedLibrary if opt.flag(options, "hands", True) else SimulatedRobot)(
        folder,
        slots=opt.count(options, "slots", 1),
        mail_slots=opt.count(options, "mail_slots", 1),
        drives=opt.count(options, "drives", 1),
        cartridges=cartridges,
        on_shelf=on_shelf or (),
        capacity_bytes=opt.size(options, "capacity_bytes"),
        time_factor=opt.factor(options, "time_factor", 0.0),
    )
