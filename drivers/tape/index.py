"""The index: a tape file that lists all that is on the volume before it. Pure.

JSON lines. The first one says of which volume it is, where it stands, and how many bytes with which
SHA-256 follow; then one line for each object, in the order of the tape. Readable by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drivers.notes import read_notes

FORMAT = "hsm-plain-index"
MAGIC = b'{"format": "hsm-plain-index", '
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One object on the tape."""

    key: str
    size: int
    """Bytes."""
    sha256: str
    """Of the object, in hexadecimal."""
    block: int
    """Logical block number of its first record, for ``mt seek``."""
    file: int
    """Number of its tape file, for ``mt asf``; the label is file 0."""


@dataclass(frozen=True, slots=True)
class Index:
    """What a volume holds, as it was when the index was written."""

    uuid: str
    generation: int
    block: int
    """Where the index itself begins."""
    file: int
    entries: Mapping[str, Entry] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """See :mod:`drivers.notes`; oldest first."""


def encode(index: Index) -> bytes:
    """The bytes of the tape file."""
    body = b"".join(_line(entry) for entry in index.entries.values())
    head: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "volume": index.uuid,
        "generation": index.generation,
        "block": index.block,
        "file": index.file,
        "objects": len(index.entries),
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    if index.notes:
        head["notes"] = list(index.notes)
    return json.dumps(head).encode("ascii") + b"\n" + body


def is_index(record: bytes) -> bool:
    """Whether a tape file that begins with this record is an index."""
    return record.startswith(MAGIC)


def decode(data: bytes, uuid: str, block: int) -> Index:
    """The index in these bytes, which began at ``block`` of volume ``uuid``.

    :raises ValueError: it is cut short, damaged, of another version, or of another volume or place.
    """
    first, newline, body = data.partition(b"\n")
    if not newline:
        raise ValueError("its first line is cut short")
    try:
        head = json.loads(first)
        if head["format"] != FORMAT or head["version"] != VERSION:
            raise ValueError(f"format {head['format']!r} version {head['version']!r}")
        if (head["volume"], head["block"]) != (uuid, block):
            raise ValueError(f"it belongs to block {head['block']} of volume {head['volume']}")
        if head["bytes"] != len(body):
            raise ValueError(f"{len(body)} bytes of {head['bytes']}")
        if head["sha256"] != hashlib.sha256(body).hexdigest():
            raise ValueError("its SHA-256 does not match")
        entries = [_entry(json.loads(line)) for line in body.splitlines()]
        generation, file = int(head["generation"]), int(head["file"])
        notes = read_notes(head.get("notes"))
    except (KeyError, TypeError) as error:
        raise ValueError(f"malformed: {error!r}") from error
    return Index(uuid, generation, block, file, by_key(entries), notes)


def by_key(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries under their keys, in the order of the tape."""
    return {entry.key: entry for entry in sorted(entries, key=lambda entry: entry.block)}


def _line(entry: Entry) -> bytes:
    value = {
        "file": entry.file,
        "block": entry.block,
        "size": entry.size,
        "sha256": entry.sha256,
        "key": entry.key,
    }
    return json.dumps(value).encode("ascii") + b"\n"


def _entry(value: Mapping[str, object]) -> Entry:
    return Entry(
        str(value["key"]),
        int(str(value["size"])),
        str(value["sha256"]),
        int(str(value["block"])),
        int(str(value["file"])),
    )
