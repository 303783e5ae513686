"""A tape library that lives in a folder: a changer, drives and cartridges without the hardware.

What it simulates

- A changer with storage slots, mail slots (import/export elements) and drives, addressed as in SCSI
  SMC; barcoded cartridges; a shelf for those that are not in the library, and the hands that carry
  them (:class:`drivers.base.SimulatedHands`). One robot: its moves happen one after the other.
- Append-only cartridges with a capacity, room kept for the index, objects at growing block numbers.
  As with LTFS, what was put since the last flush or unmount is gone after a crash, what a failed put
  wrote stays as dead bytes, a deleted object's room is not had back, and a flipped byte is read
  without complaint.
- Time: robot moves, load and thread, locate, rewind, unload, streaming and index writes take what
  they take with an LTO-8 drive (:mod:`drivers.simulated.model`), times ``time_factor``.
- Trouble on demand (:mod:`drivers.simulated.faults`): failing operations, an open door, a dead
  drive, damaged, torn, foreign and swapped cartridges.

What it does not

- Compression, repositioning below streaming speed, wear, cleaning, write protection, partitions,
  cartridge memory, several generations, and the room that successive indexes take up on a real tape.
- Two processes driving the library at once. A second process may look at it, act as the hands and
  script faults; only one may mount.

Everything is in the folder and survives ``kill -9``: ``library.json`` says what is where,
``faults.json`` what is to fail, and ``cartridges/BARCODE/`` holds a cartridge's label, its last
index and the bytes in the order they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import Family, Library


def _open(options: Mapping[str, Any]) -> Library:
    from drivers.simulated.library import open_library

    return open_library(options)


FAMILY = Family(
    name="simulated",
    options=frozenset(
        {
            "folder",
            "slots",
            "mail_slots",
            "drives",
            "cartridges",
            "on_shelf",
            "capacity_bytes",
            "time_factor",
            "hands",
        }
    ),
    open_library=_open,
    required=frozenset({"folder"}),
    any_clock=True,
)
