"""LTFS's extended attributes, under the names that Linux gives them. Functions raise ``OSError``."""

from __future__ import annotations

import errno
import os

_PREFIX = "user.ltfs."
DIGEST = "hash.sha256sum"
"""The format's own place for a file's SHA-256, in hexadecimal."""
_ABSENT = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP})


def text(where: int, name: str) -> str:
    """:raises OSError: ENODATA when there is no such attribute."""
    return os.getxattr(where, _PREFIX + name).decode("utf-8", "replace").strip("\0 \n")


def optional(where: int, name: str) -> str | None:
    """None when there is no such attribute."""
    try:
        return text(where, name)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def number(where: int, name: str) -> int | None:
    """A whole number, in any base that it names (``0xe0``); None when there is none."""
    said = optional(where, name)
    try:
        return None if said is None else int(said, 0)
    except ValueError:
        return None


def put(where: int, name: str, value: str) -> None:
    os.setxattr(where, _PREFIX + name, value.encode("utf-8"))


def put_own(where: int, name: str, value: str) -> None:
    """An attribute of ours, outside LTFS's names."""
    os.setxattr(where, "user." + name, value.encode("utf-8"))


def own(where: int, name: str) -> str | None:
    """None when there is no such attribute."""
    try:
        return os.getxattr(where, "user." + name).decode("utf-8", "replace")
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
