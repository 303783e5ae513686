"""What drives and changer have in common (SPC-4): INQUIRY, mode and log sense, faults, attention."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from tapelib.reservations import Reservations
from tapelib.sense import (
    ILLEGAL_REQUEST,
    NO_SENSE,
    UNIT_ATTENTION,
    CheckCondition,
    field,
    invalid_field,
    number,
)

INQUIRY, REQUEST_SENSE, REPORT_LUNS = 0x12, 0x03, 0xA0
TAPE_ALERT_PAGE = 0x2E
TAPE_ALERT_FLAGS = 64

Command = Callable[[bytes, bytes], "bytes | None"]
PageKey = int | tuple[int, int]
"""A page's code, or its code and subpage code."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What INQUIRY says."""

    vendor: str
    product: str
    revision: str
    serial: str

    @property
    def name(self) -> bytes:
        return self.vendor.ljust(8)[:8].encode() + self.product.ljust(16)[:16].encode()


@dataclasses.dataclass
class Fault:
    """What goes wrong with commands of one operation code; see :meth:`of`."""

    operation: int
    sense: tuple[int, int, int] | None = None
    skip: int = 0
    times: int = 1
    at: tuple[int, int] | None = None
    delay: float = 0.0
    alerts: frozenset[int] = frozenset()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Fault:
        """From the panel: ``op`` the operation code; ``sense`` [key, code, qualifier]; ``skip`` so many
        pass before; ``times`` it strikes; ``at`` only at [partition, block]; ``delay`` seconds;
        ``alerts`` TapeAlert flags raised.
        """
        values = dict(values)
        sense, at = values.pop("sense", None), values.pop("at", None)
        return cls(
            operation=values.pop("op"),
            sense=None if sense is None else (sense[0], sense[1], sense[2]),
            at=None if at is None else (at[0], at[1]),
            alerts=frozenset(values.pop("alerts", ())),
            **values,
        )


