"""Going to a place on a tape, and proving that it was reached.

LOCATE is how it is done. A drive that does not have it, or fails in it, is brought there from the
beginning: the label is read, for it may be another cartridge by now, then filemarks and records are spaced
over. Either way the drive must say in the end that it is where it should be.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from drivers.errors import Retryable
from drivers.tape.io import Handle, Op
from drivers.tape.label import PlainLabel
from drivers.tape.plain import identify, require_position

_NO_LOCATE = frozenset({errno.EIO, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Spot:
    """A place: a logical block, which is that record of that tape file."""

    block: int
    file: int
    record: int = 0


def locate(handle: Handle, label: PlainLabel, spot: Spot, what: str) -> None:
    """Go there; ``what`` is a verb and its objects, for messages.

    :raises Retryable: the drive is elsewhere, or the cartridge in it is not the volume of ``label``.
    :raises OSError: the tape cannot be moved there.
    """
    try:
        handle.op(Op.SEEK, spot.block)
    except OSError as error:
        if error.errno not in _NO_LOCATE:
            raise
        _space(handle, label, spot, what)
    require_position(handle, spot.block, what)


def _space(handle: Handle, label: PlainLabel, spot: Spot, what: str) -> None:
    found = identify(handle)
    if found.label != label:
        raise Retryable(f"{what}: the cartridge in the drive is {found.words} now")
    handle.op(Op.REWIND)
    if spot.file:
        handle.op(Op.FSF, spot.file)
    if spot.record:
        handle.op(Op.FSR, spot.record)
