"""Where each cartridge of a simulated library is: pure values, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drivers.base import Element, ElementKind, Inventory
from drivers.errors import Corrupt, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.oserrors import translated
from drivers.simulated.disk import FileLock, read_json, replace_json

# Element addresses as mid-size libraries number them; SMC leaves the choice to the vendor.
FIRST_DRIVE = 256
FIRST_MAIL = 768
FIRST_SLOT = 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """How big the library is."""

    slots: int = 24
    mail_slots: int = 1
    drives: int = 2
    capacity_bytes: int = 12_000_000_000_000
    """Of every cartridge: native LTO-8 unless told."""

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= 60_000:
            raise Permanent(f"simulated library: {self.slots} slots; expected 1 to 60000")
        for name, number in (("mail_slots", self.mail_slots), ("drives", self.drives)):
            if not 1 <= number <= 256:
                raise Permanent(f"simulated library: {name} is {number}; expected 1 to 256")
        if self.capacity_bytes < 1:
            raise Permanent(f"simulated library: a capacity of {self.capacity_bytes} bytes")

    def addresses(self, kind: ElementKind) -> range:
        """The element addresses of one kind."""
        first, number = {
            ElementKind.DRIVE: (FIRST_DRIVE, self.drives),
            ElementKind.MAIL: (FIRST_MAIL, self.mail_slots),
            ElementKind.SLOT: (FIRST_SLOT, self.slots),
        }[kind]
        return range(first, first + number)

    def kind(self, address: int) -> ElementKind | None:
        """What an address is; None when there is no such element."""
        return next((kind for kind in ElementKind if address in self.addresses(kind)), None)


@dataclass(frozen=True, slots=True)
class Places:
    """Which cartridge is where. ``where`` is an element address, None for the shelf."""

    shape: Shape
    where: Mapping[str, int | None] = field(default_factory=dict)
    homes: Mapping[str, int] = field(default_factory=dict)
    """The slot a cartridge was last taken from: where it goes back to."""

    def at(self, address: int) -> str | None:
        """The barcode in an element."""
        return next((barcode for barcode, place in self.where.items() if place == address), None)

    def inventory(self) -> Inventory:
        held = {place: barcode for barcode, place in self.where.items() if place is not None}
        return Inventory(
            tuple(
                _element(kind, address, held.get(address))
                for kind in ElementKind
                for address in self.shape.addresses(kind)
            )
        )

    def in_library(self, barcode: str) -> int:
        """The element a cartridge is in.

        :raises OperatorNeeded: it is not in the library.
        """
        place = self.where.get(barcode)
        if place is None:
            raise OperatorNeeded(f"{barcode} is not in the library; put it into a mail slot")
        return place

    def free(self, kind: ElementKind) -> int | None:
        """A free element; one that is nobody's home if there is one."""
        taken = {place for place in self.where.values() if place is not None}
        away = {
            self.homes[barcode] for barcode, place in self.where.items() if self._expected(barcode, place)
        }
        free = [address for address in self.shape.addresses(kind) if address not in taken]
        return next((address for address in free if address not in away), free[0] if free else None)

    def _expected(self, barcode: str, place: int | None) -> bool:
        """Whether a cartridge is in a drive and will want its slot back."""
        return barcode in self.homes and place in self.shape.addresses(ElementKind.DRIVE)

    def slot_for(self, barcode: str) -> int:
        """Where a cartridge goes when it leaves a drive.

        :raises OperatorNeeded: every slot is occupied.
        """
        home = self.homes.get(barcode)
        if home is not None and self.shape.kind(home) is ElementKind.SLOT and self.at(home) is None:
            return home
        slot = self.free(ElementKind.SLOT)
        if slot is None:
            raise OperatorNeeded(f"no free slot for {barcode}; take a cartridge out of the library")
        return slot

    def mail_for(self, barcode: str) -> int:
        """A free mail slot.

        :raises OperatorNeeded: every mail slot is occupied.
        """
        mail = self.free(ElementKind.MAIL)
        if mail is None:
            raise OperatorNeeded(f"no free mail slot for {barcode}; empty the mail slots")
        return mail

    def moved(self, barcode: str, source: int | None, target: int | None) -> Places:
        """:raises Retryable: the cartridge is no longer at ``source``, or ``target`` is occupied."""
        if self.where.get(barcode) != source:
            raise Retryable(f"{barcode} was taken away from element {source} meanwhile")
        if target is not None and self.at(target) is not None:
            raise Retryable(f"element {target} was filled with {self.at(target)} meanwhile")
        homes = dict(self.homes)
        if source is not None and self.shape.kind(source) is ElementKind.SLOT:
            homes[barcode] = source
        if target is None:
            homes.pop(barcode, None)
        return replace(self, where={**self.where, barcode: target}, homes=homes)

    def inserted(self, barcode: str) -> Places:
        """From the shelf into a mail slot, or into a slot when those are full.

        :raises NotFound: no such cartridge.
        :raises Permanent: it is in the library already.
        :raises OperatorNeeded: there is no room.
        """
        place = self._known(barcode)
        if place is not None:
            raise Permanent(f"{barcode} is in the library already, in element {place}")
        target = self.free(ElementKind.MAIL)
        if target is None:
            target = self.free(ElementKind.SLOT)
        if target is None:
            raise OperatorNeeded(f"no room for {barcode}: every mail slot and slot is occupied")
        return self.moved(barcode, None, target)

    def removed(self, barcode: str) -> Places:
        """From a mail slot or slot to the shelf.

        :raises NotFound: no such cartridge, or it is on the shelf.
        :raises Permanent: it is in a drive, where no hand reaches.
        """
        place = self._known(barcode)
        if place is None:
            raise NotFound(f"{barcode} is on the shelf already")
        if self.shape.kind(place) is ElementKind.DRIVE:
            raise Permanent(f"{barcode} is in drive {place}; eject it first")
        return self.moved(barcode, place, None)

    def added(self, barcode: str, *, on_shelf: bool) -> Places:
        """A new, blank cartridge; one that is known stays where it is.

        :raises Permanent: there is no free slot.
        """
        if barcode in self.where:
            return self
        slot = None if on_shelf else self.free(ElementKind.SLOT)
        if slot is None and not on_shelf:
            raise Permanent(
                f"simulated library: no slot for {barcode}; give it more slots or fewer cartridges"
            )
        return replace(self, where={**self.where, barcode: slot})

    def reshaped(self, shape: Shape) -> Places:
        """The same cartridges in a library of another size.

        :raises Permanent: an element that would be gone is occupied.
        """
        for barcode, place in self.where.items():
            if place is not None and shape.kind(place) is None:
                raise Permanent(f"simulated library: element {place} would be gone, but {barcode} is in it")
        return replace(self, shape=shape)

    def _known(self, barcode: str) -> int | None:
        if barcode not in self.where:
            raise NotFound(f"there is no cartridge {barcode}")
        return self.where[barcode]


