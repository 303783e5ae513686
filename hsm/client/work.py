"""Calls about what is to be done."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.client.asking import Asking, Record


class WorkCalls(Asking):
    """The queue, and recalls."""

    def queue(
        self, *, kind: str = "", state: str = "", study: str = "", limit: int, offset: int = 0
    ) -> list[Record]:
        return self._list("/v1/queue", kind=kind, state=state, study=study, limit=limit, offset=offset)

    def request(self, pk: int) -> Record:
        return self._get(f"/v1/queue/{pk}")

    def cancel(self, pk: int) -> Record:
        return self._post(f"/v1/queue/{pk}/cancel")

    def retry(self, pk: int) -> Record:
        return self._post(f"/v1/queue/{pk}/retry")

    def recall(self, uids: Sequence[str], priority: str = "routine") -> list[Record]:
        """One record for each UID: packages, requests, state, eta."""
        return self._posted("/v1/recalls", uids=list(uids), priority=priority)

    def progress(self, requests: Sequence[int]) -> list[Record]:
        """How far these recalls are."""
        return self._list("/v1/recalls", requests=",".join(map(str, requests)))
