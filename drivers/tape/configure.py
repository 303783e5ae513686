"""Tape libraries out of the options of the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drivers import options as opt
from drivers.errors import OperatorNeeded, Permanent
from drivers.tape import elements
from drivers.tape.bay import FORMATS, LTFS, PLAIN, Bay, Format
from drivers.tape.changer import Changer, ChangerLimits
from drivers.tape.devices import by_serial
from drivers.tape.io import Io, LinuxIo, ScsiDevice
from drivers.tape.label import BLOCK_BYTES_MAX, BLOCK_BYTES_MIN
from drivers.tape.library import DRIVE_ADDRESS, TapeLibrary
from drivers.tape.ltfs import commands
from drivers.tape.manual import ManualLibrary
from drivers.tape.tapedrive import DriveLimits, TapeDrive

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def open_mtx(options: Mapping[str, Any], io: Io | None = None) -> TapeLibrary:
    """A library of the options of the family ``mtx``.

    ``changer`` is its serial number or a path (``/dev/hsm/changer-...``, ``/dev/sg5``). ``drives`` maps
    mtx's drive numbers to serial numbers or paths of tape devices; without it the changer is asked which
    drive is where. Nothing is touched before it is needed.
    """
    io = io or LinuxIo()
    wanted = opt.text(options, "changer") or ""
    if not wanted:
        raise Permanent("driver mtx: option changer is missing")
    limits = ChangerLimits(move=opt.factor(options, "move_seconds", ChangerLimits().move))
    changer = LateChanger(io, wanted, limits)
    return TapeLibrary(
        opt.text(options, "name") or wanted.rsplit("/", 1)[-1],
        io,
        changer,
        _bay_finder(options, io),
        slots=_slots(options),
        auto_clean=_flag(options, "auto_clean", default=True) is not False,
    )


def open_manual(options: Mapping[str, Any], io: Io | None = None) -> ManualLibrary:
    """A library of the options of the family ``manual``: ``drives`` is a list (or a mapping from numbers) of
    serial numbers or paths of tape devices."""
    machine = io or LinuxIo()
    named = _named_drives(options)
    if not named:
        raise Permanent("driver manual: option drives names no drive")
    form, make = _format(options), _drive_maker(options, machine)

    def find() -> dict[int, Bay]:
        devices = machine.devices()
        return {
            number: Bay(DRIVE_ADDRESS + number, make(_device(devices, name)), form)
            for number, name in named.items()
        }

    return ManualLibrary(opt.text(options, "name") or "manual", find)


class LateChanger(Changer):
    """A changer that is looked for by its serial number before each use."""

    def __init__(self, io: Io, wanted: str, limits: ChangerLimits) -> None:
        super().__init__(io, wanted, limits)
        self._machine, self._serial = io, "" if wanted.startswith("/") else wanted

    def _try(self, argv: list[str], timeout: float, what: str) -> Any:
        if self._serial:
            found = by_serial(self._machine.devices(), "changer", self._serial)
            if found.generic is None:
                raise OperatorNeeded(f"changer {self._serial} has no SCSI generic device; load the sg module")
            argv = [found.generic if word == self.device else word for word in argv]
            self.device = found.generic
        return super()._try(argv, timeout, what)


def _bay_finder(options: Mapping[str, Any], io: Io) -> Callable[[Changer], dict[int, Bay]]:
    named = _named_drives(options)
    form, make = _format(options), _drive_maker(options, io)

    def find(changer: Changer) -> dict[int, Bay]:
        devices = tuple(device for device in io.devices() if device.kind == "tape")
        if named:
            found = {number: _device(devices, name) for number, name in named.items()}
        else:
            found = _asked(changer, devices)
        return {number: Bay(DRIVE_ADDRESS + number, make(device), form) for number, device in found.items()}

    return find


def _asked(changer: Changer, devices: Iterable[ScsiDevice]) -> dict[int, ScsiDevice]:
    """Drives by what the changer says; never by the order in which they were found.

    :raises OperatorNeeded: the changer names none that is attached.
    """
    known = {device.serial: device for device in devices if device.serial}
    identities = changer.drive_identities()
    found = elements.match(identities, tuple(known))
    if not found:
        said = ", ".join(identity or "nothing" for identity in identities) or "nothing"
        raise OperatorNeeded(
            f"the changer {changer.device} says of its drives: {said}; attached are: "
            f"{', '.join(sorted(known)) or 'none'}. Name them in the option drives, as "
            "{0: SERIAL, 1: SERIAL} (mtx's numbers; load a cartridge and see with mt which drive has it)"
        )
    return {number: known[serial] for number, serial in found.items()}


def _device(devices: Iterable[ScsiDevice], name: str) -> ScsiDevice:
    """By path or serial number."""
    if name.startswith("/"):
        real = (name, os.path.realpath(name))  # /dev/hsm/drive-SERIAL is a link
        found = next((d for d in devices if d.tape in real or d.generic in real), None)
        return found or ScsiDevice("tape", "", name, None)
    return by_serial(devices, "tape", name)


def _drive_maker(options: Mapping[str, Any], io: Io) -> Callable[[ScsiDevice], TapeDrive]:
    limits = DriveLimits(
        load=opt.factor(options, "load_seconds", DriveLimits().load),
        eject=opt.factor(options, "eject_seconds", DriveLimits().eject),
    )
    compression = _flag(options, "compression", default=None)

    def make(device: ScsiDevice) -> TapeDrive:
        if device.tape is None:
            raise OperatorNeeded(f"drive {device.serial} has no tape device; load the st module")
        serial = device.serial
        return TapeDrive(
            io,
            device.tape,
            device.generic,
            serial,
            compression=compression,
            limits=limits,
            find=(lambda: by_serial(io.devices(), "tape", serial)) if serial else None,
        )

    return make


def _format(options: Mapping[str, Any]) -> Format:
    given = options.get("pool_blocks", {})
    if not isinstance(given, Mapping):
        raise Permanent(f"option pool_blocks: {given!r}; expected sizes under names of pools")
    pools = {str(pool): opt.size(given, pool) or 0 for pool in given}
    named, pool_forms = _forms(options)
    form = Format(
        block_bytes=opt.size(options, "block_bytes") or Format().block_bytes,
        pool_block_bytes=pools,
        capacity_bytes=opt.size(options, "capacity_bytes"),
        ring_bytes=opt.size(options, "ring_bytes") or Format().ring_bytes,
        form=named,
        pool_forms=pool_forms,
        ltfs=_ltfs(options, named, pool_forms),
        keys=_keys(options),
    )
    for pool in form.keys:
        if form.form_of(pool) != PLAIN:
            raise Permanent(
                f"option pool_keys: pool {pool!r} has the format {form.form_of(pool)}; keys are for "
                "plain volumes"
            )
    for size in (form.block_bytes, *pools.values()):
        if not BLOCK_BYTES_MIN <= size <= BLOCK_BYTES_MAX or size % 512:
            raise Permanent(
                f"a tape block of {size} bytes; expected {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}, "
                "a multiple of 512"
            )
    return form


def _forms(options: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The format of new volumes, and those of pools that want another one."""
    given = options.get("pool_formats", {})
    if not isinstance(given, Mapping):
        raise Permanent(f"option pool_formats: {given!r}; expected formats under names of pools")
    pools = {str(pool): opt.text(given, pool) or PLAIN for pool in given}
    form = opt.text(options, "format", PLAIN) or PLAIN
    for named in (form, *pools.values()):
        if named not in FORMATS:
            raise Permanent(f"option format: {named!r}; expected {' or '.join(FORMATS)}")
    return form, pools


