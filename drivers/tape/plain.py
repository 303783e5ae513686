"""The plain tape format on an open drive: label, append point, last index.

Layout: tape file 0 is the label (:mod:`drivers.tape.label`), every further tape file is one object or an
index (:mod:`drivers.tape.index`). An index counts when its filemark is behind it. Nothing that lies
before the last filemark is ever overwritten, so a crash costs dead bytes and never an older index.

Functions here move the tape and raise ``OSError`` as the device does.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from drivers.errors import Corrupt, Retryable
from drivers.tape import index as indexes
from drivers.tape.index import Entry, Index
from drivers.tape.io import Handle, Op
from drivers.tape.label import (
    FIRST_BLOCK,
    LABEL_BYTES_MAX,
    Content,
    Found,
    PlainLabel,
    describe,
    is_our_header,
    label_records,
    parse_label,
)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a volume holds, and where to go on writing."""

    end: int
    """Logical block behind the last filemark."""
    end_file: int
    """Number of the tape file that begins there."""
    generation: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    unindexed: int = 0
    """Tape files behind the last index: written in a session that did not end; they do not count."""
    stray: bool = False
    """There are records behind the last filemark: a write was cut short."""
    broken: str = ""
    """Why nothing may be appended; empty when all is well."""
    notes: tuple[str, ...] = ()


def identify(handle: Handle) -> Found:
    """Rewind and say what the cartridge is; the head is somewhere in tape file 0 then.

    :raises OSError: the beginning of the tape cannot be read: it is not known to be blank.
    """
    handle.op(Op.REWIND)
    try:
        first = handle.read(LABEL_BYTES_MAX)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return Found(Content.FOREIGN, f"data in records of more than {LABEL_BYTES_MAX} bytes")
        if error.errno == errno.EIO and _is_end(handle, 0):
            return Found(Content.BLANK, "blank")
        raise
    if not first:
        if handle.tell() == 0:
            return Found(Content.BLANK, "blank")
        return Found(
            Content.FOREIGN, "a tape that begins with a file mark; another system may have data there"
        )
    if not is_our_header(first):
        return describe(first)
    try:
        second = handle.read(LABEL_BYTES_MAX)
    except OSError as error:
        if error.errno != errno.EIO or not _is_end(handle, 1):
            raise
        second = b""
    return parse_label(first, second)


def write_label(handle: Handle, label: PlainLabel) -> None:
    """Make the cartridge ours: everything that was on it is gone. Read back before it counts.

    :raises Corrupt: what was read back is not what was written.
    """
    handle.op(Op.REWIND)
    for record in label_records(label):
        require_whole(handle.write(record), len(record), label.volume.barcode)
    handle.op(Op.WEOF, 1)
    require_position(handle, FIRST_BLOCK, f"label {label.volume.barcode}")
    found = identify(handle)
    if found.label != label:
        raise Corrupt(f"the label of {label.volume.barcode} was written and reads back as {found.words}")


def recover(handle: Handle, label: PlainLabel) -> Recovered:
    """Find the last filemark and the last index before it.

    :raises OSError: the end of the tape cannot be found at all.
    """
    try:
        handle.op(Op.EOM)
        end_of_data = handle.tell()
        # To behind the last filemark: the label's at least.
        handle.op(Op.BSF, 1)
        handle.op(Op.FSF, 1)
        end = handle.tell()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return _forward(handle, label)
    return _backward(handle, label, end, stray=end_of_data != end)


def read_file(handle: Handle, block_bytes: int) -> bytes:
    """The rest of the tape file that the head is in; the head is behind its filemark then."""
    records = []
    while record := handle.read(block_bytes):
        records.append(record)
    return b"".join(records)


def require_position(handle: Handle, expected: int, what: str) -> None:
    """:raises Retryable: the drive is elsewhere: something was not written, or somebody moved the tape."""
    at = handle.tell()
    if at != expected:
        raise Retryable(
            f"{what}: the drive is at block {at}, expected {expected}; what was written is not counted"
        )


def require_whole(written: int, size: int, name: str) -> None:
    """:raises Retryable: the drive took less than a whole record."""
    if written != size:
        raise Retryable(f"{name}: the drive took {written} of a record of {size} bytes")


def _backward(handle: Handle, label: PlainLabel, end: int, *, stray: bool) -> Recovered:
    """From the last filemark back to the last index: the tape file before it, unless there was a crash."""
    behind, unindexed, unreadable = end, 0, ""
    while behind > FIRST_BLOCK:
        handle.op(Op.SEEK, behind)
        handle.op(Op.BSF, 2)
        handle.op(Op.FSF, 1)
        start = handle.tell()
        if start >= behind:
            raise Corrupt(
                f"{label.volume.barcode}: the drive does not go back over filemarks at block {behind}"
            )
        found, problem = _read_index(handle, label, start)
        if found is not None:
            return _recovered(found, end, unindexed, stray, unreadable)
        unreadable = unreadable or problem
        behind, unindexed = start, unindexed + 1
    return Recovered(end, unindexed + 1, unindexed=unindexed, stray=stray, broken=unreadable)


def _forward(handle: Handle, label: PlainLabel) -> Recovered:
    """From the label on to where reading ends; for a tape whose end of data was lost in a power cut."""
    end, file, last, last_file, broken = FIRST_BLOCK, 1, None, 0, ""
    while True:
        try:
            handle.op(Op.SEEK, end)
            found, problem = _read_index(handle, label, end)
            if found is not None:
                last, last_file = found, file
            handle.op(Op.SEEK, end)
            handle.op(Op.FSF, 1)
            broken = broken or problem
            end = handle.tell()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            if not handle.status().end_of_data:
                broken = broken or f"the tape cannot be read behind block {end}"
            break
        file += 1
    if last is None:
        return Recovered(end, file, unindexed=file - 1, stray=True, broken=broken)
    return _recovered(last, end, file - 1 - last_file, True, broken)


def _recovered(found: Index, end: int, unindexed: int, stray: bool, broken: str) -> Recovered:
    return Recovered(
        end,
        found.file + 1 + unindexed,
        found.generation,
        dict(found.entries),
        unindexed,
        stray,
        broken,
        found.notes,
    )


def _is_end(handle: Handle, block: int) -> bool:
    """Whether the end of data is at this block: a read that fails there is no error. The driver tells such
    failures apart only when it spaces."""
    handle.op(Op.EOM)
    return handle.tell() == block


def _read_index(handle: Handle, label: PlainLabel, start: int) -> tuple[Index | None, str]:
    """The index that begins here, or why there may be one that cannot be read."""
    where = f"the tape file at block {start} of {label.volume.barcode}"
    try:
        first = handle.read(label.block_bytes)
        if not indexes.is_index(first):
            return None, ""
        data = first + read_file(handle, label.block_bytes)
        return indexes.decode(data, label.volume.uuid, start), ""
    except ValueError as error:
        return None, f"{where} is an index that is damaged: {error}"
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOMEM):
            raise
        return None, f"{where} cannot be read ({error.strerror}); it may be the last index"
