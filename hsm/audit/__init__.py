"""What an auditor asks of the archive, answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hsm.audit.copies import Asked as Asked
from hsm.audit.copies import CopiesAudit
from hsm.catalog.engine import Catalog
from hsm.policyrun import Policies
from hsm.pools import Pools
from policies import PolicySet


class Audit:
    """The audits of one archive, joined to what they ask."""

    def __init__(self, catalog: Catalog, pools: Pools, policies: Policies) -> None:
        self._policies = policies
        self._copies = CopiesAudit(catalog, pools, self._in_force)

    def copies(self, asked: Asked) -> dict[str, Any]:
        """As :meth:`hsm.audit.copies.CopiesAudit.report`."""
        return self._copies.report(asked)

    def _in_force(self, at: datetime | None) -> PolicySet:
        return self._policies.set if at is None else self._policies.versions.at(at)
