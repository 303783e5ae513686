"""What mkltfs, ltfs and ltfsck mean by what they print and by how they exit. Pure.

Every line of theirs begins, behind an optional thread number, with ``LTFSnnnnnX``: a number and I, W, E or D.
An E by itself does not mean failure (30061E comes with every run of the file backend), and neither does an
exit status: ``ltfsck`` gives 1 for a healthy volume, ``mkltfs --wipe`` 1 when it has wiped, ``ltfs`` 0 when
FUSE has failed. So each answer is looked for by its number. Seen with version 2.4.8 of the reference
implementation; other vendors' builds share the numbers.
"""

from __future__ import annotations

import enum
import re

from drivers.errors import Corrupt, DriverError, OperatorNeeded, Permanent, Retryable, WrongVolume

_LINE = re.compile(r"^(?:[0-9a-f]+ )?(LTFS[A-Z]?\d{4,5}[A-Z])\b ?(.*)$")

UNMOUNTED = "LTFS11034I"
_NOT_UNMOUNTED = "LTFS11033E"
_FORMATTED, _ALREADY = "LTFS15024I", ("LTFS15047E", "LTFS15048I")
_WIPED = "LTFS15040I"
_CONSISTENT = "LTFS16022I"
_BLANK = "LTFS17168E"
_NO_LABELS = "LTFS11009E"
_LABEL_OF = {"LTFS11170E": 0, "LTFS11171E": 1}
"""That the label of a partition cannot be read, and the number of the reason."""
_LABELS_DIFFER = "LTFS11172E"
_LABEL_INVALID = "(-1012)"
"""The reason is what stands there; any other one is that the drive cannot read."""
_NO_DEVICE = ("LTFS10004E", "LTFS11004E", "LTFS12012E")
_NO_MEDIUM = ("LTFS11331E", "LTFS30047E")
_NO_MOUNTPOINT = ("LTFS14094E", "LTFS14093E")
_NO_END = ("LTFS17146E", "LTFS17148E")
_INDEX_DAMAGED = ("LTFS11194W", "LTFS11195W", "LTFS11196W", "LTFS11197E")
"""Not XML, of another volume, or with pointers that lead nowhere: the other partition may have a good one."""
_DRIVE_FAILED = re.compile(r"LTFS(12|30)\d{3}E")
"""The tape layer and its backends: a drive that cannot read says nothing about the index."""
_UNCLEAN = ("LTFS11220E", "LTFS11027E", "LTFS16087E", "LTFS16021E", *_NO_END)
_MEMORY_UNKNOWN = "LTFS12062W"
_READ_ONLY = ("LTFS14019I", "LTFS14071I", "LTFS14073I", "LTFS14074I", "LTFS14077I", "LTFS14078I")
_PROTECTED = ("LTFS11095E",)
_FUSE_FAILED = ("LTFS14123W",)
_QUIET = frozenset({"LTFS30061E"})
"""Errors that come with every run and mean nothing."""
_WORDS_MAX = 400


class Step(enum.IntEnum):
    """What to try next with a volume that does not mount; each is tried once and in this order."""

    MOUNT = 0
    CHECK = 1
    """``ltfsck``: restores the newest index, leaves what lies behind it where it is."""
    FULL = 2
    """``ltfsck -f``: also brings what lies behind the index into ``_ltfs_lostandfound``."""
    DEEP = 3
    """``ltfsck -z``: finds an end of data that was lost; blocks behind the last index may be given up."""
    GIVE_UP = 4


