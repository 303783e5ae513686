"""The steps of hook/crash_hook.py at which a daemon is killed or fails, and how."""

from __future__ import annotations

import errno
import os

from tests.crash.campaign import Fault

MINUTES = float(os.environ.get("HSM_CRASH_MINUTES", "0"))
"""Of the long form; 0 for the short one."""

RECEIVING = (
    "make arrival",
    "flush incoming folder",
    "write arrival",
    "flush arrival",
    "make folder",
    "link instance",
    "write row",
    "commit rows",
    "send answer",
    "flush folder",
    "unlink arrival",
)
"""In the order in which an instance meets them."""
KEEPING = (
    "write table",
    "checkpoint",
    "make manifest",
    "write manifest",
    "flush manifest",
    "link folder",
    "unlink manifest",
    "make copy",
    "write copy",
    "flush copy",
    "link copy's folder",
    "flush copy's folder",
    "flush library",
    "unlink instance",
    "unlink folder",
    "unlink copy's folder",
)
"""Checkpoint, sealing, copying, releasing."""
RECOVERING = (
    "link interrupted",
    "flush interrupted folder",
    "flush incoming folder",
    "unlink arrival",
    "flush arrival",
    "link instance",
    "commit rows",
    "flush folder",
    "unlink interrupted",
)
FAILING = {
    "make arrival": errno.ENOSPC,
    "flush incoming folder": errno.EIO,
    "write arrival": errno.ENOSPC,
    "flush arrival": errno.EIO,
    "make folder": errno.ENOSPC,
    "link instance": errno.ENOSPC,
    "write row": errno.ENOSPC,
    "commit rows": errno.EIO,
    "flush folder": errno.EIO,
    "unlink arrival": errno.EIO,
    "write table": errno.EIO,
    "checkpoint": errno.EIO,
    "flush manifest": errno.EIO,
    "flush copy": errno.EIO,
    "link copy's folder": errno.ENOSPC,
}
"""What fails with which error."""


def failing(step: str, nth: int = 1, times: int = 1) -> Fault:
    return Fault(step, "error", "before", nth, FAILING[step], times)


EVERY = [
    *(Fault(step, when=when) for step in (*RECEIVING, *KEEPING) for when in ("before", "after")),
    *(failing(step) for step in FAILING),
]
