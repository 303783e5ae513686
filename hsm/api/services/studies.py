"""What is asked about studies: where they are to be, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from hsm.api.services.record import Record
from hsm.model import Priority
from hsm.prefetch import Wanted as PrefetchWanted


class Trash(Protocol):
    """Deleted studies. A record: study, state, reason, code, deleted_at, deleted_by, approved_by, due_at,
    kept (why its end is not now, where something forbids it), refuses_late, packages, bytes,
    bytes_on_removable, ended_at, ended_by, ended_reason."""

    def delete(
        self, uid: str, reason: str, by: str, *, refuse_late: bool = False, approved_by: str = ""
    ) -> Record: ...

    def undelete(self, uid: str, reason: str, by: str) -> Record: ...

    def listing(self, limit: int, offset: int = 0, *, every: bool = False) -> list[Record]: ...

    def revoke(self, uid: str, reason: str, by: str, note: str = "") -> Record:
        """study, revoked (how many notes)."""
        ...

    def rejections(self, limit: int, offset: int = 0) -> list[Record]:
        """study, code, title, note, instances, rejected_at, rejected_by."""
        ...


class Recall(Protocol):
    """Bringing packages back to where they can be read. ``eta`` says in words where a recall is and how long
    it takes, ``eta_seconds`` and ``eta_at`` the same in figures (None where nobody can say)."""

    def request_study(self, uid: str, priority: Priority, who: str) -> Record:
        """``uid`` is of a study, series or instance. Returns packages, readable_now, requests (their
        numbers), eta; too_large (packages that are never staged) where there are such."""
        ...

    def progress(self, request_pks: Sequence[int]) -> list[Record]:
        """One record a request: id, package, state, error, bytes, bytes_done, eta, waiters (who; instances
        and instances_done where known). Of all that are under way, when none is named."""
        ...


class Prefetches(Protocol):
    """What scheduled work will want."""

    def ask(
        self, key: str, wanted: PrefetchWanted, scheduled: datetime, by: str, margin: timedelta = ...
    ) -> Record:
        """key, state (planned, asked, withdrawn), wanted, begins_at, deadline, by, studies, readable_now,
        requests (id, state, error), comment; changed: whether this call changed anything."""
        ...

    def show(self, key: str) -> Record: ...

    def withdraw(self, key: str, by: str) -> Record: ...


class Queue(Protocol):
    """Acts on single requests.

    :raises Refused: no such request, or its state does not allow it.
    """

    def cancel(self, pk: int, by: str) -> None: ...

    def retry(self, pk: int, by: str) -> None: ...


class Exports(Protocol):
    """Patient discs and sticks."""

    def begin(
        self, target: str, uids: list[str], user: str, by: str, *, anonymise: bool, udf: bool
    ) -> Record:
        """Start an export to where ``user`` may write; a record as :meth:`show` gives."""
        ...

    def show(self, pk: int) -> Record:
        """id, target, kind, by, state (active, done, failed, cancelled), instances, instances_done, bytes,
        bytes_done, waiting_for, error, burned_in (how many may show who the patient is), unlisted."""
        ...

    def cancel(self, pk: int, by: str) -> Record: ...
