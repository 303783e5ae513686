"""One error tree. The class says what to do next; the message names what and where.

The four kinds of a driver's edge (retry, give up, fetch a human, corrupt) go on upwards as they
are; what the daemon adds derives from :class:`HsmError`.
"""

from __future__ import annotations

from drivers.errors import (
    Corrupt,
    DriverError,
    NoSpace,
    NotFound,
    OperatorNeeded,
    Permanent,
    Retryable,
    StaleMap,
    WrongVolume,
)

__all__ = [
    "BadInput",
    "CatalogAway",
    "ConfigError",
    "Conflict",
    "Corrupt",
    "DriverError",
    "HsmError",
    "NoSpace",
    "NotFound",
    "OperatorNeeded",
    "Permanent",
    "Refused",
    "Retryable",
    "StaleMap",
    "WrongVolume",
]


class HsmError(Exception):
    """Base of the daemon's own errors."""


class CatalogAway(Retryable):
    """The database does not answer, or ended what was under way. The daemon goes on when it is back."""


class ConfigError(HsmError):
    """The configuration or the state of the machine forbids a start. Mend it and start again."""


class BadInput(HsmError):
    """What a peer or a caller sent is unusable as it is; sending it again will not help."""


class Conflict(HsmError):
    """Other bytes under an identity that the archive already holds."""


class Refused(HsmError):
    """A promise or a right forbids the act; the message says which."""
