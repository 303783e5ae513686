"""The little of POSIX tar that a package uses (IEEE Std 1003.1 "pax", ustar interchange format).

Everything that could differ between two writers is fixed: mode 0644, owner 0/0 without names,
modification time 0, no padding beyond the two zero blocks that end an archive.
"""

from __future__ import annotations

BLOCK_BYTES = 512
END_BYTES = 2 * BLOCK_BYTES
MANIFEST_NAME = "manifest.json"

_NAME_BYTES = 100
_PREFIX_BYTES = 155
_OCTAL_SIZE_MAX = 8**11 - 1

# The fields of a header that are the same for every member, in the order of the standard.
_MODE_AND_OWNER = b"0000644\0" + b"0000000\0" + b"0000000\0"
_MTIME = b"00000000000\0"
_TYPE_TO_DEVICE = b"".join(
    (
        b"0",  # typeflag: regular file
        bytes(100),  # linkname
        b"ustar\0" + b"00",  # magic and version
        bytes(32 + 32),  # user and group names
        b"0000000\0" + b"0000000\0",  # device numbers
    )
)
_END = bytes(12)
_FIXED_SUM = sum(_MODE_AND_OWNER) + sum(_MTIME) + sum(_TYPE_TO_DEVICE) + sum(b" " * 8)
"""Of a checksum, which is summed as spaces itself."""


def padding(size: int) -> int:
    """Zero bytes after ``size`` bytes of data up to the next block."""
    return -size % BLOCK_BYTES


def occupied(size: int) -> int:
    """Bytes that a member of ``size`` bytes takes: header, data, padding."""
    return BLOCK_BYTES + size + padding(size)


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a regular file.

    A name with a slash is split there: prefix field, name field. Sizes of 8 GiB and more are written
    in base 256 with the top bit set, as GNU tar, star and libarchive do, for ustar's eleven octal
    digits end there.

    :raises ValueError: the name does not fit, or the size is negative.
    """
    prefix, _, base = name.encode("ascii").rpartition(b"/")
    if not base or len(base) > _NAME_BYTES or len(prefix) > _PREFIX_BYTES:
        raise ValueError(f"{name!r} does not fit a ustar header")
    name_field, size_field = base.ljust(_NAME_BYTES, b"\0"), _size_field(name, size)
    checksum = _FIXED_SUM + sum(base) + sum(prefix) + sum(size_field)
    return b"".join(
        (
            name_field,
            _MODE_AND_OWNER,
            size_field,
            _MTIME,
            b"%06o\0 " % checksum,
            _TYPE_TO_DEVICE,
            prefix.ljust(_PREFIX_BYTES, b"\0"),
            _END,
        )
    )


def manifest_size(block: bytes) -> int:
    """The size that a package's first header gives its manifest.

    :raises ValueError: the block is not the header that :func:`header` writes for a manifest.
    """
    try:
        size = int(block[124:135], 8)
    except ValueError:
        size = -1
    if size < 0 or block != header(MANIFEST_NAME, size):
        raise ValueError(f"does not begin with the tar header of {MANIFEST_NAME}")
    return size


def _size_field(name: str, size: int) -> bytes:
    if size < 0:
        raise ValueError(f"{name}: size {size} is negative")
    if size <= _OCTAL_SIZE_MAX:
        return b"%011o\0" % size
    return b"\x80" + size.to_bytes(11, "big")
