"""One export, from instances that a retrieval hands out to a finished file-set in a folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drivers.optical.dicomdir import file_set_id
from drivers.optical.fileset import FileSet
from hsm.errors import Permanent
from hsm.export.anonymise import Anonymiser
from hsm.model import InstanceRef
from hsm.ranges import Range

ANONYMISED_BYTES_MAX = 2 << 30
"""An instance is in memory as a whole while it is anonymised."""

_PLAIN = """\
This medium holds DICOM images and documents of {studies}, {instances}.

Open it with any DICOM viewer: let it read the file DICOMDIR, or the folder DICOM.

To check that nothing has changed: in this folder, run   sha256sum -c SHA256SUMS

Made by the archive {archive} on {date}.
"""
_ANONYMISED = """\

The objects are de-identified by the Basic Application Level Confidentiality Profile (DICOM PS3.15, E.2):
names, numbers, dates, free text and private elements were removed or replaced, and UIDs replaced, the
same everywhere on this medium. Not covered: the pixels were not looked at. {burned}
A face can be reconstructed from some CT and MR series.
"""
_BURNED = "{count} of {total} objects do not say that no text is burnt into their pixels: look at them."
_NOT_BURNED = "Every object with pixels says that no text is burnt into them."


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be on the medium besides the studies."""

    archive: str
    date: str
    """For the README, as people write it."""
    anonymise: bool = False


@dataclass
class Composer:
    """Puts instances into ``root`` one by one; :meth:`finish` makes it a file-set."""

    root: Path
    wish: Wish
    random: Callable[[int], bytes] = os.urandom
    instances: int = 0
    size: int = 0
    burned: int = 0
    _studies: dict[str, int] = field(default_factory=dict)
    _series: dict[str, tuple[int, int]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        identity = uuid.UUID(bytes=self.random(16), version=4)
        self._anonymiser = Anonymiser(self.random(32)) if self.wish.anonymise else None
        self.set_id = file_set_id(f"DICOM_{identity.hex[:8]}")
        self._set = FileSet(self.root, self.set_id, f"2.25.{identity.int}")

    @property
    def unlisted(self) -> list[str]:
        """Files that the directory cannot name."""
        return self._set.unlisted

    def add(self, instance: InstanceRef, content: Range) -> None:
        """Write one instance; its bytes are those of the archive, unless they are anonymised.

        :raises Permanent: it cannot be anonymised.
        :raises DriverError: its bytes cannot be read.
        """
        file_id = self._file_id(instance)
        path = self.root.joinpath(*file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("xb") as target:
            if self._anonymiser is None:
                for piece in content.pieces():
                    digest.update(piece)
                    target.write(piece)
            else:
                data = self._anonymised(instance, content, self._anonymiser)
                digest.update(data)
                target.write(data)
            self.size += target.tell()
        self.instances += 1
        self._set.add(file_id, digest.digest())

    def finish(self) -> None:
        """Write the directory, the text for people and the digests; flush everything."""
        studies, count = len(self._studies), self.instances
        text = _PLAIN.format(
            studies="1 study" if studies == 1 else f"{studies} studies",
            instances="1 instance" if count == 1 else f"{count} instances",
            archive=self.wish.archive,
            date=self.wish.date,
        )
        if self._anonymiser is not None:
            burned = _BURNED.format(count=self.burned, total=count) if self.burned else _NOT_BURNED
            text += _ANONYMISED.format(burned=burned)
        self._set.finish(text)

    def _anonymised(self, instance: InstanceRef, content: Range, anonymiser: Anonymiser) -> bytes:
        if content.size > ANONYMISED_BYTES_MAX:
            raise Permanent(
                f"instance {instance.sop_instance_uid} of {content.size} bytes is too large to be "
                f"anonymised; at most {ANONYMISED_BYTES_MAX}"
            )
        try:
            data, burned = anonymiser.apply(content.whole())
        except Permanent as error:
            raise Permanent(f"instance {instance.sop_instance_uid} {error}") from error
        self.burned += burned
        return data

    def _file_id(self, instance: InstanceRef) -> tuple[str, ...]:
        """``DICOM/ST000001/SE000001/IM000001``."""
        study = self._studies.setdefault(instance.study_uid, len(self._studies) + 1)
        key = f"{instance.study_uid}/{instance.series_uid}"
        if key not in self._series:
            number = 1 + sum(each[0] == study for each in self._series.values())
            self._series[key] = (study, number)
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return ("DICOM", f"ST{study:06d}", f"SE{self._series[key][1]:06d}", f"IM{count:06d}")
