"""Optical discs: a jukebox or a person with a spindle, burners, and file-sets that any DICOM viewer reads.

How it fits together, from below: :mod:`~drivers.optical.xorriso` burns and looks;
:mod:`~drivers.optical.burner` is a drive with a disc in it (:mod:`~drivers.optical.once` one whose discs
are written in one go); :mod:`~drivers.optical.spool` what waits for the
next burn; :mod:`~drivers.optical.store` the disc as a Store; :mod:`~drivers.optical.bay` a drive of a
library. The libraries are those of tape (:mod:`drivers.tape.library`, :mod:`drivers.tape.manual`): a disc
is moved as a cartridge is. What is pure stands apart: :mod:`~drivers.optical.index`,
:mod:`~drivers.optical.media`, :mod:`~drivers.optical.dicomdir`, :mod:`~drivers.optical.records`,
:mod:`~drivers.optical.recorded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import Family, Library


def _open_library(options: Mapping[str, Any]) -> Library:
    from drivers.optical.configure import open_optical

    return open_optical(options)


def _check(options: Mapping[str, Any]) -> None:
    from drivers.optical.configure import check

    check(options)


FAMILY = Family(
    name="optical",
    options=frozenset(
        {
            "name",
            "changer",
            "drives",
            "move_seconds",
            "medium",
            "capacity_bytes",
            "spool",
            "spool_bytes",
            "append",
            "pool_append",
            "speed",
            "images",
            "discs",
            "slots",
            "mail_slots",
            "burner",
            "file_system",
        }
    ),
    required=frozenset({"spool"}),
    open_library=_open_library,
    kind="optical",
    check=_check,
)