class Device:
    """One logical unit. ``handle`` takes a command and returns the bytes for the initiator."""

    device_type = 0
    log_pages: tuple[PageKey, ...] = ()

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.attentions: list[tuple[int, int]] = []
        self.alerts: set[int] = set()
        self.faults: list[Fault] = []
        self.reservations = Reservations(
            lambda nexus, what: self.attentions.append(what) if nexus == "self" else None
        )
        self.commands: dict[int, Command] = {
            0x00: self._test_unit_ready,
            REQUEST_SENSE: self._request_sense,
            INQUIRY: self._inquiry,
            0x1A: lambda cdb, _: self._mode_sense(cdb, ten=False),
            0x5A: lambda cdb, _: self._mode_sense(cdb, ten=True),
            0x1D: lambda cdb, data: None,
            0x4C: lambda cdb, data: None,
            0x4D: self._log_sense,
            0x5E: lambda cdb, _: self.reservations.report(cdb[1] & 0x1F)[: number(cdb[7:9])],
            0x5F: self._reserve_out,
        }

    # What a kind of device says differently.
    def ready(self) -> None:
        """:raises CheckCondition: not ready."""

    def place(self) -> tuple[int, int] | None:
        """Partition and block, where a fault may wait."""
        return None

    def note_failure(self, operation: int) -> None:
        """An injected error hit this command."""

    def mode_pages(self) -> Mapping[PageKey, bytes]:
        return {}

    def mode_header(self) -> tuple[int, int, bytes]:
        """Medium type, device-specific parameter, block descriptor."""
        return 0, 0, b""

    def log_page(self, key: PageKey) -> Mapping[int, bytes]:
        return {}

    def vital_pages(self) -> Mapping[int, bytes]:
        """Vital product data pages of this kind of device."""
        return {}

    # Commands.
    def handle(self, cdb: bytes, data: bytes) -> bytes:
        """:raises CheckCondition: as the standard says. :raises ReservationConflict: by another host."""
        operation = cdb[0]
        self.reservations.check("self", cdb)
        if operation not in (INQUIRY, REQUEST_SENSE, REPORT_LUNS) and self.attentions:
            raise CheckCondition(UNIT_ATTENTION, *self.attentions.pop(0))
        self._strike(operation)
        command = self.commands.get(operation)
        if command is None:
            raise CheckCondition(ILLEGAL_REQUEST, 0x20)
        return command(cdb, data) or b""

    def _strike(self, operation: int) -> None:
        for fault in list(self.faults):
            if fault.operation != operation or (fault.at is not None and fault.at != self.place()):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            self.alerts |= fault.alerts
            time.sleep(fault.delay)
            if fault.sense is not None:
                self.note_failure(operation)
                raise CheckCondition(*fault.sense)

    def _test_unit_ready(self, cdb: bytes, data: bytes) -> None:
        self.ready()

    def _request_sense(self, cdb: bytes, data: bytes) -> bytes:
        if self.attentions:
            return CheckCondition(UNIT_ATTENTION, *self.attentions.pop(0)).sense[: cdb[4]]
        return CheckCondition(NO_SENSE, 0).sense[: cdb[4]]

    def _reserve_out(self, cdb: bytes, data: bytes) -> None:
        if len(data) < 24:
            raise CheckCondition(ILLEGAL_REQUEST, 0x1A)
        self.reservations.out("self", cdb[1] & 0x1F, cdb[2] & 15, number(data[0:8]), number(data[8:16]))

    def _inquiry(self, cdb: bytes, data: bytes) -> bytes:
        page, length = cdb[2], number(cdb[3:5])
        if not cdb[1] & 1:
            if page:
                raise invalid_field()
            answer = bytearray(74)
            answer[0:5] = bytes((self.device_type, 0x80, 6, 2, 69))
            answer[7] = 2
            answer[8:32] = self.identity.name
            answer[32:36] = self.identity.revision.ljust(4)[:4].encode()
            return bytes(answer)[:length]
        serial = self.identity.serial.encode()
        pages = {0x80: serial, 0x83: self._designators(serial), **self.vital_pages()}
        pages[0] = bytes((0, *sorted(pages)))
        if page not in pages:
            raise invalid_field()
        body = pages[page]
        return (bytes((self.device_type, page)) + field(len(body), 2) + body)[:length]

    def _designators(self, serial: bytes) -> bytes:
        vendor_id = self.identity.name + serial
        naa = field(0x5000E11 << 36 | number(serial[-8:]) & (1 << 36) - 1, 8)
        return bytes((2, 1, 0, len(vendor_id))) + vendor_id + bytes((1, 3, 0, 8)) + naa

    def _mode_sense(self, cdb: bytes, *, ten: bool) -> bytes:
        page, subpage = cdb[2] & 0x3F, cdb[3]
        pages = {key if isinstance(key, tuple) else (key, 0): body for key, body in self.mode_pages().items()}
        if page == 0x3F:
            body = b"".join(pages[key] for key in sorted(pages) if subpage == 0xFF or not key[1])
        elif (page, subpage) in pages:
            body = pages[page, subpage]
        elif page == 0:
            body = b""
        else:
            raise invalid_field()
        medium, specific, descriptor = self.mode_header()
        if cdb[1] & 8:
            descriptor = b""
        if ten:
            head = field(6 + len(descriptor) + len(body), 2) + bytes((medium, specific, 0, 0))
            return (head + field(len(descriptor), 2) + descriptor + body)[: number(cdb[7:9])]
        head = bytes((3 + len(descriptor) + len(body), medium, specific, len(descriptor)))
        return (head + descriptor + body)[: cdb[4]]

    def _log_sense(self, cdb: bytes, data: bytes) -> bytes:
        page, subpage, length = cdb[2] & 0x3F, cdb[3], number(cdb[7:9])
        key: PageKey = (page, subpage) if subpage else page
        if key == 0:
            body = bytes([0, *(known for known in self.log_pages if isinstance(known, int))])
        elif key not in self.log_pages:
            raise invalid_field()
        else:
            body = self._log_body(key)
            if page == TAPE_ALERT_PAGE and length >= 4 + len(
                body
            ):  # a look at the length only clears nothing
                self.alerts.clear()
        return (bytes((page | (0x40 if subpage else 0), subpage)) + field(len(body), 2) + body)[:length]

    def _log_body(self, key: PageKey) -> bytes:
        if key == TAPE_ALERT_PAGE:
            values: Mapping[int, bytes] = {
                flag: bytes((flag in self.alerts,)) for flag in range(1, TAPE_ALERT_FLAGS + 1)
            }
        else:
            values = self.log_page(key)
        return b"".join(
            field(code, 2) + bytes((0x40 if len(value) <= 8 else 0x03, len(value))) + value
            for code, value in sorted(values.items())
        )
