"""Finds tape drives and changers by what they say of themselves, never by the order of their names.

sysfs is asked first: the kernel keeps the unit serial number there. Where it does not (old kernels, odd
devices), udev's properties and its links in ``/dev/tape/by-id`` are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from drivers.errors import OperatorNeeded, Permanent
from drivers.tape.io import ScsiDevice

# Peripheral device types of SPC's INQUIRY data.
_TYPES = {"1": "tape", "8": "changer"}


def find_devices(sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> tuple[ScsiDevice, ...]:
    """Every tape drive and changer that has a SCSI generic device."""
    return tuple(_scan(sysfs, dev))


def by_serial(devices: Iterable[ScsiDevice], kind: str, serial: str) -> ScsiDevice:
    """The one device of a kind with this serial number.

    :raises OperatorNeeded: there is none.
    :raises Permanent: there are several.
    """
    devices = [device for device in devices if device.kind == kind]
    found = [device for device in devices if device.serial == serial]
    if not found:
        have = ", ".join(f"{device.serial or '?'} ({device.generic})" for device in devices) or "none"
        raise OperatorNeeded(
            f"no {kind} with the serial number {serial} is attached (there are: {have}); "
            "check its power and cables, and lsscsi -g"
        )
    if len({device.generic for device in found}) > 1:
        paths = ", ".join(str(device.generic) for device in found)
        raise Permanent(
            f"several {kind}s say that their serial number is {serial}: {paths}; name one by path"
        )
    return found[0]


def _scan(sysfs: Path, dev: Path) -> Iterator[ScsiDevice]:
    for entry in sorted((sysfs / "class" / "scsi_generic").glob("sg*")):
        device = entry / "device"
        kind = _TYPES.get(_text(device / "type"))
        if kind is None:
            continue
        tapes = sorted((device / "scsi_tape").glob("nst*[0-9]"))
        tape = str(dev / tapes[0].name) if tapes else None
        generic = str(dev / entry.name)
        serial = _serial_page(device / "vpd_pg80") or _udev_serial(sysfs, entry, dev)
        name = f"{_text(device / 'vendor')} {_text(device / 'model')}".strip()
        yield ScsiDevice(kind, serial, tape, generic, name)


def _serial_page(path: Path) -> str:
    """Vital product data page 80h: a header of four bytes, then the serial number."""
    try:
        page = path.read_bytes()
    except OSError:
        return ""
    return page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip("\0 ")


def _udev_serial(sysfs: Path, entry: Path, dev: Path) -> str:
    if sysfs == Path("/sys"):
        try:
            import pyudev
        except ImportError:
            pass
        else:
            found = pyudev.Devices.from_path(pyudev.Context(), os.path.realpath(entry))
            serial = found.get("ID_SCSI_SERIAL") or found.get("ID_SERIAL_SHORT")
            if serial:
                return str(serial).strip()
    # /dev/tape/by-id/scsi-1VENDOR_PRODUCT_SERIAL
    for link in sorted((dev / "tape" / "by-id").glob("scsi-1*")):
        if os.path.realpath(link) == str(dev / entry.name):
            return link.name.rsplit("_", 1)[-1]
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
