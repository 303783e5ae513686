"""Column types: text in code point order, UTC times, and SOP Instance UIDs in half their length."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, LargeBinary, SmallInteger, Text, TypeDecorator

# SQLite gives out row ids only for INTEGER PRIMARY KEY.
Key = BigInteger().with_variant(Integer(), "sqlite")
SmallKey = SmallInteger().with_variant(Integer(), "sqlite")

CodePointText = Text().with_variant(Text(collation="C"), "postgresql")
"""Ordered by code point, as on SQLite, whatever the database's locale.

So a B-tree serves prefixes (LIKE 'doe%') and ranges as well as whole values, both databases put
packages' members in one order, and an operating system that changes its locale breaks no index.
"""

_TEXT_MARK = b"\xff"
_DIGITS = re.compile(r"[0-9.]+")
# In the order of their code points, so that packed UIDs sort like written ones; 0 pads an odd length.
_PACK = str.maketrans(".0123456789", "123456789ab")
_UNPACK = str.maketrans("123456789ab", ".0123456789")


def pack_uid(uid: str) -> bytes:
    """A UID as four bits a character, at most 32 bytes, in the order of the text.

    Text that no UID can be (it is not only digits and dots) is kept whole behind a mark that no UID
    has, so every text can be asked for.
    """
    if not _DIGITS.fullmatch(uid):
        return _TEXT_MARK + uid.encode("utf-8", "surrogatepass")
    packed = uid.translate(_PACK)
    return bytes.fromhex(packed if len(packed) % 2 == 0 else packed + "0")


def unpack_uid(packed: bytes) -> str:
    """The UID that :func:`pack_uid` packed."""
    packed = bytes(packed)
    if packed[:1] == _TEXT_MARK:
        return packed[1:].decode("utf-8", "surrogatepass")
    return packed.hex().rstrip("0").translate(_UNPACK)


class PackedUid(TypeDecorator[str]):
    """A UID in Python, :func:`pack_uid` in the database. For equality, lists and order; not for LIKE.

    To read it at an SQL prompt: ``translate(encode(uid, 'hex'), '123456789ab0', '.0123456789')``.
    """

    impl = LargeBinary(65)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else pack_uid(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else unpack_uid(value)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on both databases (SQLite keeps no time zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
