"""A changer with drives, without the devices: answers mtx, mt, sg_logs and sg_raw as those do.

For tests and demonstrations. The texts are those of mtx 1.3.12; the binary answers those of SMC and SPC.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivers.errors import NotFound, Permanent
from drivers.tape import memory
from drivers.tape.fake import FakeDrive, FakeHandle, Tape
from drivers.tape.io import Completed, ScsiDevice

CHANGER = "/dev/sg9"
_OK = Completed(0, b"", "")


@dataclass
class FakeIo:
    """See :class:`drivers.tape.io.Io`. Drives, slots and mail slots, and the tapes in them."""

    tapes: dict[str, Tape] = field(default_factory=dict)
    slots: dict[int, str | None] = field(default_factory=dict)
    """Barcodes under mtx's numbers, mail slots among them; the last ``mail_slots`` are those."""
    mail_slots: int = 1
    drives: list[FakeDrive] = field(default_factory=list)
    homes: dict[int, int] = field(default_factory=dict)
    loaded: dict[int, str] = field(default_factory=dict)
    """What the robot has put into which drive."""
    serials: tuple[str, ...] = ()
    """Of the drives; numbered ones when there are none."""
    cabling: tuple[int, ...] = ()
    """Which drive is behind /dev/nst0, /dev/nst1 and so on; the same order when empty."""
    shows_labels_in_drives: bool = True
    names_its_drives: bool = True
    complaints: list[str] = field(default_factory=list)
    """Sense data, as mtx prints them: the next commands to the changer fail with these, one each."""
    before: Callable[[Sequence[str]], None] | None = None
    """Called before every command: where hands reach in."""
    encrypts: bool = True
    """The drives can, and stenc is installed."""
    log_pages: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Under drive and page."""
    recommends: int = 0
    """How many segments of a recommended access order the drives take; 0: they do not know the command."""
    recommended: bytes = b""
    """The descriptors of the last one: from the end of the tape to its beginning."""
    ran: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def open(self, path: str, *, write: bool) -> FakeHandle:
        return self.drives[self._drive_at(path)].open(write=write)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        self.ran.append(" ".join(argv))
        if self.before is not None:
            self.before(argv)
        program = argv[0]
        if program == "mtx":
            if self.complaints:
                return Completed(1, b"", self.complaints.pop(0))
            return self._mtx(list(argv[3:]))
        if program == "mt":
            return self._offline(self._drive_at(argv[2]))
        if program == "sg_logs":
            return self._log_page(self._drive_at(argv[-1]), int(argv[1].partition("=")[2], 16))
        if program == "sg_raw":
            return self._raw(list(argv))
        if program == "stenc" and self.encrypts:
            return self._stenc(list(argv))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", program)

    def devices(self) -> tuple[ScsiDevice, ...]:
        drives = [
            ScsiDevice("tape", self._serial(drive), f"/dev/nst{place}", f"/dev/sg{place}", "IBM ULT3580-TD8")
            for place, drive in enumerate(self._cabling())
        ]
        return (*drives, ScsiDevice("changer", "CHANGER1", None, CHANGER, "IBM 3573-TL"))

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def monotonic(self) -> float:
        return self.seconds

    def power_cut(self, survivors: int | None = None) -> None:
        """Everything loses power; what was written and not synced may be gone."""
        for drive in self.drives:
            drive.power_cut(survivors)

    def hand_insert(self, barcode: str, slot: int | None = None) -> None:
        """Put a cartridge into a mail slot, or a slot when those are full.

        :raises NotFound: there is no such cartridge.
        :raises Permanent: it is in the library already.
        """
        if barcode not in self.tapes:
            raise NotFound(f"there is no cartridge {barcode}")
        if barcode in (*self.slots.values(), *self.loaded.values()):
            raise Permanent(f"{barcode} is in the library already")
        order = sorted(self.slots, key=lambda number: (not self._is_mail(number), number))
        free = next(number for number in order if self.slots[number] is None)
        self.slots[free if slot is None else slot] = barcode

    def hand_remove(self, barcode: str) -> None:
        """Take a cartridge out of its slot.

        :raises NotFound: it is not in the library.
        :raises Permanent: it is in a drive, where no hand reaches.
        """
        if barcode in self.loaded.values():
            raise Permanent(f"{barcode} is in a drive")
        if barcode not in self.slots.values():
            raise NotFound(f"{barcode} is not in the library")
        self.slots[self._slot_of(barcode)] = None

    def _is_mail(self, number: int) -> bool:
        return number > len(self.slots) - self.mail_slots

    def _slot_of(self, barcode: str) -> int:
        return next(number for number, held in self.slots.items() if held == barcode)

    def _serial(self, drive: int) -> str:
        return self.serials[drive] if self.serials else f"90WT{drive + 1:06d}"

    def _cabling(self) -> tuple[int, ...]:
        return self.cabling or tuple(range(len(self.drives)))

    def _drive_at(self, path: str) -> int:
        name = path.rsplit("/", 1)[-1]
        place = int(name.removeprefix("nst").removeprefix("sg"))
        if place >= len(self.drives):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self._cabling()[place]

    def _mtx(self, words: list[str]) -> Completed:
        command, numbers = words[0], [int(word) for word in words[1:]]
        if command in ("status", "inventory"):
            return Completed(0, self.status_text().encode() if command == "status" else b"", "")
        if command == "load":
            return self._load(*numbers)
        if command == "unload":
            return self._unload(*numbers)
        return self._transfer(*numbers)

    def _load(self, slot: int, drive: int) -> Completed:
        barcode = self.slots[slot]
        if barcode is None:
            return Completed(1, b"", f"source Element Address {4095 + slot} is Empty\n")
        if drive in self.loaded:
            home = self.homes.get(drive, 0)
            return Completed(1, b"", f"Drive {drive} Full (Storage Element {home} loaded)\n")
        self.slots[slot] = None
        self.loaded[drive], self.homes[drive] = barcode, slot
        self.drives[drive].load(self.tapes[barcode], polls_until_ready=1)
        return _OK

    def _unload(self, slot: int, drive: int) -> Completed:
        if drive not in self.loaded:
            return Completed(1, b"", f"Data Transfer Element {drive} is Empty\n")
        if self.slots[slot] is not None:
            return Completed(1, b"", f"Storage Element {slot} is Already Full\n")
        if self.drives[drive].tape is not None:
            return Completed(1, b"", sense_text("Illegal Request", "53", "02"))
        self.slots[slot] = self.loaded.pop(drive)
        self.drives[drive].lying = None
        self.homes.pop(drive, None)
        return _OK

    def _transfer(self, slot: int, to: int) -> Completed:
        if self.slots[slot] is None:
            return Completed(1, b"", f"source Element Address {4095 + slot} is Empty\n")
        if self.slots[to] is not None:
            return Completed(1, b"", f"destination Element Address {4095 + to} is Already Full\n")
        self.slots[slot], self.slots[to] = None, self.slots[slot]
        return _OK

    def status_text(self) -> str:
        """What ``mtx status`` prints."""
        head = f"{len(self.drives)} Drives, {len(self.slots)} Slots ( {self.mail_slots} Import/Export )"
        lines = [f"  Storage Changer {CHANGER}:{head}"]
        for number in range(len(self.drives)):
            barcode = self.loaded.get(number)
            if barcode is None:
                lines.append(f"Data Transfer Element {number}:Empty")
                continue
            tag = f":VolumeTag = {barcode:32}" if self.shows_labels_in_drives else ""
            lines.append(
                f"Data Transfer Element {number}:Full (Storage Element {self.homes[number]} Loaded){tag}"
            )
        for number, held in sorted(self.slots.items()):
            mail = " IMPORT/EXPORT" if self._is_mail(number) else ""
            tag = "Empty" if held is None else f"Full :VolumeTag={held:32}"
            lines.append(f"      Storage Element {number}{mail}:{tag}")
        return "\n".join(lines) + "\n"

    def _offline(self, drive: int) -> Completed:
        if self.drives[drive].opener is not None:
            return Completed(1, b"", "/dev/nst0: Device or resource busy\n")
        self.drives[drive].lying = self.drives[drive].unload()
        return _OK

    def _log_page(self, drive: int, page: int) -> Completed:
        found = self.log_pages.get((drive, page))
        return Completed(0, found, "") if found is not None else Completed(5, b"", "page not supported\n")

    def _stenc(self, argv: list[str]) -> Completed:
        drive = self.drives[self._drive_at(argv[2])]
        if argv[4] == "off":
            drive.key = None
        else:
            drive.key = bytes.fromhex(Path(argv[argv.index("-k") + 1]).read_text().split("\n")[0])
        return _OK

    def _raw(self, argv: list[str]) -> Completed:
        """A SCSI command: its operation code is the first word behind the device."""
        at = next(place for place, word in enumerate(argv) if word.startswith("/dev/"))
        if argv[at + 1] == "b8":
            return Completed(0, self._element_status(), "")
        drive = self._drive_at(argv[at])
        if argv[at + 1] == "8c":
            return self._memory(drive, argv)
        if argv[at + 1] == "8d":
            given = Path(next(word for word in argv if "--infile=" in word).partition("=")[2]).read_bytes()
            return self._write_memory(drive, int(argv[at + 8], 16), given[4:])
        if argv[at + 1] in ("a3", "a4") and self.recommends:
            return self._recommend(argv, at)
        if argv[at + 1] == "a2" and self.encrypts:
            mode = bytes((0x42, 2, 3, 1)) if self.drives[drive].key else bytes(4)
            return Completed(0, bytes.fromhex("00200014") + mode + bytes(16), "")
        return Completed(5, b"", "illegal request\n")

    def _recommend(self, argv: list[str], at: int) -> Completed:
        """Recommended access order (SSC-5): its limits, a list of segments, or the list in another order."""
        if argv[at + 1] == "a4":
            given = Path(next(word for word in argv if "--infile=" in word).partition("=")[2]).read_bytes()
            found = [given[place : place + 32] for place in range(8, len(given), 32)]
            found.sort(key=lambda segment: segment[16:24], reverse=True)
            self.recommended = b"".join(found)
            return _OK
        if int(argv[at + 2], 16) & 0x80:
            return Completed(0, self.recommends.to_bytes(2, "big") + b"\xff\xff", "")
        return Completed(0, b"\x02\0\0\0" + len(self.recommended).to_bytes(4, "big") + self.recommended, "")

    def _write_memory(self, drive: int, partition: int, body: bytes) -> Completed:
        """One attribute, of either partition."""
        tape, length = self.drives[drive].tape, int.from_bytes(body[3:5], "big")
        if tape is None:
            return Completed(2, b"", "not ready\n")
        tape.memory[int.from_bytes(body[:2], "big")] = body[5 : 5 + length]
        return _OK

    def _memory(self, drive: int, argv: Sequence[str] = ()) -> Completed:
        tape = self.drives[drive].tape
        if tape is None:
            return Completed(2, b"", "not ready\n")
        barcode = self.loaded.get(drive, "")
        values = {
            memory.MANUFACTURER: b"FAKETAPE",
            memory.SERIAL: f"SN{barcode}".ljust(32).encode(),
            memory.KIND: b"\x80" if tape.worm else b"\0",
            **tape.memory,
        }
        body = b"".join(
            name.to_bytes(2, "big") + b"\x80" + len(value).to_bytes(2, "big") + value
            for name, value in sorted(values.items())
        )
        return Completed(0, len(body).to_bytes(4, "big") + body, "")

    def _element_status(self) -> bytes:
        body = b""
        for number in range(len(self.drives)):
            name = (
                f"IBM     ULT3580-TD8     {self._serial(number)}".encode() if self.names_its_drives else b""
            )
            identifier = bytes((2, 1, 0, len(name))) + name
            body += (256 + number).to_bytes(2, "big") + bytes((8, *bytes(9))) + identifier
        length = len(body) // len(self.drives)
        page = bytes((4, 0)) + length.to_bytes(2, "big") + len(body).to_bytes(4, "big") + body
        return bytes((1, 0)) + len(self.drives).to_bytes(2, "big") + len(page).to_bytes(4, "big") + page


def fake_library(
    barcodes: Sequence[str], *, slots: int = 8, mail_slots: int = 2, drives: int = 2, capacity: int = 1 << 40
) -> FakeIo:
    """A library with blank cartridges in its first slots."""
    places: dict[int, str | None] = dict.fromkeys(range(1, slots + mail_slots + 1))
    places |= dict(enumerate(barcodes, start=1))
    return FakeIo(
        tapes={barcode: Tape(capacity) for barcode in barcodes},
        slots=places,
        mail_slots=mail_slots,
        drives=[FakeDrive() for _ in range(drives)],
    )


def sense_text(key: str, code: str, qualifier: str) -> str:
    """Sense data as mtx prints them."""
    return (
        "mtx: Request Sense: Long Report=yes\nmtx: Request Sense: Valid Residual=no\n"
        "mtx: Request Sense: Error Code=70 (Current)\n"
        f"mtx: Request Sense: Sense Key={key}\n"
        f"mtx: Request Sense: Additional Sense Code = {code}\n"
        f"mtx: Request Sense: Additional Sense Qualifier = {qualifier}\n"
        "MOVE MEDIUM from Element Address 4096 to 256 Failed\n"
    )
