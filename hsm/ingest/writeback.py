"""Let the disk begin with what was just written, while the next bytes are digested."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Final

_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE


def _find() -> Callable[[int, int, int], object] | None:
    """sync_file_range(2), which Python's ``os`` has not; None where the system has not either."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    call.restype = ctypes.c_int
    return lambda fd, offset, count: call(fd, offset, count, _WRITE)


_CALL: Final = _find()


def start_writeback(fd: int, offset: int, count: int) -> None:
    """Begin to write ``count`` bytes from byte ``offset`` on to the disk, and do not wait.

    A hint only. It makes nothing durable, and what it answers is of no interest: the flush that follows
    reports whatever goes wrong.
    """
    if _CALL is not None:
        _CALL(fd, offset, count)
