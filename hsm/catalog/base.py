"""What all tables share: the declarative base, names of constraints, and checks made from values."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, CheckConstraint, Index, text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import MetaData

from hsm.catalog.columns import CodePointText, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        str: CodePointText,
        dict[str, Any]: JSON(),
    }


def one_of(column: str, names: tuple[str, ...]) -> CheckConstraint:
    """A CHECK that the column has one of these values."""
    listed = ", ".join(f"'{name}'" for name in names)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def where(name: str, condition: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows for which the condition is true."""
    only = text(condition)
    return Index(name, *columns, unique=unique, postgresql_where=only, sqlite_where=only)


def where_known(table: str, column: str) -> Index:
    """An index of the few rows that have a value."""
    return where(f"ix_{table}_{column}", f"{column} IS NOT NULL", column)


def values(kind: type[enum.StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in kind)
