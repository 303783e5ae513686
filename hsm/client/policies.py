"""Calls about policies: those in force, what they did, what they would do."""

from __future__ import annotations

from collections.abc import Mapping

from hsm.client.asking import Asking, Record


class PolicyCalls(Asking):
    """The policies in force, what they did and what they would do."""

    def policies(self) -> list[Record]:
        return self._list("/v1/policies")

    def runs(self, *, policy: str = "", limit: int = 50) -> list[Record]:
        return self._list("/v1/runs", policy=policy, limit=limit)

    def decisions(self, *, run: int | None = None, study: str = "", limit: int = 50) -> list[Record]:
        return self._list("/v1/decisions", run="" if run is None else run, study=study, limit=limit)

    def check_policies(self, texts: Mapping[str, str] | None = None) -> Record:
        """Check these texts (file name -> text), or the folder that the daemon uses."""
        members = {} if texts is None else {"texts": dict(texts)}
        return self._post("/v1/policies/check", **members)

    def run_policies(self, name: str = "", *, dry_run: bool = False) -> Record:
        return self._post("/v1/policies/run", name=name, dry_run=dry_run)

    def plan(self, hours: float = 24.0) -> Record:
        """What the policies would do in the next hours, and what it takes."""
        return self._worked_out("/v1/policies/plan", hours=f"{hours:g}")

    def activations(self, limit: int = 50) -> list[Record]:
        """The versions of the policies, the last first."""
        return self._list("/v1/policies/activations", limit=limit)

    def diff_policies(
        self, old: int | Mapping[str, str] | None = None, new: int | Mapping[str, str] | None = None
    ) -> Record:
        """What changes: from what is in force (or an activation, or texts) to the folder (or the same)."""
        members: Record = {}
        for name, side in (("old", old), ("new", new)):
            if side is not None:
                members |= (
                    {f"{name}_version": side} if isinstance(side, int) else {f"{name}_texts": dict(side)}
                )
        return self._compared("/v1/policies/diff", members | self._signature())

    def activate_policies(self, comment: str = "", version: int | None = None) -> Record:
        """Put the folder's policies, or those of an earlier version, into force."""
        members = {} if version is None else {"version": version}
        return self._post("/v1/policies/activate", comment=comment, **members)

    def resume_policy(self, name: str) -> Record:
        """Let a suspended policy go on."""
        return self._post(f"/v1/policies/{self._name(name)}/resume")
