"""Calls about studies."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.client.asking import Asking, Record, given


class StudyCalls(Asking):
    """What is known of studies, and what is done with them."""

    def find_studies(self, **wanted: str | int) -> list[Record]:
        """``text, patient_id, name, accession, date, uid, modality, tag, hold, limit, offset``."""
        return self._list("/v1/studies", **wanted)

    def study(self, uid: str) -> Record:
        return self._get(f"/v1/studies/{self._name(uid)}")

    def locate(self, uid: str) -> Record:
        return self._get(f"/v1/studies/{self._name(uid)}/copies")

    def history(self, uid: str, *, limit: int, offset: int = 0) -> list[Record]:
        return self._list(f"/v1/studies/{self._name(uid)}/history", limit=limit, offset=offset)

    def explain(self, uid: str) -> Record:
        """What the policies want for one study, and why."""
        return self._get(f"/v1/studies/{self._name(uid)}/policies")

    def accesses(self, uid: str, *, limit: int) -> list[Record]:
        """Who retrieved or found a study, the last first."""
        return self._list(f"/v1/studies/{self._name(uid)}/accesses", limit=limit)

    def holds(self, *, limit: int, offset: int = 0) -> list[Record]:
        """The studies under legal hold."""
        return self._list("/v1/holds", limit=limit, offset=offset)

    def hold(self, uid: str, reason: str) -> Record:
        """Place a legal hold: nothing of the study is released until it is lifted."""
        return self._post(f"/v1/studies/{self._name(uid)}/hold", reason=reason)

    def unhold(self, uid: str, reason: str) -> Record:
        return self._post(f"/v1/studies/{self._name(uid)}/unhold", reason=reason)

    def delete_study(self, uid: str, reason: str, *, refuse_late: bool = False) -> Record:
        """Put a study into the trash."""
        return self._post(f"/v1/studies/{self._name(uid)}/delete", reason=reason, refuse_late=refuse_late)

    def undelete_study(self, uid: str, reason: str) -> Record:
        return self._post(f"/v1/studies/{self._name(uid)}/undelete", reason=reason)

    def trash(self, *, every: bool = False, limit: int, offset: int = 0) -> list[Record]:
        """Studies in the trash; with ``every`` also what has ended."""
        return self._list("/v1/trash", all="true" if every else "", limit=limit, offset=offset)

    def unreject(self, uid: str, reason: str, note: str = "") -> Record:
        """Take the rejections of a study back: all, or that of one note."""
        more = given({"note": note})
        return self._post(f"/v1/studies/{self._name(uid)}/unreject", reason=reason, **more)

    def rejections(self, *, limit: int, offset: int = 0) -> list[Record]:
        """Rejections that stand."""
        return self._list("/v1/rejections", limit=limit, offset=offset)

    def tag(self, uid: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Record:
        """Give a study tags and take some away."""
        return self._post(f"/v1/studies/{self._name(uid)}/tags", add=list(add), remove=list(remove))

    def retain(self, uid: str, until: str, reason: str) -> Record:
        """Keep a study up to a day (``YYYYMMDD``); an empty day ends that."""
        return self._post(f"/v1/studies/{self._name(uid)}/retention", until=until, reason=reason)

    def begin_export(
        self, target: str, studies: Sequence[str], *, anonymise: bool = False, udf: bool = False
    ) -> Record:
        """Start a patient disc or stick; see :meth:`export_state`."""
        return self._post("/v1/exports", target=target, studies=list(studies), anonymise=anonymise, udf=udf)

    def export_state(self, pk: int) -> Record:
        return self._get(f"/v1/exports/{pk}")

    def cancel_export(self, pk: int) -> Record:
        return self._post(f"/v1/exports/{pk}/cancel")