class PlacesFile:
    """``library.json``: looked at for every question, because hands may be another process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "library.json"
        self._lock = FileLock(folder / ".library.lock")

    def read(self) -> Places:
        """What is where now; an empty library when there is none yet."""
        with translated(f"read {self._path}"):
            try:
                stored: dict[str, Any] | None = read_json(self._path)
                if stored is None:
                    return Places(Shape())
                return Places(Shape(**stored["shape"]), stored["where"], stored["homes"])
            except (ValueError, TypeError, KeyError) as error:
                raise Corrupt(f"{self._path} is unreadable: {error!r}") from error

    @contextmanager
    def changing(self) -> Iterator[list[Places]]:
        """A list of one: replace its item to change the file. Serialised among processes."""
        with translated(f"change {self._path}"), self._lock.held():
            now = self.read()
            box = [now]
            yield box
            if box[0] != now:
                replace_json(self._path, asdict(box[0]))

    def exists(self) -> bool:
        return self._path.exists()


def is_cleaning(barcode: str) -> bool:
    """Whether it is a cleaning cartridge, which is nobody's volume."""
    return barcode.startswith("CLN")


def _element(kind: ElementKind, address: int, barcode: str | None) -> Element:
    if barcode is not None and is_cleaning(barcode):
        return Element(kind, address, None, f"cleaning cartridge {barcode}")
    return Element(kind, address, barcode)
