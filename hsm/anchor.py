"""An anchor: number and digest of the journal's last record at some time, kept outside the catalog. Pure.

Whoever has one can tell later whether the journal was written anew: record ``seq`` must still carry
``digest``. On media it is one line of JSON (docs/package-format.md).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from drivers.base import DIGEST_BYTES, check_key

FORMAT, VERSION = "hsm-anchor", 1
FOLDER = "anchors"
"""Where they lie in pools that need no drive: ``anchors/<seq, twelve digits>.json``."""
BYTES_MAX = 4096
_KEY = re.compile(rf"{FOLDER}/([0-9]{{12,18}})\.json")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the journal of an archive ended with."""

    archive: str
    """Its AE title."""
    seq: int
    digest: bytes
    at: datetime

    def __post_init__(self) -> None:
        if self.seq < 1 or len(self.digest) != DIGEST_BYTES or self.at.tzinfo is None:
            raise ValueError(f"anchor: record {self.seq}, {len(self.digest)} bytes of digest, at {self.at}")

    def line(self) -> str:
        """One line of printable ASCII."""
        said = {
            "format": FORMAT,
            "version": VERSION,
            "archive": self.archive,
            "seq": self.seq,
            "sha256": self.digest.hex(),
            "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(said, ensure_ascii=True)

    @property
    def key(self) -> str:
        """Of the object that it is in a pool that needs no drive."""
        return check_key(f"{FOLDER}/{self.seq:012d}.json")


def parse(line: str) -> Anchor | None:
    """None: it is something else, perhaps of another version."""
    try:
        said = json.loads(line)
        if (said["format"], said["version"]) != (FORMAT, VERSION) or type(said["seq"]) is not int:
            return None
        at = datetime.fromisoformat(said["at"])
        return Anchor(str(said["archive"]), said["seq"], bytes.fromhex(said["sha256"]), at)
    except (ValueError, KeyError, TypeError):
        return None


def is_key(key: str) -> bool:
    """Whether an object is an anchor, by its key."""
    return _KEY.fullmatch(key) is not None
