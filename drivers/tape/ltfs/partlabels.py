"""The labels of an LTFS volume's two partitions, and which of them is damaged (LTFS Format Specification 2.4,
"Label Construct"). Pure.

Each partition begins with a VOL1 record of 80 characters, a filemark, and the LTFS label in XML. ltfs mounts
nothing unless it can read both and they agree, and ltfsck mends neither. All that was written is behind them
still: mkltfs would be the end of it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, fields

RECORDS = (0, 2)
"""The blocks of the two records; the filemark is between them."""
VOL1_BYTES, LABEL_BYTES_MAX = 80, 4096
PARTITIONS = ("the index partition (0)", "the data partition (1)")
ADVICE = (
    "Never format it (mkltfs): what was written is still there, and ltfsck mends no label. Try it in "
    "another, clean drive; if it says the same there, give it up with `hsm volume lost`: its copies are made "
    "anew from others"
)
_SERIAL = re.compile(r"[A-Z0-9]{6}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class PartitionLabel:
    """What both labels of a volume must say alike."""

    serial: str
    """Volume serial number, six characters."""
    volumeuuid: str
    formattime: str
    blocksize: str
    compression: str


def label_of(vol1: bytes | None, xml: bytes | None) -> PartitionLabel | str:
    """The label of a partition, or what of it is damaged."""
    try:
        return parse(vol1, xml)
    except ValueError as error:
        return str(error)


def by_ltfs(partition: int | None) -> str:
    """What is known where the drive lets nobody but ltfs look.

    :param partition: of which ltfs could not read the label; it looks at 0 first.
    """
    if partition is None:
        return f"the LTFS labels of {PARTITIONS[0]} and {PARTITIONS[1]} do not agree: one of them is damaged"
    other = "is whole" if partition else "was not looked at"
    return (
        f"the LTFS label of {PARTITIONS[partition]} is damaged; that of {PARTITIONS[1 - partition]} {other}"
    )


def parse(vol1: bytes | None, xml: bytes | None) -> PartitionLabel:
    """The label of a partition, of its two records; None: that one cannot be read.

    :raises ValueError: it is damaged; what of it.
    """
    if vol1 is None or xml is None:
        raise ValueError(f"its {'VOL1 record' if vol1 is None else 'XML'} cannot be read")
    if vol1[:4] != b"VOL1" or vol1[24:28] != b"LTFS" or len(vol1) < VOL1_BYTES:
        raise ValueError("its VOL1 record is not one of LTFS")
    serial = vol1[4:10].decode("ascii", "replace")
    if _SERIAL.fullmatch(serial) is None:
        raise ValueError(f"its serial number is {serial!r}")
    said = _xml(xml)
    if _UUID.fullmatch(said["volumeuuid"].lower()) is None:
        raise ValueError(f"its volumeuuid is {said['volumeuuid']!r}")
    return PartitionLabel(serial, **said)


def damage(labels: Sequence[PartitionLabel | str], serial: str = "", uuid: str = "") -> str:
    """Which of the two labels is damaged, in words; empty when both are whole and agree.

    :param labels: of the index and of the data partition; a text says why there is none.
    :param serial: what the volume's serial number should be, by its barcode; empty: not known.
    :param uuid: what its LTFS UUID should be, by the cartridge's memory; empty: not known.
    """
    first, second = (_or_why_not(label, serial, uuid) for label in labels)
    if isinstance(first, PartitionLabel):
        return _difference(first, second) if isinstance(second, PartitionLabel) else _one(1, second, first)
    if isinstance(second, PartitionLabel):
        return _one(0, first, second)
    return f"the LTFS labels of both partitions are damaged (index: {first}; data: {second})"


def _or_why_not(label: PartitionLabel | str, serial: str, uuid: str) -> PartitionLabel | str:
    """A label that contradicts what is known of the cartridge is damaged too."""
    if isinstance(label, str):
        return label
    if serial and label.serial != serial:
        return f"its serial number is {label.serial!r}, expected {serial!r}"
    if uuid and label.volumeuuid.lower() != uuid.lower():
        return f"its volumeuuid is {label.volumeuuid}, the cartridge's memory says {uuid}"
    return label


def _one(bad: int, why: str, whole: PartitionLabel) -> str:
    return (
        f"the LTFS label of {PARTITIONS[bad]} is damaged ({why}); that of {PARTITIONS[1 - bad]} is whole: "
        f"serial number {whole.serial}, LTFS volume {whole.volumeuuid}"
    )


def _difference(first: PartitionLabel, second: PartitionLabel) -> str:
    differing = [
        f"{each.name} {getattr(first, each.name)} and {getattr(second, each.name)}"
        for each in fields(PartitionLabel)
        if getattr(first, each.name) != getattr(second, each.name)
    ]
    if not differing:
        return ""
    return (
        f"the LTFS labels of {PARTITIONS[0]} and {PARTITIONS[1]} do not agree ({'; '.join(differing)}): "
        "one of them is damaged"
    )


def _xml(record: bytes) -> dict[str, str]:
    """The elements that count. :raises ValueError: it is not such an XML."""
    if len(record) > LABEL_BYTES_MAX or b"<!" in record:
        raise ValueError("its XML is not that of a label")
    try:
        root = ElementTree.fromstring(record.rstrip(b"\0").decode("utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"its XML cannot be read: {error}") from error
    if root.tag != "ltfslabel":
        raise ValueError(f"its XML is a {root.tag!r}")
    names = [each.name for each in fields(PartitionLabel) if each.name != "serial"]
    found = {name: (root.findtext(name) or "").strip() for name in names}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise ValueError(f"its XML has no {missing[0]}")
    return found
