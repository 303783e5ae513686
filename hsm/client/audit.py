"""Calls of auditors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO

from hsm.client.asking import Asking, Record


class AuditCalls(Asking):
    """What an auditor asks."""

    def audit_copies(self, *, policy: str = "", as_of: str = "", grace: str = "", limit: int = 100) -> Record:
        """Which studies have the copies that they were promised, by policy."""
        return self._worked_out("/v1/audit/copies", policy=policy, as_of=as_of, grace=grace, limit=limit)

    def audit_log(self, *, limit: int = 100, **wanted: str | int) -> list[Record]:
        """Records of the journal, the last first: ``subject, actor, verb, kind, since, until, before``."""
        return self._list("/v1/audit/log", limit=limit, **wanted)

    def verify_log(self, anchors: Mapping[int, str] | None = None, volumes: Sequence[str] = ()) -> Record:
        """Walk the journal's chain, and compare it with digests that were kept elsewhere: those given, and
        those read from volumes."""
        members: Record = {"anchors": {str(seq): digest for seq, digest in (anchors or {}).items()}}
        if volumes:
            members["volumes"] = list(volumes)
        return self._compared("/v1/audit/log/verify", members)

    def verify_copies(
        self,
        *,
        study: str = "",
        volume: str = "",
        percent: float = 0.0,
        pool: str = "",
        urgent: bool = False,
    ) -> Record:
        """Queue readings back: ``requests``, ``copies``, ``waiting_for_a_person``, ``cold``, ``more``."""
        asked: Record = {"study": study, "volume": volume, "percent": percent, "pool": pool}
        members = {name: value for name, value in asked.items() if value}
        return self._post("/v1/audit/verify", **members, urgent=urgent)

    def verified(self, requests: Sequence[int]) -> Record:
        """How far these are: ``copies``, ``left``, ``waiting``, ``bytes``, ``good``."""
        return self._post("/v1/audit/verify/progress", requests=list(requests))

    def audit_media(self) -> Record:
        """Every volume with what depends on it, drives, and pairs of the two that had errors."""
        return self._worked_out("/v1/audit/media")

    def audit_medium(self, barcode: str, limit: int = 100) -> Record:
        """One volume, and the studies that would lose a copy with it."""
        return self._worked_out(f"/v1/audit/media/{self._name(barcode)}", limit=limit)

    def prove(self, uid: str, to: IO[bytes]) -> int:
        """Write a study's proof, a ZIP, into a file; how many bytes."""
        return self._download(f"/v1/studies/{self._name(uid)}/proof", to)
