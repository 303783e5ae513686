"""Taking exactly so many bytes from a source: what ``put`` of every driver begins with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from drivers.base import CHUNK_BYTES, DIGEST_BYTES, Readable, check_key
from drivers.errors import Corrupt, Permanent
from drivers.oserrors import translated


def safe_key(key: str) -> str:
    """:func:`drivers.base.check_key` as a driver error.

    :raises Permanent: the key is malformed.
    """
    try:
        return check_key(key)
    except ValueError as error:
        raise Permanent(str(error)) from error


def check_put(size: int, digest: bytes | None, key: str) -> None:
    """:raises Permanent: ``size`` is negative or ``digest`` is not 32 bytes."""
    if size < 0:
        raise Permanent(f"put {key}: size {size} is negative")
    if digest is not None and len(digest) != DIGEST_BYTES:
        raise Permanent(f"put {key}: digest of {len(digest)} bytes; expected {DIGEST_BYTES} (SHA-256)")


def check_range(offset: int, length: int | None, key: str) -> None:
    """:raises Permanent: a negative offset or length."""
    if offset < 0 or (length is not None and length < 0):
        raise Permanent(f"get {key}: offset {offset} and length {length} must not be negative")


def span(key: str, size: int, offset: int, length: int | None) -> int:
    """The number of bytes that ``get`` gives of an object of ``size`` bytes.

    :raises Corrupt: the object has fewer bytes than were asked for.
    """
    wanted = max(size - offset, 0) if length is None else length
    if offset + wanted > size:
        raise Corrupt(f"get {key}: bytes {offset} to {offset + wanted} were asked for, it holds {size}")
    return wanted


def copy_exactly(
    source: Readable, size: int, digest: bytes | None, write: Callable[[bytes], None], key: str
) -> None:
    """Pass ``size`` bytes of ``source`` to ``write`` in pieces of at most ``CHUNK_BYTES``.

    :raises Corrupt: the source gave fewer or more bytes, or others than ``digest`` says. By then
        ``write`` has had some or all of them.
    """
    hasher = hashlib.sha256() if digest is not None else None
    missing = size
    while missing:
        chunk = _read(source, min(CHUNK_BYTES, missing), key)
        if not chunk:
            raise Corrupt(f"put {key}: the source ended after {size - missing} of {size} bytes")
        if len(chunk) > missing:
            raise Corrupt(f"put {key}: the source gave more than {size} bytes")
        if hasher is not None:
            hasher.update(chunk)
        write(chunk)
        missing -= len(chunk)
    if _read(source, 1, key):
        raise Corrupt(f"put {key}: the source gave more than {size} bytes")
    if hasher is not None and hasher.digest() != digest:
        expected = digest.hex() if digest else ""
        raise Corrupt(f"put {key}: the source's SHA-256 is {hasher.hexdigest()}, expected {expected}")


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; ``os.write`` may take less, as it does at the end of a tape or quota."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read(source: Readable, size: int, key: str) -> bytes:
    with translated(f"read the source of {key}"):
        return source.read(size)
