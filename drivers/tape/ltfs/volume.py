"""Who an LTFS volume is: our label file in its root. Pure.

LTFS has a serial number of six characters and a UUID of its own, and no place for ours. The label file names
both, so that a label that was copied to another cartridge with the rest of its files is found out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from drivers.base import VolumeLabel
from drivers.errors import Permanent

LABEL_NAME = "hsm-volume.json"
PACKAGES = "packages"
"""The folder of what was put; nothing else on the volume counts."""
INCOMING = ".incoming"
NOTES_NAME = "hsm-notes.txt"
"""The notes (:mod:`drivers.notes`), a line each: LTFS gives back no commit message of a former mount."""
NOTES_BYTES_MAX = 1 << 20
LABEL_BYTES_MAX = 64 << 10
_FORMAT, _VERSION = "hsm-ltfs-volume", 1
_SERIAL = re.compile(r"[A-Z0-9]{6}")
_READ_ME = (
    "A volume of an archive of medical images. packages/ holds POSIX tar files; each has its SHA-256 in the "
    "extended attribute ltfs.hash.sha256sum (getfattr -n user.ltfs.hash.sha256sum FILE)."
)


@dataclass(frozen=True, slots=True)
class LtfsLabel:
    """Who an LTFS volume of ours is."""

    volume: VolumeLabel
    ltfs_uuid: str
    """LTFS's own volume UUID, given by mkltfs."""


def serial_of(barcode: str) -> str:
    """LTFS's volume serial number: the six characters before the media identifier of an LTO barcode.

    :raises Permanent: it does not begin with six of A-Z and 0-9.
    """
    if _SERIAL.fullmatch(barcode[:6]) is None:
        raise Permanent(
            f"{barcode}: LTFS takes cartridges whose barcode begins with six characters of A-Z and 0-9 only"
        )
    return barcode[:6]


def encode(label: LtfsLabel) -> bytes:
    """The bytes of the label file."""
    said = {
        "format": _FORMAT,
        "version": _VERSION,
        "barcode": label.volume.barcode,
        "uuid": label.volume.uuid,
        "pool": label.volume.pool,
        "ltfs_uuid": label.ltfs_uuid,
        "read me": _READ_ME,
    }
    return (json.dumps(said, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def decode(data: bytes) -> LtfsLabel:
    """:raises ValueError: it is damaged, or of a version that this software does not know."""
    try:
        said = json.loads(data)
        if (said["format"], said["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format {said['format']!r} version {said['version']!r}")
        volume = VolumeLabel(str(said["barcode"]), str(said["uuid"]), str(said["pool"]))
        return LtfsLabel(volume, str(said["ltfs_uuid"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"malformed: {error!r}") from error
