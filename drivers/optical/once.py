"""Discs that are written in one go and closed: with UDF beside ISO 9660, or by growisofs.

The file system is genisoimage's. growisofs (dvd+rw-tools) has it made while it burns; xorriso burns an image
that is made before.
"""

from __future__ import annotations

from pathlib import Path

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable
from drivers.optical import xorriso
from drivers.optical.burner import NotBegun, XorrisoBurner

GROWISOFS, XORRISO = "growisofs", "xorriso"
ISO9660, UDF = "iso9660", "udf"
FILE_BYTES_MAX = (4 << 30) - 1
"""genisoimage writes no file in several extents."""


class OnceBurner(XorrisoBurner):
    """A burner whose discs are written once."""

    file_bytes_max: int | None = FILE_BYTES_MAX

    def __init__(self, device: str, speed: int | None, *, program: str, udf: bool) -> None:
        super().__init__(device, speed)
        self._program, self._udf = program, udf

    def burn(self, tree: Path, name: str, *, close: bool) -> None:
        """Write ``tree`` onto a blank disc and close it.

        :raises NotBegun: the disc was not touched.
        :raises Permanent: the burn failed.
        """
        if not close:
            raise Permanent(f"burn {name}: such a disc is written once, and closed")
        if self._program == GROWISOFS:
            grow(self.device.removeprefix("stdio:"), tree, name, udf=self._udf, speed=self._speed)
            return
        image = tree.parent / "disc.iso"
        image.unlink(missing_ok=True)
        try:
            xorriso.make_image(tree, image, name, level=3, udf=self._udf)
        except DriverError as error:
            image.unlink(missing_ok=True)
            raise NotBegun(f"nothing was burnt: {error}") from error
        try:
            xorriso.burn_image(self.device, image, self._speed)
        finally:
            image.unlink(missing_ok=True)


def growisofs_command(device: str, tree: Path, name: str, *, udf: bool, speed: int | None) -> list[str]:
    """growisofs(1): ``-Z`` begins a disc, ``-dvd-compat`` closes it; the rest is genisoimage's."""
    command = ["growisofs", "-dvd-compat", "-Z", device]
    command += [f"-speed={speed}"] if speed is not None else []
    command += ["-quiet", "-rational-rock", "-joliet", "-iso-level", "3", "-volid", name]
    return [*command, *(["-udf"] if udf else []), str(tree)]


def grow(device: str, tree: Path, name: str, *, udf: bool, speed: int | None) -> None:
    """Burn ``tree`` with growisofs.

    :raises NotBegun: growisofs is not installed.
    :raises Permanent: the burn failed.
    """
    command = growisofs_command(device, tree, name, udf=udf, speed=speed)
    try:
        xorriso.finish(command, xorriso.BURN_SECONDS_MAX, f"burn {name} in {device}")
    except OperatorNeeded as error:
        raise NotBegun(f"{error}; it is in the package dvd+rw-tools") from error
    except Retryable as error:
        raise Permanent(str(error)) from error