def _keys(options: Mapping[str, Any]) -> dict[str, str]:
    given = options.get("pool_keys", {})
    if isinstance(given, Mapping) and all(
        isinstance(path, str) and path.startswith("/") for path in given.values()
    ):
        return {str(pool): path for pool, path in given.items()}
    raise Permanent("option pool_keys: expected absolute paths of key files under names of pools")


def _ltfs(options: Mapping[str, Any], form: str, pools: Mapping[str, str]) -> commands.Commands | None:
    """None where no LTFS is named anywhere."""
    if LTFS in (form, *pools.values()) or options.get("ltfs") is not None:
        return commands.from_options(options)
    return None


def _named_drives(options: Mapping[str, Any]) -> dict[int, str]:
    given = options.get("drives")
    if given is None:
        return {}
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    if isinstance(given, Mapping) and all(
        str(number).isdigit() and isinstance(name, str) and name for number, name in given.items()
    ):
        return {int(number): name for number, name in given.items()}
    raise Permanent(f"option drives: {given!r}; expected serial numbers or paths under the numbers of drives")


def _slots(options: Mapping[str, Any]) -> frozenset[int] | None:
    """``"1-20, 30"``, or a list of numbers."""
    given = options.get("slots")
    if given is None:
        return None
    if isinstance(given, list | tuple):
        given = ",".join(str(each) for each in given)
    found: set[int] = set()
    for part in str(given).split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise Permanent(f'option slots: {part.strip()!r}; expected numbers and ranges, as "1-20, 30"')
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def _flag(options: Mapping[str, Any], name: str, *, default: bool | None) -> bool | None:
    value = options.get(name, default)
    if value is None or isinstance(value, bool):
        return value
    raise Permanent(f"option {name}: {value!r}; expected true or false")
