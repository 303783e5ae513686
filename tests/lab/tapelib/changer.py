"""The medium changer (SMC-3): MOVE MEDIUM, READ ELEMENT STATUS, element addresses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tapelib.cartridge import Cartridge
from tapelib.device import TAPE_ALERT_PAGE, Device, Identity, PageKey
from tapelib.drive import Drive
from tapelib.sense import ILLEGAL_REQUEST, NOT_READY, CheckCondition, field, invalid_field, number

PICKER, MAIL, DRIVES, SLOTS = 1, 0x10, 0x100, 0x1000
"""The first element address of each type."""

PICKER_TYPE, SLOT_TYPE, MAIL_TYPE, DRIVE_TYPE = 1, 2, 3, 4
FULL, BY_OPERATOR, ACCESSIBLE, CAN_EXPORT, CAN_IMPORT = 0x01, 0x02, 0x08, 0x10, 0x20
SOURCE_VALID, ONE_SIDED = 0x80, 0x01
SERIAL_BYTES = 10

DOOR_OPEN = (NOT_READY, 0x04, 0x18)
SOURCE_EMPTY, DESTINATION_FULL = (ILLEGAL_REQUEST, 0x3B, 0x0E), (ILLEGAL_REQUEST, 0x3B, 0x0D)
NO_SUCH_ELEMENT = (ILLEGAL_REQUEST, 0x21, 0x01)
REMOVAL_PREVENTED, NOT_UNLOADED = (ILLEGAL_REQUEST, 0x53, 0x02), (ILLEGAL_REQUEST, 0x53, 0x01)


class Changer(Device):
    """Slots, mail slots, and an arm; the drives are devices of their own."""

    device_type = 8
    log_pages: tuple[PageKey, ...] = (TAPE_ALERT_PAGE,)

    def __init__(self, identity: Identity, slots: int, mail_slots: int, drives: list[Drive]) -> None:
        super().__init__(identity)
        self.slots, self.mail_slots, self.drives = slots, mail_slots, drives
        addresses = [*range(SLOTS, SLOTS + slots), *range(MAIL, MAIL + mail_slots)]
        self.shelves: dict[int, Cartridge | None] = dict.fromkeys(addresses)
        """Slots and mail slots."""
        self.sources: dict[int, int] = {}
        """Where the cartridge of an element came from."""
        self.by_operator: set[int] = set()
        """Mail slots that a hand filled."""
        self.prevent = False
        self.door_open = False
        self.unloads_drives = True
        """A cartridge is taken out of a drive that was not told to unload."""
        self.move_seconds = 0.0
        self.moved: Callable[[], None] = lambda: None
        """Called when a cartridge is somewhere else."""
        self.commands |= {
            0x07: lambda cdb, data: None,
            0x37: lambda cdb, data: None,
            0xE7: lambda cdb, data: None,
            0x2B: lambda cdb, data: None,
            0x1E: self._prevent_removal,
            0xA5: self._move_medium,
            0xB8: self._read_element_status,
        }

    def mode_pages(self) -> Mapping[PageKey, bytes]:
        types = ((PICKER, 1), (SLOTS, self.slots), (MAIL, self.mail_slots), (DRIVES, len(self.drives)))
        addresses = b"".join(field(first, 2) + field(count, 2) for first, count in types)
        return {
            0x1D: bytes((0x1D, 18)) + addresses + b"\0\0",
            0x1E: bytes((0x1E, 2, 0, 0)),
            0x1F: bytes((0x1F, 18, 0x0E, 0, 0, 0x0E, 0x0E, 0x0E)) + bytes(12),
        }

    def held(self, address: int) -> Cartridge | None:
        """The cartridge there. :raises CheckCondition: no such element."""
        if address in self.shelves:
            return self.shelves[address]
        if 0 <= address - DRIVES < len(self.drives):
            return self.drives[address - DRIVES].cartridge
        raise CheckCondition(*NO_SUCH_ELEMENT)

    def where(self) -> dict[int, str]:
        """Element address -> barcode of all that is held."""
        shelves = {address: cart.barcode for address, cart in self.shelves.items() if cart}
        drives = {
            DRIVES + at: drive.cartridge.barcode for at, drive in enumerate(self.drives) if drive.cartridge
        }
        return shelves | drives

    def lift(self, address: int) -> Cartridge:
        """Take the cartridge out, whoever does it. :raises CheckCondition: there is none."""
        cartridge = self.held(address)
        if cartridge is None:
            raise CheckCondition(*SOURCE_EMPTY)
        if address in self.shelves:
            self.shelves[address] = None
        else:
            self.drives[address - DRIVES].remove()
        self.sources.pop(address, None)
        self.by_operator.discard(address)
        return cartridge

    def lay(self, address: int, cartridge: Cartridge) -> None:
        """Put the cartridge there. :raises CheckCondition: the element is full or not there."""
        if self.held(address) is not None:
            raise CheckCondition(*DESTINATION_FULL)
        if address in self.shelves:
            self.shelves[address] = cartridge
        else:
            self.drives[address - DRIVES].insert(cartridge)

    def _prevent_removal(self, cdb: bytes, data: bytes) -> None:
        self.prevent = bool(cdb[4] & 1)

    def _move_medium(self, cdb: bytes, data: bytes) -> None:
        source, destination = number(cdb[4:6]), number(cdb[6:8])
        moving, there = self.held(source), self.held(destination)
        if self.door_open:
            raise CheckCondition(*DOOR_OPEN)
        if moving is None:
            raise CheckCondition(*SOURCE_EMPTY)
        if there is not None:
            raise CheckCondition(*DESTINATION_FULL)
        time.sleep(self.move_seconds)
        if source not in self.shelves:
            drive = self.drives[source - DRIVES]
            if drive.prevent:
                raise CheckCondition(*REMOVAL_PREVENTED)
            if drive.loaded and not self.unloads_drives:
                raise CheckCondition(*NOT_UNLOADED)
        self.lay(destination, self.lift(source))
        self.sources[destination] = source
        self.moved()

    def _read_element_status(self, cdb: bytes, data: bytes) -> bytes:
        if self.door_open:
            raise CheckCondition(*DOOR_OPEN)
        wanted, first, most = cdb[1] & 15, number(cdb[2:4]), number(cdb[4:6])
        with_tag, with_identifier = bool(cdb[1] & 0x10), bool(cdb[6] & 1)
        elements = {
            PICKER_TYPE: [PICKER],
            SLOT_TYPE: list(range(SLOTS, SLOTS + self.slots)),
            MAIL_TYPE: list(range(MAIL, MAIL + self.mail_slots)),
            DRIVE_TYPE: list(range(DRIVES, DRIVES + len(self.drives))),
        }
        if wanted and wanted not in elements:
            raise invalid_field()
        reported: list[int] = []
        pages = b""
        for kind in [wanted] if wanted else elements:
            chosen = [address for address in elements[kind] if address >= first][: most - len(reported)]
            if not chosen:
                continue
            reported += chosen
            body = b"".join(self._descriptor(kind, at, with_tag, with_identifier) for at in chosen)
            head = bytes((kind, 0x80 if with_tag else 0)) + field(len(body) // len(chosen), 2)
            pages += head + field(len(body), 4) + body
        answer = field(min(reported, default=0), 2) + field(len(reported), 2) + field(len(pages), 4) + pages
        return answer[: number(cdb[7:10])]

    def _descriptor(self, kind: int, address: int, with_tag: bool, with_identifier: bool) -> bytes:
        """SMC-3, 6.11: one element; ``with_identifier`` (DVCID) says who a drive is."""
        cartridge = None if kind == PICKER_TYPE else self.held(address)
        flags = FULL if cartridge else 0
        if kind != PICKER_TYPE:
            flags |= ACCESSIBLE
        if kind == MAIL_TYPE:
            flags |= CAN_EXPORT | CAN_IMPORT | (BY_OPERATOR if address in self.by_operator else 0)
        answer = field(address, 2) + bytes((flags, 0, 0, 0, 0, 0, 0))
        if cartridge and address in self.sources:
            answer += bytes((SOURCE_VALID | ONE_SIDED,)) + field(self.sources[address], 2)
        else:
            answer += bytes((ONE_SIDED if cartridge else 0, 0, 0))
        if with_tag:
            readable = cartridge is not None and cartridge.memory.readable_barcode
            answer += (cartridge.barcode if cartridge and readable else "").encode().ljust(32) + bytes(4)
        if with_identifier:
            answer += self._drive_identifier(address) if kind == DRIVE_TYPE else bytes(4)
        return answer

    def _drive_identifier(self, address: int) -> bytes:
        """A T10 vendor designator: vendor, product, serial number."""
        identity = self.drives[address - DRIVES].identity
        name = identity.name + identity.serial.encode().ljust(SERIAL_BYTES)[:SERIAL_BYTES]
        return bytes((2, 1, 0, len(name))) + name
