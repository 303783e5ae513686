"""What is on a disc, and the files of ours that say so. Pure."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field

from drivers.optical.dicomdir import NAME, Entry, build, file_set_id
from drivers.optical.fileset import README
from drivers.optical.index import INDEX, LABEL, DiscLabel, Object, index_text, label_text

_README = """\
This disc is volume {barcode} ({uuid}) of pool {pool} of a DICOM archive.

The folder DICOM holds DICOM files; open DICOMDIR with any DICOM viewer.
To check them: sha256sum -c SHA256SUMS
HSMINDEX lists the objects (packages) that the archive keeps here, one JSON object a line: key, size and
SHA-256 of the package, a tar file; "files" says which files of this disc stand at which offset of it, with
their sizes, and "rest" which file holds all bytes between them, in order.
OBJECTS/M... is the manifest of each package: patient, study, series, and the digest of every instance.
"""


@dataclass
class Recorded:
    """What is on a disc."""

    objects: dict[str, Object] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    """Of every file, by path, as the list on the disc says."""
    entries: list[Entry] = field(default_factory=list)
    closed: bool = False
    used: int = 0
    notes: tuple[str, ...] = ()


def label_files(label: DiscLabel, recorded: Recorded, closed: bool) -> dict[str, bytes]:
    """The files of ours that every session writes anew, but for the list of digests."""
    volume = label.volume
    text = _README.format(barcode=volume.barcode, uuid=volume.uuid, pool=volume.pool)
    readme = text.replace("\n", "\r\n").encode("latin-1", "replace")
    set_id, set_uid = file_set_id(volume.barcode), file_set_uid(volume.uuid)
    directory = build(recorded.entries, set_id, set_uid, (README,))
    index = index_text(volume.uuid, recorded.objects.values(), closed=closed, notes=recorded.notes)
    return {LABEL: label_text(label), INDEX: index, README: readme, NAME: directory}


def file_set_uid(identity: str) -> str:
    """The volume's UUID as a UID (PS3.5 B.2), so that what a query answers as Storage Media File-Set UID
    (0088,0140) is what stands on the disc; of a label whose identity is no UUID, one made of it."""
    try:
        number = uuid.UUID(identity).int
    except ValueError:
        number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:16], "big")
    return f"2.25.{number}"
