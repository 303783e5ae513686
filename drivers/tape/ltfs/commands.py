"""The commands of an LTFS, and how long they may take: all of it configuration.

A command is a list of words with the names of :data:`PLACES` in braces. The defaults are those of the
reference implementation on its SCSI backend; the file backend, other vendors' builds and other devices need
others.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from drivers import options as opt
from drivers.errors import Permanent

PLACES = ("device", "mountpoint", "serial", "name")
DEVICE_PLACES = ("tape", "generic", "serial")
_SECONDS = ("format_seconds", "mount_seconds", "unmount_seconds", "check_seconds")
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """How an LTFS is used here."""

    mkltfs: Words = ("mkltfs", "-d", "{device}", "-s", "{serial}", "-n", "{name}")
    force: Words = ("-f",)
    """Added to ``mkltfs`` when an admin insists on overwriting."""
    wipe: Words = ("mkltfs", "-w", "-d", "{device}")
    """Makes the cartridge one of a single partition again."""
    mount: Words = ("ltfs", "-f", "-o", "devname={device},sync_type=unmount", "{mountpoint}")
    """Must stay in the foreground."""
    umount: Words = ("umount", "{mountpoint}")
    detach: Words = ("umount", "-l", "{mountpoint}")
    """Takes the mount of a dead ltfs away, whoever looks into it."""
    check: Words = ("ltfsck", "{device}")
    full_check: Words = ("ltfsck", "-f", "{device}")
    deep_check: Words = ("ltfsck", "-z", "{device}")
    sync: Words = ()
    """Writes the index; none: the extended attribute ``ltfs.sync`` is set."""
    device: str = "{generic}"
    """What ltfs calls a drive: made of the drive's st device, its SCSI generic device, its serial number."""
    mountpoints: Path = field(default_factory=lambda: Path("/run/hsm/ltfs"))
    """Where the folders are made on which volumes are mounted, one a drive."""
    format_seconds: float = 3600.0
    mount_seconds: float = 1800.0
    unmount_seconds: float = 3600.0
    """The index is written, and the tape goes to the index partition first."""
    check_seconds: float = 6 * 3600.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, tuple):
                _check_places(each.name, " ".join(value), PLACES)
        _check_places("device", self.device, DEVICE_PLACES)
        for name in ("mkltfs", "wipe", "mount", "umount", "check"):
            if not getattr(self, name):
                raise ValueError(f"option ltfs: {name} is empty")
        if not self.mountpoints.is_absolute():
            raise ValueError(f"option ltfs: mountpoints {str(self.mountpoints)!r} is not an absolute path")

    def device_of(self, tape: str, generic: str | None, serial: str) -> str:
        """What ltfs calls this drive.

        :raises Permanent: it is called by something that the drive does not have, or not by an absolute path:
            a relative one mounts and then fails on its first input or output.
        """
        known = {"tape": tape, "generic": generic or "", "serial": serial}
        name = self.device.format(**known)
        for place, value in known.items():
            if f"{{{place}}}" in self.device and not value:
                raise Permanent(f"ltfs is to call drive {tape} by its {place}, and it has none")
        if self.device != "{serial}" and not name.startswith("/"):
            raise Permanent(f"ltfs is to call drive {tape} {name!r}; expected an absolute path")
        return name


def fill(words: Sequence[str], **places: str) -> list[str]:
    """A command with its places filled in."""
    return [word.format(**dict.fromkeys(PLACES, "") | places) for word in words]


def from_options(options: Mapping[str, Any]) -> Commands:
    """The commands that the option ``ltfs`` describes; what it does not name is as by default.

    :raises Permanent: it is malformed.
    """
    given = options.get("ltfs", {})
    if not isinstance(given, Mapping):
        raise Permanent(f"option ltfs: {given!r}; expected settings by name")
    known = {each.name for each in fields(Commands)}
    unknown = sorted(set(map(str, given)) - known)
    if unknown:
        raise Permanent(f"option ltfs: {', '.join(unknown)} not known; expected {', '.join(sorted(known))}")
    changed: dict[str, Any] = {}
    for name in given:
        if name in _SECONDS:
            changed[name] = opt.factor(given, name, 0.0)
        elif name == "device":
            changed[name] = opt.text(given, name) or ""
        elif name == "mountpoints":
            changed[name] = Path(opt.text(given, name) or "")
        else:
            changed[name] = _words(name, given[name])
    try:
        return replace(Commands(), **changed)
    except ValueError as error:
        raise Permanent(str(error)) from error


def _words(name: str, value: Any) -> Words:
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise Permanent(f"option ltfs: {name}: {value!r}: {error}") from error
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise Permanent(f"option ltfs: {name}: {value!r}; expected a command")


def _check_places(name: str, text: str, places: Sequence[str]) -> None:
    try:
        used = {place for _, place, _, _ in string.Formatter().parse(text) if place is not None}
    except ValueError as error:
        raise ValueError(f"option ltfs: {name}: {text!r}: {error}") from error
    strange = sorted(place for place in used if place not in places or not re.fullmatch(r"[a-z]+", place))
    if strange:
        raise ValueError(
            f"option ltfs: {name}: {{{strange[0]}}} is not known; expected one of {', '.join(places)}"
        )
