"""Passcodes of users as they stand in the configuration: not readable, and slow to guess.

``scrypt:14:8:1:SALT:DIGEST``: the cost as a power of two, block size, parallelism (RFC 7914), then
salt and digest in URL-safe base64 without padding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

COST: Final = 14
"""16 MiB and some 40 ms for each try."""
COST_MIN, COST_MAX = 10, 18
BLOCK: Final = 8
DIGEST_BYTES: Final = 32
SALT_BYTES: Final = 16
_MEMORY_SLACK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Passcode:
    """What is kept of a passcode."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    def matches(self, passcode: bytes) -> bool:
        """Takes its time."""
        return hmac.compare_digest(
            _digest(passcode, self.cost, self.block, self.parallel, self.salt), self.digest
        )

    def __str__(self) -> str:
        salt, digest = (
            base64.urlsafe_b64encode(each).decode().rstrip("=") for each in (self.salt, self.digest)
        )
        return f"scrypt:{self.cost}:{self.block}:{self.parallel}:{salt}:{digest}"


def make(passcode: bytes, salt: bytes) -> Passcode:
    """What to keep of a passcode.

    :param salt: random, :data:`SALT_BYTES` long.
    """
    return Passcode(COST, BLOCK, 1, salt, _digest(passcode, COST, BLOCK, 1, salt))


def parse(text: str) -> Passcode:
    """:raises ValueError: it is not of the form above. The message does not repeat it."""
    parts = text.split(":")
    problem = "expected a passcode as `hsm config passcode` prints it (scrypt:14:8:1:...:...)"
    if len(parts) != 6 or parts[0] != "scrypt":
        raise ValueError(problem)
    try:
        cost, block, parallel = (int(part) for part in parts[1:4])
        salt, digest = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts[4:])
    except (ValueError, binascii.Error):
        raise ValueError(problem) from None
    if not COST_MIN <= cost <= COST_MAX or not 1 <= block <= 16 or not 1 <= parallel <= 4:
        raise ValueError(f"{problem}; its cost is out of bounds")
    if len(digest) != DIGEST_BYTES or len(salt) < 8:
        raise ValueError(problem)
    return Passcode(cost, block, parallel, salt, digest)


def _digest(passcode: bytes, cost: int, block: int, parallel: int, salt: bytes) -> bytes:
    memory = 128 * (1 << cost) * block * parallel + _MEMORY_SLACK
    return hashlib.scrypt(
        passcode, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=memory, dklen=DIGEST_BYTES
    )
