"""What the API asks of recalls: to begin them, how far they are for whom, and when they will be through."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.catalog import queuelooks
from hsm.catalog.engine import Catalog
from hsm.eta import Etas
from hsm.model import Priority
from hsm.recall import Recall
from hsm.states import RequestKind

LIVE_MAX = 200
"""The most recalls that are told of when nobody names any."""


class RecallDesk:
    """One for each daemon."""

    def __init__(self, catalog: Catalog, recall: Recall, etas: Etas) -> None:
        self._catalog = catalog
        self._recall = recall
        self._etas = etas

    def request_study(self, uid: str, priority: Priority, who: str) -> dict[str, object]:
        """As :meth:`hsm.recall.Recall.request_study`; with ``eta``, ``eta_seconds`` and ``eta_at`` of what
        takes longest, where something has to be recalled."""
        found = self._recall.request_study(uid, priority, who)
        pks = found["requests"]
        assert isinstance(pks, list)
        etas = [*self._etas.of(pks).values()]
        last = max(etas, key=lambda each: (each.seconds is None, each.seconds or 0.0), default=None)
        return found if last is None else found | last.record(self._catalog.clock.now())

    def progress(self, request_pks: Sequence[int]) -> list[dict[str, object]]:
        """State, bytes, waiters and ETA of each of these recalls; of all that are under way, the most urgent
        first, when none is named."""
        pks = list(request_pks)
        if not pks:
            with self._catalog.read() as session:
                pks = queuelooks.live(session, RequestKind.RECALL, LIVE_MAX)
        etas, now = self._etas.of(pks), self._catalog.clock.now()
        found = self._recall.progress(pks)
        return [
            each | (etas[pk].record(now) if pk in etas else {}) for pk, each in zip(pks, found, strict=True)
        ]
