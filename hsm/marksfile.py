"""What people have said of studies, as volumes carry it: deletions, holds, retention, tags, rejections. Pure.

A file of marks is JSON lines (docs/package-format.md): one about the file itself, then one for each study of
which something was said since the file before it on the same volume. Who has all files of some volumes knows
what must not come back from them, although their packages still lie there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drivers.base import DIGEST_BYTES, check_key
from hsm.errors import Corrupt

FORMAT, VERSION = "hsm-marks", 1
FOLDER = "marks"
PIECE_BYTES = 4 << 20
"""A file ends behind the study that reaches this."""
BYTES_MAX = 256 << 20
"""No more is read: one study with a million rejected instances would be as large."""
_KEY = re.compile(rf"{FOLDER}/[0-9a-f]{{8}}-[0-9]{{12,18}}\.[0-9]{{4,8}}\.jsonl")


@dataclass(frozen=True, slots=True)
class Deleted:
    """A study's deletions that were not taken back: what was said of the last, the packages of all."""

    at: datetime
    by: str
    approved_by: str
    reason: str
    due_at: datetime
    refuses: bool
    purged_at: datetime | None
    """When its last copy was let go; None: it was in the trash still."""
    packages: Mapping[str, bytes]
    """Name and SHA-256 of each."""
    code: str = ""
    note: str = ""

    def record(self) -> dict[str, Any]:
        return {
            "at": _said(self.at),
            "by": self.by,
            "approved_by": self.approved_by,
            "reason": self.reason,
            "due_at": _said(self.due_at),
            "refuses": self.refuses,
            "purged_at": _said(self.purged_at) if self.purged_at else "",
            "packages": {name: digest.hex() for name, digest in sorted(self.packages.items())},
            "code": self.code,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Rejected:
    """What one rejection note has hidden of a study."""

    at: datetime
    by: str
    reason: str
    code: str
    note: str
    instances: tuple[tuple[str, int], ...]
    """SOP Instance UID and version of each."""

    def record(self) -> dict[str, Any]:
        said = {"at": _said(self.at), "by": self.by, "reason": self.reason, "code": self.code}
        return said | {"note": self.note, "instances": [list(each) for each in self.instances]}


@dataclass(frozen=True, slots=True)
class Held:
    """A legal hold that stands."""

    at: datetime
    by: str
    reason: str

    def record(self) -> dict[str, Any]:
        return {"at": _said(self.at), "by": self.by, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class StudyMarks:
    """All that is said of one study; of what is not here the opposite is said."""

    study: str
    deleted: Deleted | None = None
    held: Held | None = None
    retain_until: str = ""
    tags: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()

    def record(self) -> dict[str, Any]:
        """In plain values; what is empty is left out."""
        said: dict[str, Any] = {
            "deleted": self.deleted.record() if self.deleted else None,
            "held": self.held.record() if self.held else None,
            "retain_until": self.retain_until,
            "tags": list(self.tags),
            "rejected": [each.record() for each in self.rejected],
        }
        return {"study": self.study} | {name: value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Stand:
    """Of when marks are."""

    archive: str
    """The archive's AE title."""
    journal: bytes
    """Which journal the numbers are of: the digest of its first record, or of its last restore."""
    to: int
    """Number of the last record that was heeded."""
    at: datetime

    def __post_init__(self) -> None:
        if self.to < 1 or len(self.journal) != DIGEST_BYTES or self.at.tzinfo is None:
            raise ValueError(f"marks: record {self.to}, {len(self.journal)} bytes of digest, at {self.at}")

    def newer_than(self, other: Stand) -> bool:
        """Within one journal by its numbers, whatever the clock was; else by the clock."""
        return self.to > other.to if self.journal == other.journal else self.at > other.at

    def record(self) -> dict[str, Any]:
        said = {"archive": self.archive, "journal": self.journal.hex()}
        return said | {"to": self.to, "at": _said(self.at)}

    def key(self, piece: int) -> str:
        """Of the file with this number, from 1, as an object of a volume."""
        return check_key(f"{FOLDER}/{self.journal.hex()[:8]}-{self.to:012d}.{piece:04d}.jsonl")


def is_key(key: str) -> bool:
    """Whether an object is a file of marks, by its key."""
    return _KEY.fullmatch(key) is not None


def files(stand: Stand, marks: Iterable[StudyMarks]) -> Iterator[bytes]:
    """The files that say this, in order; each can be read by itself."""
    lines: list[bytes] = []
    size = 0
    for each in marks:
        lines.append(json.dumps(each.record(), ensure_ascii=True, sort_keys=True).encode("ascii") + b"\n")
        size += len(lines[-1])
        if size >= PIECE_BYTES:
            yield _file(stand, lines)
            lines, size = [], 0
    if lines:
        yield _file(stand, lines)


def _file(stand: Stand, lines: list[bytes]) -> bytes:
    body = b"".join(lines)
    head = {"format": FORMAT, "version": VERSION, **stand.record(), "studies": len(lines)}
    head["sha256"] = hashlib.sha256(body).hexdigest()
    return json.dumps(head, ensure_ascii=True).encode("ascii") + b"\n" + body


def parse(data: bytes) -> tuple[Stand, list[StudyMarks]]:
    """What a file says.

    :raises Corrupt: it is no such file, of another version, or not all of it is as it was written.
    """
    head, _, body = data.partition(b"\n")
    try:
        said = json.loads(head)
        if (said["format"], said["version"]) != (FORMAT, VERSION):
            raise Corrupt(f"{said['format']!r}, version {said['version']!r}: expected {FORMAT} {VERSION}")
        if hashlib.sha256(body).hexdigest() != said["sha256"]:
            raise Corrupt("its lines are not those that its first line is of (sha256)")
        stand = read_stand(said)
        return stand, [read_marks(json.loads(line)) for line in body.splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"it is no file of marks: {error!r}"[:300]) from error


def read_stand(said: Mapping[str, Any]) -> Stand:
    """:raises ValueError, KeyError, TypeError: it says something else."""
    if type(said["to"]) is not int:
        raise TypeError("to is no number")
    return Stand(str(said["archive"]), bytes.fromhex(said["journal"]), said["to"], _time(said["at"]))


def read_marks(said: Mapping[str, Any]) -> StudyMarks:
    """The opposite of :meth:`StudyMarks.record`.

    :raises ValueError, KeyError, TypeError, AttributeError: it says something else.
    """
    deleted, held = said.get("deleted"), said.get("held")
    return StudyMarks(
        str(said["study"]),
        _deleted(deleted) if deleted else None,
        Held(_time(held["at"]), str(held["by"]), str(held["reason"])) if held else None,
        str(said.get("retain_until", "")),
        tuple(map(str, said.get("tags", ()))),
        tuple(map(_rejected, said.get("rejected", ()))),
    )


def _deleted(said: Mapping[str, Any]) -> Deleted:
    packages = {str(name): bytes.fromhex(digest) for name, digest in said["packages"].items()}
    return Deleted(
        _time(said["at"]),
        str(said["by"]),
        str(said["approved_by"]),
        str(said["reason"]),
        _time(said["due_at"]),
        bool(said["refuses"]),
        _time(said["purged_at"]) if said["purged_at"] else None,
        packages,
        str(said["code"]),
        str(said["note"]),
    )


def _rejected(said: Mapping[str, Any]) -> Rejected:
    return Rejected(
        _time(said["at"]),
        str(said["by"]),
        str(said["reason"]),
        str(said["code"]),
        str(said["note"]),
        tuple((str(uid), int(version)) for uid, version in said["instances"]),
    )


def _said(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at
