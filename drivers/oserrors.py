"""``OSError`` into the four kinds of :mod:`drivers.errors`, once, at the edge of a driver on files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.errors import DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable

# ENOTDIR: a part of the key is an object, so nothing can be below it.
_NOT_FOUND = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPERATOR = frozenset({errno.EACCES, errno.EPERM, errno.ENOMEDIUM})
# EIO is here and not among the permanent ones because a soft NFS mount answers it to a short
# network failure; whoever retries gives up after a bounded number of attempts.
_RETRYABLE = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.ECONNABORTED,  # a FUSE server that was killed, of who was waiting for it
        errno.ECONNREFUSED,
        errno.EREMOTEIO,
        errno.ESHUTDOWN,
        errno.ENETRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
    }
)


def translate(error: OSError, what: str) -> DriverError:
    """Return the driver error that tells the caller of ``what`` (a verb and its object) what to do next."""
    message = f"{what}: {error.strerror or error}"
    if error.errno in _NOT_FOUND:
        return NotFound(message)
    if error.errno in _NO_SPACE:
        full = "; see `quota -s` and `repquota -s`" if error.errno == errno.EDQUOT else ""
        return NoSpace(message + full)
    if error.errno == errno.EROFS:
        # Of a mount that is still called rw, too: ext4 and others take nothing any more after an error.
        return OperatorNeeded(
            f"{message}: it was mounted so, or the kernel has given it up after an error: see the kernel "
            "log, check the device, run fsck, mount it again"
        )
    if error.errno in _OPERATOR:
        return OperatorNeeded(f"{message}; check owner, mode and mount of the folder")
    if error.errno in _RETRYABLE:
        hint = "; see the kernel log for the device's own words" if error.errno == errno.EIO else ""
        return Retryable(message + hint)
    return Permanent(message)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise every ``OSError`` of the block as a driver error about ``what``."""
    try:
        yield
    except OSError as error:
        raise translate(error, what) from error
