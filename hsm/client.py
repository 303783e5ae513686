"""The control API's counterpart: one typed method for each path, errors as four classes.

Everything returned is what the daemon answered in JSON: times are ISO 8601 in UTC, sizes bytes,
digests hexadecimal. docs/cli.md lists the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import httpx

from hsm.approvalclient import ApprovalCalls
from hsm.operatorclient import OperatorCalls
from hsm.transport import CONNECT_SECONDS, CannotUseError, Local, Transport
from hsm.transport import Remote as Remote

Record = dict[str, Any]

READ_SECONDS = 65.0
MEDIA_SECONDS = 12 * 3600.0
"""For what reads or writes whole volumes."""
ACT_SECONDS = 905.0
PLAN_SECONDS = 905.0
"""A little longer than the daemon's own limits, so that its answer is the one that is seen."""


class ApiError(Exception):
    """Base: the daemon could not be asked, or its answer was no success.

    :ivar kind: the sort of error, as :mod:`hsm.api.problems` names it.
    :ivar hint: what to do next; may be empty.
    :ivar exit_code: what a command ends with.
    """

    exit_code = 1

    def __init__(self, message: str, kind: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint


class Problem(ApiError):
    """The daemon looked or tried, and something is wrong (exit code 1)."""

    exit_code = 1


class BadRequest(ApiError):
    """What was asked makes no sense to the daemon (exit code 2)."""

    exit_code = 2


class Unreachable(ApiError):
    """No daemon answers (exit code 3)."""

    exit_code = 3


class Refused(ApiError):
    """A promise, a right or a state forbids it, or a person must act first (exit code 4)."""

    exit_code = 4


KINDS: Mapping[str, type[ApiError]] = {
    "bad input": BadRequest,
    "refused": Refused,
    "operator needed": Refused,
    "approval needed": Refused,
}


class Client(OperatorCalls, ApprovalCalls):
    """A connection to the daemon; a context manager.

    :param to: the path of its control socket, or another way to it.
    :raises ApiError: every method may, one of its four subclasses; so may this.
    """

    def __init__(self, to: Path | Transport, *, by: str = "") -> None:
        self._to = Local(to) if isinstance(to, Path) else to
        self._by = by
        self._connects = False
        try:
            self._http = self._to.open()
        except CannotUseError as error:
            raise BadRequest(str(error), "bad input") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # What is there

    def health(self) -> Record:
        return self._get("/v1/health")

    def status(self) -> Record:
        return self._get("/v1/status")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._ask("GET", "/metrics", READ_SECONDS).text

    def find_studies(self, **wanted: str | int) -> list[Record]:
        """``text, patient_id, name, accession, date, uid, modality, tag, hold, limit, offset``."""
        return self._list("/v1/studies", **wanted)

    def study(self, uid: str) -> Record:
        return self._get(f"/v1/studies/{_part(uid)}")

    def locate(self, uid: str) -> Record:
        return self._get(f"/v1/studies/{_part(uid)}/copies")

    def history(self, uid: str, *, limit: int, offset: int = 0) -> list[Record]:
        return self._list(f"/v1/studies/{_part(uid)}/history", limit=limit, offset=offset)

    def explain(self, uid: str) -> Record:
        """What the policies want for one study, and why."""
        return self._get(f"/v1/studies/{_part(uid)}/policies")

    def accesses(self, uid: str, *, limit: int) -> list[Record]:
        """Who retrieved or found a study, the last first."""
        return self._list(f"/v1/studies/{_part(uid)}/accesses", limit=limit)

    def holds(self, *, limit: int, offset: int = 0) -> list[Record]:
        """The studies under legal hold."""
        return self._list("/v1/holds", limit=limit, offset=offset)

    def queue(
        self, *, kind: str = "", state: str = "", study: str = "", limit: int, offset: int = 0
    ) -> list[Record]:
        return self._list("/v1/queue", kind=kind, state=state, study=study, limit=limit, offset=offset)

    def request(self, pk: int) -> Record:
        return self._get(f"/v1/queue/{pk}")

    def volumes(
        self, *, pool: str = "", state: str = "", place: str = "", limit: int, offset: int = 0
    ) -> list[Record]:
        return self._list("/v1/volumes", pool=pool, state=state, place=place, limit=limit, offset=offset)

    def volume(self, barcode: str, *, limit: int = 50, offset: int = 0) -> Record:
        return self._get(f"/v1/volumes/{_part(barcode)}", limit=limit, offset=offset)

    def pools(self) -> list[Record]:
        """Every pool: what it is, and whether it can be used."""
        return self._list("/v1/pools")

    def pool(self, name: str) -> Record:
        return self._get(f"/v1/pools/{_part(name)}")

    def test_pool(self, name: str, volume: str = "") -> list[Record]:
        """Write a probe into each volume of a pool, or into one, read it back and delete it."""
        return _array(self._act(f"/v1/pools/{_part(name)}/test", {"volume": volume} if volume else {}))

    def drain(self, volume: str) -> Record:
        """Begin to empty a volume that needs no drive."""
        return _object(self._act(f"/v1/volumes/{_part(volume)}/drain", {}))

    def stop_drain(self, volume: str) -> Record:
        """Give a drain up: what has moved stays moved."""
        return _object(self._act(f"/v1/volumes/{_part(volume)}/drain/stop", {}))

    def mounts(self, *, every: bool = False, limit: int = 50) -> list[Record]:
        """Mount requests: the open ones, or every one."""
        return self._list("/v1/mounts", all="true" if every else "", limit=limit)

    def inventory(self, library: str = "") -> list[Record]:
        return _array(self._act("/v1/library/inventory", {"library": library} if library else {}))

    def policies(self) -> list[Record]:
        return self._list("/v1/policies")

    def runs(self, *, policy: str = "", limit: int = 50) -> list[Record]:
        return self._list("/v1/runs", policy=policy, limit=limit)

    def decisions(self, *, run: int | None = None, study: str = "", limit: int = 50) -> list[Record]:
        return self._list("/v1/decisions", run="" if run is None else run, study=study, limit=limit)

    def progress(self, requests: Sequence[int]) -> list[Record]:
        """How far these recalls are."""
        return self._list("/v1/recalls", requests=",".join(map(str, requests)))

    # What changes something

    def recall(self, uids: Sequence[str], priority: str = "routine") -> list[Record]:
        """One record for each UID: packages, requests, state, eta."""
        return _array(self._act("/v1/recalls", {"uids": list(uids), "priority": priority}))

    def hold(self, uid: str, reason: str) -> Record:
        """Place a legal hold: nothing of the study is released until it is lifted."""
        return self._post(f"/v1/studies/{_part(uid)}/hold", reason=reason)

    def unhold(self, uid: str, reason: str) -> Record:
        return self._post(f"/v1/studies/{_part(uid)}/unhold", reason=reason)

    def delete_study(self, uid: str, reason: str, *, refuse_late: bool = False) -> Record:
        """Put a study into the trash."""
        return self._post(f"/v1/studies/{_part(uid)}/delete", reason=reason, refuse_late=refuse_late)

    def undelete_study(self, uid: str, reason: str) -> Record:
        return self._post(f"/v1/studies/{_part(uid)}/undelete", reason=reason)

    def unreject(self, uid: str, reason: str, note: str = "") -> Record:
        """Take the rejections of a study back: all, or that of one note."""
        return self._post(f"/v1/studies/{_part(uid)}/unreject", reason=reason, **_given({"note": note}))

    def rejections(self, *, limit: int, offset: int = 0) -> list[Record]:
        """Rejections that stand."""
        return self._list("/v1/rejections", limit=limit, offset=offset)

    def trash(self, *, every: bool = False, limit: int, offset: int = 0) -> list[Record]:
        """Studies in the trash; with ``every`` also what has ended."""
        return self._list("/v1/trash", all="true" if every else "", limit=limit, offset=offset)

    def tag(self, uid: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Record:
        """Give a study tags and take some away."""
        return self._post(f"/v1/studies/{_part(uid)}/tags", add=list(add), remove=list(remove))

    def retain(self, uid: str, until: str, reason: str) -> Record:
        """Keep a study up to a day (``YYYYMMDD``); an empty day ends that."""
        return self._post(f"/v1/studies/{_part(uid)}/retention", until=until, reason=reason)

    def cancel(self, pk: int) -> Record:
        return self._post(f"/v1/queue/{pk}/cancel")

    def retry(self, pk: int) -> Record:
        return self._post(f"/v1/queue/{pk}/retry")

    def label(self, barcode: str, pool: str = "", overwrite: str = "") -> Record:
        """Give a volume to a pool; ``overwrite``, its barcode once more, writes over what is on it."""
        given = {"pool": pool, "overwrite": overwrite}
        return self._post(f"/v1/volumes/{_part(barcode)}/label", **_given(given))

    def move(self, barcode: str, shelf: str) -> Record:
        return self._post(f"/v1/volumes/{_part(barcode)}/move", shelf=shelf)

    def retire(self, barcode: str, reason: str = "") -> Record:
        return self._post(f"/v1/volumes/{_part(barcode)}/retire", **_given({"reason": reason}))

    def recycle(self, barcode: str, reason: str = "") -> Record:
        """Let a volume that holds nothing that counts be labelled anew."""
        return self._post(f"/v1/volumes/{_part(barcode)}/recycle", **_given({"reason": reason}))

    def lost(self, barcode: str, reason: str) -> Record:
        """Give a volume up: its copies are lost, and what policy lacks then is copied anew."""
        return self._post(f"/v1/volumes/{_part(barcode)}/lost", reason=reason)

    def repack(self, *, dry_run: bool = False, **wanted: str | int | bool) -> Record:
        """``barcode``, ``sparse`` (percent), ``suspect`` or ``generation``; with ``pool`` and ``then``."""
        return self._post("/v1/repacks", dry_run=dry_run, **wanted)

    def scan(self, barcode: str, *, adopt: bool = False, pool: str = "") -> Record:
        """Read a cartridge's label and index and compare them with the catalog."""
        more = _given({"pool": pool})
        return self._post(f"/v1/volumes/{_part(barcode)}/scan", adopt=adopt, **more)

    def backup_catalog(self, pool: str, keep: int = 0) -> Record:
        """Write a backup of the catalog into a pool, read back; all but the last ``keep`` are dropped."""
        return self._slowly("/v1/catalog/backup", {"pool": pool, "keep": keep})

    def drill(self, sample: int, pool: str = "") -> Record:
        """Try a rebuild with so many volumes."""
        return self._slowly("/v1/catalog/drill", {"sample": sample} | _given({"pool": pool}))

    def clean(self, library: str, drive: int) -> Record:
        return self._post("/v1/library/clean", library=library, drive=drive)

    def stop_repack(self, barcode: str) -> Record:
        return self._post(f"/v1/volumes/{_part(barcode)}/repack/stop")

    def set_drive(self, library: str, drive: int, state: str, reason: str = "") -> Record:
        """Take a drive out of service (``off``) or back into it (``on``)."""
        more = _given({"reason": reason})
        return self._post("/v1/library/drive", library=library, drive=drive, state=state, **more)

    def library_report(self, library: str) -> Record:
        """What each drive of a library did with each cartridge, and who is to blame."""
        return self._get(f"/v1/library/{_part(library)}/report")

    def verify(self, barcode: str) -> Record:
        """Queue a read-back of every copy on a volume."""
        return self._post(f"/v1/volumes/{_part(barcode)}/verify")

    def load(self, barcode: str, drive: int) -> Record:
        return self._post("/v1/library/load", barcode=barcode, drive=drive)

    def unload(self, library: str, drive: int) -> Record:
        return self._post("/v1/library/unload", library=library, drive=drive)

    def export(self, barcode: str, shelf: str) -> Record:
        return self._post("/v1/library/export", barcode=barcode, shelf=shelf)

    def import_(self, barcode: str) -> Record:
        return self._post("/v1/library/import", barcode=barcode)

    def begin_export(
        self, target: str, studies: Sequence[str], *, anonymise: bool = False, udf: bool = False
    ) -> Record:
        """Start a patient disc or stick; see :meth:`export_state`."""
        return self._post("/v1/exports", target=target, studies=list(studies), anonymise=anonymise, udf=udf)

    def export_state(self, pk: int) -> Record:
        return self._get(f"/v1/exports/{pk}")

    def cancel_export(self, pk: int) -> Record:
        return self._post(f"/v1/exports/{pk}/cancel")

    def check_policies(self, texts: Mapping[str, str] | None = None) -> Record:
        """Check these texts (file name -> text), or the folder that the daemon uses."""
        members = {} if texts is None else {"texts": dict(texts)}
        return self._post("/v1/policies/check", **members)

    def run_policies(self, name: str = "", *, dry_run: bool = False) -> Record:
        return self._post("/v1/policies/run", name=name, dry_run=dry_run)

    def plan(self, hours: float = 24.0) -> Record:
        """What the policies would do in the next hours, and what it takes."""
        return _object(self._ask("GET", "/v1/policies/plan", PLAN_SECONDS, params={"hours": f"{hours:g}"}))

    def audit_copies(self, *, policy: str = "", as_of: str = "", grace: str = "", limit: int = 100) -> Record:
        """Which studies have the copies that they were promised, by policy."""
        asked = {"policy": policy, "as_of": as_of, "grace": grace, "limit": str(limit)}
        given = {name: value for name, value in asked.items() if value}
        return _object(self._ask("GET", "/v1/audit/copies", PLAN_SECONDS, params=given))

    def audit_log(self, *, limit: int = 100, **wanted: str | int) -> list[Record]:
        """Records of the journal, the last first: ``subject, actor, verb, kind, since, until, before``."""
        return self._list("/v1/audit/log", limit=limit, **wanted)

    def verify_log(self, anchors: Mapping[int, str] | None = None, volumes: Sequence[str] = ()) -> Record:
        """Walk the journal's chain, and compare it with digests that were kept elsewhere: those given, and
        those read from volumes."""
        members: Record = {"anchors": {str(seq): digest for seq, digest in (anchors or {}).items()}}
        if volumes:
            members["volumes"] = list(volumes)
        return _object(self._ask("POST", "/v1/audit/log/verify", PLAN_SECONDS, json=members))

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
        return _object(self._ask("GET", "/v1/audit/media", PLAN_SECONDS))

    def audit_medium(self, barcode: str, limit: int = 100) -> Record:
        """One volume, and the studies that would lose a copy with it."""
        path = f"/v1/audit/media/{_part(barcode)}"
        return _object(self._ask("GET", path, PLAN_SECONDS, params={"limit": str(limit)}))

    def prove(self, uid: str, to: IO[bytes]) -> int:
        """Write a study's proof, a ZIP, into a file; how many bytes."""
        return self._download(f"/v1/studies/{_part(uid)}/proof", to)

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
        by = {"by": self._by} if self._by else {}
        return _object(self._ask("POST", "/v1/policies/diff", PLAN_SECONDS, json=members | by))

    def activate_policies(self, comment: str = "", version: int | None = None) -> Record:
        """Put the folder's policies, or those of an earlier version, into force."""
        members = {} if version is None else {"version": version}
        return self._post("/v1/policies/activate", comment=comment, **members)

    def resume_policy(self, name: str) -> Record:
        """Let a suspended policy go on."""
        return self._post(f"/v1/policies/{_part(name)}/resume")

    def reload(self) -> Record:
        return self._post("/v1/reload")

    # How it is asked

    def _get(self, path: str, **parameters: str | int) -> Record:
        return _object(self._ask("GET", path, READ_SECONDS, params=_given(parameters)))

    def _list(self, path: str, **parameters: str | int) -> list[Record]:
        return _array(self._ask("GET", path, READ_SECONDS, params=_given(parameters)))

    def _post(self, path: str, **members: Any) -> Record:
        return _object(self._act(path, members))

    def _name(self, text: str) -> str:
        return _part(text)

    def _posted(self, path: str, **members: Any) -> list[Record]:
        return _array(self._act(path, members))

    def _act(self, path: str, members: Record) -> httpx.Response:
        by = {"by": self._by} if self._by else {}
        return self._ask("POST", path, ACT_SECONDS, json=members | by)

    def _slowly(self, path: str, members: Record) -> Record:
        """What takes as long as media take."""
        by = {"by": self._by} if self._by else {}
        return _object(self._ask("POST", path, MEDIA_SECONDS, json=members | by))

    def _download(self, path: str, to: IO[bytes]) -> int:
        timeout = httpx.Timeout(PLAN_SECONDS, connect=CONNECT_SECONDS)
        size = 0
        try:
            self._try_connecting()
            with self._http.stream("GET", path, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _failure(answer)
                for piece in answer.iter_bytes():
                    size += to.write(piece)
        except (httpx.TransportError, OSError) as error:
            self._connects = False
            raise self._unreachable(str(error)) from error
        return size

    def _ask(self, method: str, path: str, seconds: float, **more: Any) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            self._try_connecting()
            answer = self._http.request(method, path, timeout=timeout, **more)
        except httpx.ReadTimeout as error:
            raise Problem(
                f"the daemon did not answer within {seconds:g} s", "time-out", "look again with `hsm status`"
            ) from error
        except (httpx.TransportError, OSError) as error:
            self._connects = False
            raise self._unreachable(str(error)) from error
        if answer.is_success:
            return answer
        raise _failure(answer)

    def _try_connecting(self) -> None:
        """Connect once beforehand, where that is of use."""
        if not self._connects:
            self._to.probe()
            self._connects = True

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"no daemon answers on {self._to.name}: {why}",
            "unreachable",
            self._to.hint,
        )


def _given(parameters: Mapping[str, str | int]) -> dict[str, str | int]:
    return {name: value for name, value in parameters.items() if value != ""}


def _object(answer: httpx.Response) -> Record:
    found = _json(answer)
    if not isinstance(found, dict):
        raise Problem(f"{answer.request.url.path}: expected a JSON object", "failed")
    return found


def _array(answer: httpx.Response) -> list[Record]:
    found = _json(answer)
    if not isinstance(found, list):
        raise Problem(f"{answer.request.url.path}: expected a JSON array", "failed")
    return found


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise Problem(f"{answer.request.url.path}: the answer is not JSON: {error}", "failed") from error


def _part(text: str) -> str:
    """``text`` as one part of a path. An empty, dotted or slashed one would name another path."""
    if text in ("", ".", "..") or "/" in text:
        raise BadRequest(f"{text!r} cannot be a name", "bad input")
    return quote(text, safe="")


def _failure(answer: httpx.Response) -> ApiError:
    try:
        said = answer.json()
        message, kind, hint = str(said["error"]), str(said["kind"]), str(said["hint"])
    except (ValueError, KeyError, TypeError):
        return Problem(f"the daemon answered {answer.status_code}: {answer.text[:200]}", "failed")
    return KINDS.get(kind, Problem)(message, kind, hint)
