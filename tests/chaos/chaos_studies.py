"""What modalities send: instances whose bytes say what they are, so that they are known again anywhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass

from hsm.model import Header
from hsm.part10 import file_head
from tests.sim.world import CT_IMAGE, EXPLICIT_LITTLE, header

_MARK = b"CHAOS1 "


@dataclass(frozen=True, slots=True)
class Sent:
    """One instance as it was sent."""

    study: int
    series: int
    number: int
    variant: int
    """Other bytes under the same UID."""
    size: int

    def dataset(self) -> bytes:
        """``size`` bytes: a line that says all this, and filler."""
        line = _MARK + json.dumps(astuple(self)).encode() + b"\n"
        block = hashlib.sha256(line).digest()
        return (line + block * (self.size // len(block) + 1))[: self.size]

    def header(self) -> Header:
        return header(self.study, self.number, self.series)

    @property
    def uid(self) -> str:
        return self.header().sop_instance_uid

    def part10(self) -> bytes:
        """The file as it must come back."""
        return file_head(CT_IMAGE, self.uid, EXPLICIT_LITTLE) + self.dataset()

    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.part10()).digest()


def sent_of(dataset: bytes) -> Sent | None:
    """What a dataset is; None where it is not whole."""
    line, _, _ = dataset.partition(b"\n")
    if not line.startswith(_MARK):
        return None
    try:
        found = Sent(*json.loads(line.removeprefix(_MARK)))
    except (ValueError, TypeError):
        return None
    return found if found.dataset() == dataset else None
