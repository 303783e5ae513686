"""Optical libraries out of the options of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from drivers import options as opt
from drivers.base import Library
from drivers.errors import Permanent
from drivers.optical.bay import DiscBay, DiscDrive, Writing
from drivers.optical.images import CHANGER, ImageIo
from drivers.optical.media import Medium, medium
from drivers.optical.once import GROWISOFS, ISO9660, UDF, XORRISO
from drivers.tape.bay import Bay
from drivers.tape.changer import ChangerLimits
from drivers.tape.configure import LateChanger
from drivers.tape.io import Io, LinuxIo
from drivers.tape.library import DRIVE_ADDRESS, TapeLibrary
from drivers.tape.manual import ManualLibrary

MEDIUM = "BD-R"


class ImageJukebox(TapeLibrary):
    """Image files for discs; its hands are :class:`drivers.base.SimulatedHands`."""

    images: ImageIo

    def hand_insert(self, barcode: str) -> None:
        """See :meth:`drivers.base.SimulatedHands.hand_insert`."""
        self.images.hand_insert(barcode)

    def hand_remove(self, barcode: str) -> None:
        """See :meth:`drivers.base.SimulatedHands.hand_remove`."""
        self.images.hand_remove(barcode)


def open_optical(options: Mapping[str, Any], io: Io | None = None) -> Library:
    """A library of the options of the family ``optical``: a jukebox (``changer``, ``drives``), burners and a
    person with a spindle of blank discs (``drives`` alone), or image files (``images``)."""
    writing = _writing(options)
    if options.get("images") is not None:
        return _open_images(options, writing)
    devices = _devices(options)
    bays = {
        number: _bay(number, device.rsplit("/", 1)[-1], lambda device=device: device, writing)  # type: ignore[misc]
        for number, device in devices.items()
    }
    wanted = opt.text(options, "changer")
    if wanted is None:
        # A bay of discs has all that these libraries ask of one of tapes.
        return ManualLibrary(opt.text(options, "name") or "optical", lambda: cast("dict[int, Bay]", bays))
    machine = io or LinuxIo()
    limits = ChangerLimits(move=opt.factor(options, "move_seconds", ChangerLimits().move))
    return TapeLibrary(
        opt.text(options, "name") or wanted.rsplit("/", 1)[-1],
        machine,
        LateChanger(machine, wanted, limits),
        lambda _: cast("dict[int, Bay]", bays),
        auto_clean=False,
    )


def _open_images(options: Mapping[str, Any], writing: Writing) -> Library:
    folder = Path(opt.text(options, "images") or "")
    if not folder.is_absolute():
        raise Permanent(f"option images: {folder}; expected an absolute path")
    given = opt.names(options, "discs")
    discs = (
        [f"DISC{number:03d}" for number in range(1, (given or 0) + 1)] if isinstance(given, int) else given
    )
    drives = opt.count(options, "drives", 1) or 1
    slots = opt.count(options, "slots", 1) or max(8, len(discs or ()))
    images = ImageIo(
        folder, discs or (), drives=drives, slots=slots, mail_slots=opt.count(options, "mail_slots") or 2
    )
    bays = {
        number: _bay(number, f"{folder.name}-{number}", lambda number=number: images.image(number), writing)  # type: ignore[misc]
        for number in range(drives)
    }
    library = ImageJukebox(
        opt.text(options, "name") or folder.name,
        images,
        LateChanger(images, CHANGER, ChangerLimits()),
        lambda _: cast("dict[int, Bay]", bays),
        auto_clean=False,
    )
    library.images = images
    return library


def _bay(number: int, name: str, device: Callable[[], str | None], writing: Writing) -> DiscBay:
    return DiscBay(DRIVE_ADDRESS + number, DiscDrive(name, device), writing)


def _writing(options: Mapping[str, Any]) -> Writing:
    kind = medium(opt.text(options, "medium", MEDIUM) or MEDIUM)
    capacity = opt.size(options, "capacity_bytes")
    if capacity is not None:
        kind = Medium(kind.name, capacity, min(kind.session, capacity // 50))
    spool = Path(opt.text(options, "spool") or "")
    if not spool.is_absolute():
        raise Permanent(
            f"option spool: {str(spool)!r}; expected the absolute path of a folder for what waits"
        )
    append = options.get("append", True)
    if not isinstance(append, bool):
        raise Permanent(f"option append: {append!r}; expected true or false")
    pools = options.get("pool_append", {})
    if not isinstance(pools, Mapping) or not all(isinstance(value, bool) for value in pools.values()):
        raise Permanent(f"option pool_append: {pools!r}; expected true or false under names of pools")
    writing = Writing(
        kind,
        spool,
        opt.size(options, "spool_bytes"),
        append,
        {str(pool): value for pool, value in pools.items()},
        opt.count(options, "speed", 1),
        _choice(options, "burner", (XORRISO, GROWISOFS)),
        _choice(options, "file_system", (ISO9660, UDF)),
    )
    _require_once(writing, options)
    return writing


def check(options: Mapping[str, Any]) -> None:
    """Whether the values can be meant; nothing is opened.

    :raises Permanent: one cannot be.
    """
    _writing(options)
    if options.get("images") is None:
        _devices(options)


def _require_once(writing: Writing, options: Mapping[str, Any]) -> None:
    """:raises Permanent: discs that are written once are to be appended to, or cannot be written so."""
    if not writing.once:
        return
    by_growisofs = writing.burner == GROWISOFS
    what = f"burner: {GROWISOFS}" if by_growisofs else f"file_system: {UDF}"
    if writing.append or any(writing.pool_append.values()):
        raise Permanent(
            f"option {what}: such discs are written in one session and closed; set append: false, and no "
            "pool_append to true"
        )
    if by_growisofs and writing.medium.name == "CD":
        raise Permanent(f"option {what}: growisofs writes DVD and BD only; use xorriso for a CD")
    if by_growisofs and options.get("images") is not None:
        raise Permanent(f"option {what}: image files are written by xorriso; growisofs needs a burner")


def _choice(options: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    """One of ``known``; the first one without."""
    value = options.get(name, known[0])
    if value not in known:
        raise Permanent(f"option {name}: {value!r}; expected {' or '.join(known)}")
    return str(value)


def _devices(options: Mapping[str, Any]) -> dict[int, str]:
    given = options.get("drives")
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    if (
        isinstance(given, Mapping)
        and given
        and all(str(number).isdigit() and str(path).startswith("/") for number, path in given.items())
    ):
        return {int(number): str(path) for number, path in given.items()}
    raise Permanent(
        f"option drives: {given!r}; expected paths of burners (/dev/sr0) under the changer's numbers of them"
    )
