"""A request as a worker sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hsm.catalog.details import DEADLINE
from hsm.catalog.tables import Request
from hsm.states import RequestKind, RequestState


@dataclass(frozen=True, slots=True)
class Order:
    """A request as a worker sees it."""

    pk: int
    kind: RequestKind
    key: str
    state: RequestState
    priority: int
    study_pk: int | None
    package_pk: int | None
    volume_pk: int | None
    pool: str | None
    reason: str
    detail: dict[str, Any]
    attempts: int
    created_at: datetime
    not_before: datetime | None = None
    deadline: datetime | None = None
    """When its result is wanted, where somebody said so."""


def order_of(row: Request) -> Order:
    """The row as a value."""
    return Order(
        row.pk,
        RequestKind(row.kind),
        row.key,
        RequestState(row.state),
        row.priority,
        row.study_pk,
        row.package_pk,
        row.volume_pk,
        row.pool,
        row.reason,
        dict(row.detail),
        row.attempts,
        row.created_at,
        row.not_before,
        datetime.fromisoformat(row.detail[DEADLINE]) if DEADLINE in row.detail else None,
    )
