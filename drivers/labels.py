"""What every Library compares before it touches a volume."""

from __future__ import annotations

from drivers.base import VolumeLabel
from drivers.errors import Permanent, WrongVolume


def require_typed(label: VolumeLabel, typed: str) -> None:
    """:raises Permanent: an admin who wants a volume overwritten typed another barcode than its own."""
    if typed != label.barcode:
        raise Permanent(f"overwrite {label.barcode}: {typed!r} was typed; type its barcode to overwrite it")


def require_volume(wanted: VolumeLabel, found: VolumeLabel, drive: str) -> None:
    """:raises WrongVolume: what is in the drive is another volume."""
    if (found.barcode, found.uuid) != (wanted.barcode, wanted.uuid):
        raise WrongVolume(
            f"what carries the barcode {wanted.barcode} in drive {drive} says it is {found.barcode} "
            f"({found.uuid}) of pool {found.pool!r}, expected {wanted.uuid}: nothing was written",
            found.barcode,
        )
