"""Tape libraries and drives on Linux: the kernel's st, sg and ch drivers, mtx, mt and sg3-utils.

Two families: ``mtx`` is a robot with drives, ``manual`` drives that stand alone and a person with a shelf.
A pool's volumes are plain (a label file, then one package a tape file, then an index, readable by hand with
``mt`` and ``tar``) or LTFS (:mod:`drivers.tape.ltfs`).

How it fits together, from below: :mod:`~drivers.tape.io` touches the system and can be replaced;
:mod:`~drivers.tape.plain` and :mod:`~drivers.tape.store` are the format on an open drive;
:mod:`~drivers.tape.motion` goes to places on it; :mod:`~drivers.tape.tapedrive`, :mod:`~drivers.tape.changer`
and :mod:`~drivers.tape.cleaning` are the machines; :mod:`~drivers.tape.bay` a drive
with a volume in it; :mod:`~drivers.tape.library` and :mod:`~drivers.tape.manual` the libraries. What is pure
stands apart: :mod:`~drivers.tape.mtxstatus`, :mod:`~drivers.tape.sense`, :mod:`~drivers.tape.elements`,
:mod:`~drivers.tape.logpages`, :mod:`~drivers.tape.memory`, :mod:`~drivers.tape.encryption`,
:mod:`~drivers.tape.label`, :mod:`~drivers.tape.index`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import Family, Library

_COMMON = frozenset(
    {
        "name",
        "drives",
        "format",
        "pool_formats",
        "ltfs",
        "block_bytes",
        "pool_blocks",
        "capacity_bytes",
        "compression",
        "ring_bytes",
        "pool_keys",
        "load_seconds",
        "eject_seconds",
    }
)


def _open_mtx(options: Mapping[str, Any]) -> Library:
    from drivers.tape.configure import open_mtx

    return open_mtx(options)


def _open_manual(options: Mapping[str, Any]) -> Library:
    from drivers.tape.configure import open_manual

    return open_manual(options)


MTX = Family(
    name="mtx",
    options=_COMMON | {"changer", "slots", "move_seconds", "auto_clean"},
    required=frozenset({"changer"}),
    open_library=_open_mtx,
)

MANUAL = Family(name="manual", options=_COMMON, required=frozenset({"drives"}), open_library=_open_manual)
