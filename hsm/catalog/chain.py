"""How the journal's records hang together: the text that each digest is made of, and the digest (pure).

Record ``n`` carries SHA-256(digest of record ``n - 1`` || canonical JSON of
``[seq, at, actor, verb, kind, subject, detail]``); record 1 follows 32 zero bytes. Whoever alters,
removes, inserts or reorders a record breaks the chain there. The chain cannot tell that somebody
rewrote it whole from some record on: for that, keep a copy of the head's digest elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from drivers.base import DIGEST_BYTES

GENESIS = bytes(DIGEST_BYTES)
"""The digest that record 1 follows."""


def follows(before: bytes, line: str) -> bytes:
    """The digest of a record whose text is ``line`` behind one with the digest ``before``."""
    return hashlib.sha256(before + line.encode()).digest()


def canonical(value: object) -> str:
    """JSON with sorted keys, no white space, and non-ASCII characters as they are.

    :raises ValueError: NaN, infinity, or something that is no JSON value.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"journal: {error}") from error


def digest_after(
    previous: bytes, seq: int, at: datetime, actor: str, verb: str, kind: str, subject: str, detail: str
) -> bytes:
    """The digest of a record behind one with the digest ``previous``; ``detail`` as in :func:`line_of`."""
    # Lone surrogates cannot be stored either; json.dumps lets them through.
    return follows(previous, line_of(seq, at, actor, verb, kind, subject, detail))


def line_of(seq: int, at: datetime, actor: str, verb: str, kind: str, subject: str, detail: str) -> str:
    """The text of a record.

    ``detail`` is canonical JSON already and is taken as stored: not a byte of it may change.
    """
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    start = canonical([seq, moment, actor, verb, kind, subject])
    return f"{start[:-1]},{detail}]"
