"""What second persons use."""

from __future__ import annotations

from hsm.client.asking import Asking, Record


class ApprovalCalls(Asking):
    """Commands that wait for a second person: id, state (waiting, expired, refused, approved, done, failed),
    command, act, path, body, digest, asked_at, asked_by, expires_at, decided_at, decided_by, reason, outcome.
    """

    def approvals(self, *, every: bool = False) -> list[Record]:
        """Those that wait; with ``every`` all there were, the last first."""
        return self._list("/v1/approvals", all="true" if every else "")

    def approval(self, pk: int) -> Record:
        return self._get(f"/v1/approvals/{pk}")

    def approve(self, pk: int, digest: str) -> Record:
        """Have it executed as it was shown with this digest: approval, command, answer."""
        return self._post(f"/v1/approvals/{pk}/approve", digest=digest)

    def disapprove(self, pk: int, reason: str) -> Record:
        """It is not done; who asked may take it back."""
        return self._post(f"/v1/approvals/{pk}/refuse", reason=reason)
