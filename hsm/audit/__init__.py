"""What an auditor asks of the archive, answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from hsm.audit.anchors import AnchorReader
from hsm.audit.copies import Asked as Asked
from hsm.audit.copies import CopiesAudit
from hsm.audit.log import LogAudit, LogUse, looked_for
from hsm.audit.media import MediaAudit
from hsm.audit.prove import Prover
from hsm.audit.verify import AskedFor, VerifyAudit
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.custody import Custody
from hsm.policyrun import Policies
from hsm.pools import Pools
from hsm.wake import Bell
from policies import PolicySet


class Audit:
    """The audits of one archive, joined to what they ask."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        policies: Policies,
        custody: Custody,
        archive: str,
        bell: Bell,
        file: Path | None,
    ) -> None:
        """
        :param archive: its AE title, for proofs and anchors.
        :param file: that the journal is streamed to, if it is.
        """
        self._policies = policies
        self._copies = CopiesAudit(catalog, pools, self._in_force)
        self._log = LogAudit(catalog, AnchorReader(catalog, pools, custody, archive), file)
        self._prover = Prover(catalog, archive)
        self._used = LogUse(catalog)
        self._verify = VerifyAudit(catalog, pools, bell)
        self._media = MediaAudit(catalog, pools)

    def copies(self, asked: Asked) -> dict[str, Any]:
        """As :meth:`hsm.audit.copies.CopiesAudit.report`."""
        return self._copies.report(asked)

    def log(self, wanted: Wanted, limit: int, by: str) -> list[dict[str, Any]]:
        """As :meth:`hsm.audit.log.LogAudit.find`; that ``by`` read it is on record."""
        found = self._log.find(wanted, limit)
        self._used.note(by, "read", looked_for(wanted))
        return found

    def verify_log(
        self, anchors: Mapping[int, bytes], volumes: Sequence[str] = (), by: str = ""
    ) -> dict[str, Any]:
        """As :meth:`hsm.audit.log.LogAudit.verify`; on record where somebody asked for it."""
        found = self._log.verify(anchors, volumes)
        if by:
            told = {"records": found["records"], "good": found["good"]}
            self._used.note(by, "verified", told | ({"volumes": list(volumes)} if volumes else {}))
        return found

    def verify(self, asked: AskedFor, by: str) -> dict[str, Any]:
        """As :meth:`hsm.audit.verify.VerifyAudit.ask`."""
        return self._verify.ask(asked, by)

    def verified(self, requests: Sequence[int]) -> dict[str, Any]:
        """As :meth:`hsm.audit.verify.VerifyAudit.progress`."""
        return self._verify.progress(requests)

    def media(self) -> dict[str, Any]:
        """As :meth:`hsm.audit.media.MediaAudit.report`."""
        return self._media.report()

    def medium(self, name: str, limit: int) -> dict[str, Any]:
        """As :meth:`hsm.audit.media.MediaAudit.one`."""
        return self._media.one(name, limit)

    def prove(self, uid: str, to: IO[bytes], by: str) -> None:
        """As :meth:`hsm.audit.prove.Prover.write`; that ``by`` took it is on record, but not in it."""
        self._prover.write(uid, to)
        self._used.note(by, "proved", {"study": uid})

    def _in_force(self, at: datetime | None) -> PolicySet:
        return self._policies.set if at is None else self._policies.versions.at(at)
