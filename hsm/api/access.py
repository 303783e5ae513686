"""Which roles each path of the API lets in: one line for each, and none without.

``admin`` may do everything. An ``operator`` runs the machines: recalls, drives, cartridges, prompts. An
``auditor`` reads what others may not: the journal, who read what, proofs. ``read-only`` looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ADMIN: Final = frozenset({"admin"})
OPERATE: Final = ADMIN | {"operator"}
AUDIT: Final = ADMIN | {"auditor"}
OPERATE_OR_AUDIT: Final = OPERATE | AUDIT
LOOK: Final = OPERATE_OR_AUDIT | {"read-only"}


@dataclass(frozen=True, slots=True)
class Needs:
    """Who may call a path, and who may where one member of the body is given."""

    roles: frozenset[str]
    """One of them is enough. Empty: whoever may connect."""
    member: str = ""
    """A member that asks for more: the call is another one where it is neither empty nor false."""
    with_member: frozenset[str] = frozenset()

    def asked(self, given: Mapping[str, Any]) -> frozenset[str]:
        """What a call with this body needs."""
        return self.with_member if self.member and given.get(self.member) else self.roles


ANYBODY: Final = Needs(frozenset())
_LOOK, _AUDIT, _OPERATE, _ADMIN = Needs(LOOK), Needs(AUDIT), Needs(OPERATE), Needs(ADMIN)
_OPERATE_OR_AUDIT = Needs(OPERATE_OR_AUDIT)
_VOLUME, _STUDY = "/v1/volumes/{barcode}", "/v1/studies/{uid}"

ACCESS: Final[Mapping[str, Needs]] = {
    # The daemon
    "GET /v1/health": ANYBODY,
    "GET /metrics": _LOOK,
    "GET /v1/status": _LOOK,
    "POST /v1/reload": _ADMIN,
    # Studies
    "GET /v1/studies": _LOOK,
    f"GET {_STUDY}": _LOOK,
    f"GET {_STUDY}/copies": _LOOK,
    f"GET {_STUDY}/history": _LOOK,
    f"GET {_STUDY}/policies": _LOOK,
    f"GET {_STUDY}/accesses": _AUDIT,
    f"GET {_STUDY}/proof": _AUDIT,
    f"POST {_STUDY}/hold": _OPERATE_OR_AUDIT,
    f"POST {_STUDY}/unhold": _ADMIN,
    f"POST {_STUDY}/tags": _OPERATE,
    f"POST {_STUDY}/retention": _ADMIN,
    "GET /v1/holds": _LOOK,
    f"POST {_STUDY}/delete": _ADMIN,
    f"POST {_STUDY}/undelete": _ADMIN,
    f"POST {_STUDY}/unreject": _ADMIN,
    "GET /v1/trash": _LOOK,
    "GET /v1/rejections": _LOOK,
    # Work
    "GET /v1/queue": _LOOK,
    "GET /v1/queue/{pk}": _LOOK,
    "POST /v1/queue/{pk}/cancel": _OPERATE,
    "POST /v1/queue/{pk}/retry": _OPERATE,
    "GET /v1/recalls": _LOOK,
    "POST /v1/recalls": _OPERATE,
    "GET /v1/prefetch/{key}": _LOOK,
    "POST /v1/prefetch": _OPERATE,
    "POST /v1/prefetch/{key}/withdraw": _OPERATE,
    "POST /v1/exports": _OPERATE,
    "GET /v1/exports/{pk}": _LOOK,
    "POST /v1/exports/{pk}/cancel": _OPERATE,
    # Pools and volumes
    "GET /v1/pools": _LOOK,
    "GET /v1/pools/{name}": _LOOK,
    "POST /v1/pools/{name}/test": _OPERATE,
    "GET /v1/volumes": _LOOK,
    f"GET {_VOLUME}": _LOOK,
    f"GET {_VOLUME}/where": _LOOK,
    f"GET {_VOLUME}/history": _LOOK,
    f"POST {_VOLUME}/label": Needs(OPERATE, "overwrite", ADMIN),
    f"POST {_VOLUME}/move": _OPERATE,
    f"POST {_VOLUME}/verify": _OPERATE_OR_AUDIT,
    f"POST {_VOLUME}/scan": Needs(OPERATE, "adopt", ADMIN),
    f"POST {_VOLUME}/drain": _OPERATE,
    f"POST {_VOLUME}/drain/stop": _OPERATE,
    f"POST {_VOLUME}/repack/stop": _OPERATE,
    "POST /v1/repacks": _OPERATE,
    f"POST {_VOLUME}/retire": _ADMIN,
    f"POST {_VOLUME}/recycle": _ADMIN,
    f"POST {_VOLUME}/lost": _ADMIN,
    # Libraries, and the persons who carry
    "POST /v1/library/inventory": _OPERATE,
    "POST /v1/library/load": _OPERATE,
    "POST /v1/library/unload": _OPERATE,
    "POST /v1/library/export": _OPERATE,
    "POST /v1/library/import": _OPERATE,
    "POST /v1/library/clean": _OPERATE,
    "POST /v1/library/drive": _OPERATE,
    "GET /v1/library/{library}/report": _LOOK,
    "GET /v1/mounts": _LOOK,
    "POST /v1/mounts/{barcode}/done": _OPERATE,
    "POST /v1/mounts/{barcode}/refuse": _OPERATE,
    "GET /v1/operator/prompts": _LOOK,
    "GET /v1/operator/picklist": _LOOK,
    "POST /v1/operator/scan": _OPERATE,
    "POST /v1/operator/prompts/{barcode}/ack": _OPERATE,
    "POST /v1/operator/prompts/{barcode}/release": _OPERATE,
    "POST /v1/operator/prompts/{barcode}/{answer}": _OPERATE,
    "GET /v1/movements": _LOOK,
    "POST /v1/movements/export": _OPERATE,
    "POST /v1/movements/return": _OPERATE,
    "POST /v1/movements/{barcode}/left": _OPERATE,
    "POST /v1/movements/{barcode}/arrived": _OPERATE,
    "POST /v1/movements/{barcode}/undo": _OPERATE,
    # Policies
    "GET /v1/policies": _LOOK,
    "GET /v1/policies/activations": _LOOK,
    "GET /v1/policies/plan": _OPERATE_OR_AUDIT,
    "POST /v1/policies/check": _LOOK,
    "POST /v1/policies/diff": _OPERATE_OR_AUDIT,
    "POST /v1/policies/run": _OPERATE,
    "POST /v1/policies/activate": _ADMIN,
    "POST /v1/policies/{name}/resume": _ADMIN,
    "GET /v1/runs": _LOOK,
    "GET /v1/decisions": _LOOK,
    # Second persons: who decides must also have the role of the command
    "GET /v1/approvals": _OPERATE_OR_AUDIT,
    "GET /v1/approvals/{pk}": _OPERATE_OR_AUDIT,
    "POST /v1/approvals/{pk}/approve": _OPERATE_OR_AUDIT,
    "POST /v1/approvals/{pk}/refuse": _OPERATE_OR_AUDIT,
    # After a fire
    "POST /v1/catalog/backup": _OPERATE,
    "POST /v1/catalog/drill": _OPERATE_OR_AUDIT,
    # Audits
    "GET /v1/audit/copies": _LOOK,
    "GET /v1/audit/media": _LOOK,
    "GET /v1/audit/media/{barcode}": _LOOK,
    "POST /v1/audit/verify": _OPERATE_OR_AUDIT,
    "POST /v1/audit/verify/progress": _LOOK,
    "GET /v1/audit/log": _AUDIT,
    "POST /v1/audit/log/verify": _AUDIT,
}
"""``METHOD /path`` -> who may. HEAD is as GET."""


class UnguardedError(LookupError):
    """A path that nobody has said a role for, or the other way round."""


def needs_of(method: str, path: str) -> Needs:
    """
    :raises UnguardedError: the table does not have it.
    """
    found = ACCESS.get(f"{method} {path}")
    if found is None:
        raise UnguardedError(
            f"{method} {path} has no role: add it to ACCESS in {__name__}, with the roles that may call it"
        )
    return found


def said(roles: frozenset[str]) -> str:
    """What to ask an administrator for: ``operator or admin``."""
    order = ("read-only", "auditor", "operator", "admin")
    return " or ".join(role for role in order if role in roles)
