"""What an optical volume says of itself: its label and the list of its objects. Pure.

An object that is a POSIX tar is kept as the files that are in it (layout ``fileset``), so that any DICOM
viewer reads them; what is between them (headers, padding) is one file more. The index says where each
piece belongs, so that the same bytes come out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drivers.base import DIGEST_BYTES, VolumeLabel
from drivers.errors import Corrupt
from drivers.notes import read_notes

LABEL, INDEX = "HSMLABEL", "HSMINDEX"
FORMAT, INDEX_FORMAT, VERSION = "hsm-optical", "hsm-optical-index", 1
LABEL_BYTES_MAX = 1 << 16
INDEX_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class DiscLabel:
    """Who a disc is."""

    volume: VolumeLabel


@dataclass(frozen=True, slots=True)
class Piece:
    """A file that holds ``size`` bytes of an object, from ``offset`` on."""

    offset: int
    size: int
    path: str


@dataclass(frozen=True, slots=True)
class Object:
    """One object: its pieces in order, and in ``rest`` the bytes that are in none of them."""

    key: str
    size: int
    digest: bytes
    rest: str
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        at = 0
        for piece in self.pieces:
            if piece.offset < at or piece.size < 0:
                raise ValueError(f"{self.key}: its pieces overlap or are not in order")
            at = piece.offset + piece.size
        if at > self.size or len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"{self.key}: pieces beyond its end, or a digest of {len(self.digest)} bytes")

    def spans(self, offset: int, length: int) -> Iterable[tuple[str, int, int]]:
        """Which (file, offset in it, length) give a range of the object, in order."""
        end, at, rest_at = offset + length, 0, 0
        for piece in (*self.pieces, Piece(self.size, 0, "")):
            for path, start, size, within in (
                (self.rest, at, piece.offset - at, rest_at),
                (piece.path, piece.offset, piece.size, 0),
            ):
                low, high = max(start, offset), min(start + size, end)
                if low < high:
                    yield path, within + low - start, high - low
            rest_at += piece.offset - at
            at = piece.offset + piece.size

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that it is made of."""
        return (self.rest, *(piece.path for piece in self.pieces))


def label_text(label: DiscLabel) -> bytes:
    """The file ``HSMLABEL``."""
    volume = label.volume
    text = {
        "format": FORMAT,
        "version": VERSION,
        "barcode": volume.barcode,
        "uuid": volume.uuid,
        "pool": volume.pool,
    }
    return (json.dumps(text, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def parse_label(raw: bytes) -> DiscLabel:
    """:raises Corrupt: it is not a label of ours."""
    try:
        said = json.loads(raw)
        if (said["format"], said["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {said['format']!r}, version {said['version']!r}")
        return DiscLabel(VolumeLabel(str(said["barcode"]), str(said["uuid"]), str(said["pool"])))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{LABEL} cannot be read: {error!r}") from error


def index_text(uuid: str, objects: Iterable[Object], *, closed: bool, notes: Sequence[str] = ()) -> bytes:
    """The file ``HSMINDEX``: one JSON object a line, first about the disc, then one for each object."""
    head: dict[str, object] = {"format": INDEX_FORMAT, "version": VERSION, "uuid": uuid, "closed": closed}
    if notes:
        head["notes"] = list(notes)
    lines = [json.dumps(head)]
    lines += [
        json.dumps(
            {
                "key": each.key,
                "size": each.size,
                "sha256": each.digest.hex(),
                "rest": each.rest,
                "files": [[piece.offset, piece.size, piece.path] for piece in each.pieces],
            }
        )
        for each in objects
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def parse_index(raw: bytes, uuid: str) -> tuple[list[Object], bool, tuple[str, ...]]:
    """The objects, whether the disc is closed, and its notes (:mod:`drivers.notes`).

    :raises Corrupt: it is damaged, or another volume's.
    """
    try:
        first, *lines = raw.decode("ascii").splitlines()
        head = json.loads(first)
        if (head["format"], head["version"], head["uuid"]) != (INDEX_FORMAT, VERSION, uuid):
            raise ValueError(f"it is of {head['uuid']!r}, format {head['format']!r} {head['version']!r}")
        notes = read_notes(head.get("notes"))
        return [_object(json.loads(line)) for line in lines], bool(head["closed"]), notes
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{INDEX} of volume {uuid} cannot be read: {error!r}") from error


def _object(said: dict[str, object]) -> Object:
    files = said["files"]
    if not isinstance(files, list):
        raise TypeError("files is not a list")
    pieces = tuple(Piece(int(offset), int(size), str(path)) for offset, size, path in files)
    size = said["size"]
    if type(size) is not int:
        raise TypeError("size is not a number")
    return Object(str(said["key"]), size, bytes.fromhex(str(said["sha256"])), str(said["rest"]), pieces)
