"""What can go wrong at a driver's edge, in four kinds that tell the caller what to do next.

Every driver translates foreign exceptions (``OSError``, boto3's, paramiko's, a tool's exit
status) into one of these exactly once, where it calls the foreign code.
"""

from __future__ import annotations


class DriverError(Exception):
    """Base of all driver errors; never raised itself."""


class Retryable(DriverError):
    """It may work when tried again later: a time-out, a busy device, a full disk that drains."""


class Permanent(DriverError):
    """Trying again will not help: no such key, read-only medium, refused by configuration."""


class OperatorNeeded(DriverError):
    """A person must act first: load a medium, close a door, free a mail slot."""


class Corrupt(DriverError):
    """The bytes are not the bytes that were stored. Never retried on the same copy."""


class NotFound(Permanent):
    """The key or medium is not there."""


class NoSpace(Retryable):
    """The volume cannot take these bytes; another volume may."""


class NotReadableNow(Retryable):
    """The object lies in a cold class: ask for it (:class:`drivers.base.Recallable`) and come back later.
    Trying again at once never helps, so :class:`drivers.wrappers.RetryingStore` lets it through."""


class WrongVolume(Permanent):
    """The medium is not the one that was expected: blank, foreign, or labelled as another volume.

    :ivar found: the barcode on its label; empty where it has none of ours.
    """

    def __init__(self, message: str = "", found: str = "") -> None:
        super().__init__(message)
        self.found = found


class StaleMap(OperatorNeeded):
    """What the changer holds is not what was believed: a door was opened, a magazine or a cartridge was
    moved by hand. Take an inventory, then decide anew."""