def codes(text: str) -> dict[str, str]:
    """The first line under each message number."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is not None:
            found.setdefault(match[1], match[2])
    return found


def complaint(text: str) -> str:
    """Errors and warnings in one line, bounded, for a message."""
    found = codes(text)
    told = [f"{code} {words}" for code, words in found.items() if code[-1] in "EW" and code not in _QUIET]
    last = text.strip().splitlines()[-1:]
    return ("; ".join(told) or (last[0] if last and not told else "it said nothing"))[:_WORDS_MAX]


def is_unclean(text: str) -> bool:
    """Whether a mount was refused because the volume must be checked first: it was not unmounted cleanly, or
    its index was read and is damaged."""
    found = codes(text).keys() - _QUIET
    if not found.isdisjoint(_UNCLEAN):
        return True
    return not found.isdisjoint(_INDEX_DAMAGED) and not any(map(_DRIVE_FAILED.match, found))


def next_step(done: Step, text: str) -> Step:
    """What to try after ``done``, of which ``text`` is what the mount said that followed it.

    Never a step that was not needed: a volume that is merely unclean gets the plain check. A lost end of data
    goes to the deep one, which is the only one that can help.
    """
    if not is_unclean(text):
        return Step.GIVE_UP
    if not codes(text).keys().isdisjoint(_NO_END) and done < Step.DEEP:
        return Step.DEEP
    return Step(min(done + 1, Step.GIVE_UP))


def formatted(status: int, text: str, what: str) -> None:
    """:raises DriverError: mkltfs did not format the medium."""
    found = codes(text)
    if status == 0 and _FORMATTED in found:
        return
    if not found.keys().isdisjoint(_ALREADY):
        raise WrongVolume(f"{what}: it is formatted as LTFS already; left alone")
    if not found.keys().isdisjoint(_PROTECTED):
        raise Permanent(f"{what}: its write-protect tab is set")
    if status == 16:
        raise Permanent(f"{what}: mkltfs does not take these arguments: {complaint(text)}")
    raise Retryable(f"{what}: mkltfs ended with status {status}: {complaint(text)}")


def wiped(status: int, text: str, what: str) -> None:
    """``mkltfs --wipe`` exits with 1 when it has done it.

    :raises DriverError: it has not.
    """
    if _WIPED not in codes(text):
        raise Retryable(f"{what}: mkltfs --wipe ended with status {status}: {complaint(text)}")


def checked(status: int, text: str) -> bool:
    """Whether ltfsck leaves a consistent volume: status 0 (nothing done) or 1 (checked or corrected)."""
    return status in (0, 1) and _CONSISTENT in codes(text)


def memory_unknown(text: str) -> bool:
    """Whether ltfsck did not know the coherency information again that LTFS has written into the cartridge's
    memory (:mod:`drivers.tape.ltfs.coherency`)."""
    return _MEMORY_UNKNOWN in codes(text)


def unmounted(text: str, what: str) -> None:
    """:raises Retryable: ltfs does not say that the last index is on the medium (its status is 0 anyway)."""
    found = codes(text)
    if UNMOUNTED not in found or _NOT_UNMOUNTED in found:
        raise Retryable(
            f"{what}: ltfs did not say that the index was written ({complaint(text)}); what was flushed "
            "before is safe, and the volume is checked when it is mounted again"
        )


def read_only(text: str) -> str:
    """Why the volume was mounted read-only, in ltfs's words; empty when it was not."""
    found = codes(text)
    return next((f"{found[code]} ({code})" for code in _READ_ONLY if code in found), "")


def labels_damaged(text: str) -> bool:
    """Whether a mount was refused for what stands in the labels of the two partitions."""
    found = codes(text)
    return _LABELS_DIFFER in found or any(_LABEL_INVALID in found.get(code, "") for code in _LABEL_OF)


def partition_with_bad_label(text: str) -> int | None:
    """Of which partition ltfs could not read the label: of 0 it is the first that it looks at, of 1 the other
    one's is whole. None: they do not agree, or it says nothing of labels."""
    found = codes(text)
    return next((partition for code, partition in _LABEL_OF.items() if code in found), None)


def mount_error(text: str, what: str) -> DriverError:
    """Why ltfs ended without mounting the volume."""
    found = codes(text).keys()
    if _BLANK in found:
        return WrongVolume(f"{what}: it is not an LTFS volume (blank, or not partitioned)")
    if _NO_LABELS in found:
        return Retryable(
            f"{what}: the drive cannot read its LTFS labels: {complaint(text)}; try another drive"
        )
    if not found.isdisjoint(_NO_MEDIUM):
        return OperatorNeeded(f"{what}: no cartridge is loaded")
    if not found.isdisjoint(_NO_DEVICE):
        return OperatorNeeded(f"{what}: ltfs finds no such drive; {complaint(text)}")
    if not found.isdisjoint(_NO_MOUNTPOINT):
        return Permanent(f"{what}: the mountpoint is not there")
    if not found.isdisjoint(_FUSE_FAILED) or "fuse" in text.lower():
        return Retryable(f"{what}: FUSE failed (mountpoint busy or not empty, or an unknown option?)")
    if is_unclean(text):
        return Corrupt(f"{what}: its index cannot be restored: {complaint(text)}")
    return Retryable(f"{what}: {complaint(text)}")
