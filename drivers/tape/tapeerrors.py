"""``OSError`` of a tape device into the kinds of :mod:`drivers.errors`, once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.errors import Corrupt, DriverError, NoSpace, OperatorNeeded, Permanent, Retryable

_GONE = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV})


def tape_error(error: OSError, what: str) -> DriverError:
    """The driver error for ``what`` (a verb, its object and the drive)."""
    message = f"{what}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        return NoSpace(f"{what}: the end of the tape is near")
    if error.errno in (errno.EROFS, errno.EPERM):
        return Permanent(f"{message}; is the cartridge's write-protect tab set?")
    if error.errno == errno.EACCES:
        return OperatorNeeded(f"{message}; the daemon's user may not open it, see etc/udev/60-hsm.rules")
    if error.errno == errno.ENOMEDIUM:
        return OperatorNeeded(f"{message}; no cartridge is loaded there")
    if error.errno in _GONE:
        return OperatorNeeded(f"{message}; is the drive attached and switched on?")
    if error.errno == errno.EBUSY:
        return Retryable(f"{message}; another process has the drive open (fuser -v says which)")
    if error.errno == errno.ENOMEM:
        return Corrupt(f"{what}: a record is larger than the volume's block size")
    if error.errno == errno.EINVAL:
        return Permanent(message)
    hint = "; see the kernel log and the drive's TapeAlert flags" if error.errno == errno.EIO else ""
    return Retryable(message + hint)


@contextmanager
def translated_tape(what: str) -> Iterator[None]:
    """Raise every ``OSError`` of the block as a driver error about ``what``."""
    try:
        yield
    except OSError as error:
        raise tape_error(error, what) from error
