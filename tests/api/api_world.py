"""A daemon that is all API: real server, real socket, real catalog; the services are scripted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from sqlalchemy.orm import Session

from hsm.api.services import Services
from hsm.audit.copies import Asked
from hsm.audit.verify import AskedFor
from hsm.availability import Reach
from hsm.catalog import journal, views
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted as WantedRecords
from hsm.catalog.tables import (
    Copy,
    Decision,
    MountRequest,
    Package,
    Patient,
    Request,
    Run,
    Series,
    Study,
    Volume,
    Waiter,
)
from hsm.catalog.views import Page, PoolFact
from hsm.errors import NotFound, Refused
from hsm.model import Priority, Tier
from hsm.repack import Wanted
from hsm.states import Outcome

LONG_UID = "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345678"
"""64 characters: the longest a UID may be."""
TAPE_UID = "1.2.3.4.2"
NEW_UID = "1.2.3.4.3"
POOLS = (
    PoolFact("online", Tier.ONLINE, "files"),
    PoolFact("nearline", Tier.NEARLINE, "packages"),
    PoolFact("tape", Tier.OFFLINE, "packages", "sim"),
)

assert len(LONG_UID) == 64


@dataclass
class Script:
    """What the scripted services were asked, and what they answer or raise next."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.asked.clear()
        self.answers.clear()
        self.answers["status"] = {
            "version": "0.1.0",
            "started_at": datetime(2026, 1, 1, tzinfo=UTC),
            "listen": {"dicom": "127.0.0.1:11112", "ae_title": "HSM", "api": "/run/hsm/hsm.sock"},
            "pid": 4711,
            "problems": [],
            "associations": 2,
        }

    def note(self, name: str, *arguments: Any) -> Any:
        self.asked.append((name, *arguments))
        answer = self.answers.get(name, {"ok": True})
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, list) and answer and answer[0] == "in turn":
            return answer.pop(1) if len(answer) > 2 else answer[1]
        return answer() if callable(answer) else answer


class Custody:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def inventory(self, library: str | None) -> list[dict[str, Any]]:
        return self._note("inventory", library)

    def operator_done(self, barcode: str, by: str, comment: str = "") -> dict[str, Any]:
        return self._note("operator_done", barcode, by, comment)

    def operator_refuse(self, barcode: str, by: str, comment: str) -> dict[str, Any]:
        return self._note("operator_refuse", barcode, by, comment)

    def export(self, barcode: str, shelf: str, by: str) -> dict[str, Any]:
        return self._note("export", barcode, shelf, by)

    def import_(self, barcode: str, by: str) -> dict[str, Any]:
        return self._note("import", barcode, by)

    def load(self, barcode: str, drive: int, by: str) -> dict[str, Any]:
        return self._note("load", barcode, drive, by)

    def unload(self, library: str, drive: int, by: str) -> dict[str, Any]:
        return self._note("unload", library, drive, by)

    def clean(self, library: str, drive: int, by: str) -> dict[str, Any]:
        return self._note("clean", library, drive, by)


class Operators:
    def __init__(self, catalog: Catalog, script: Script) -> None:
        self._catalog = catalog
        self._note = script.note

    def prompts(self, *, every: bool = False, page: Page | None = None) -> list[dict[str, Any]]:
        with self._catalog.read() as session:
            shown = views.mounts(session, self._catalog.clock.now(), every=every, page=page)
        return [
            dict(each) | {"into": "mail slot 101", "alternatives": [], "deadline": None} for each in shown
        ]

    def picklist(self) -> dict[str, Any]:
        return self._note("picklist")

    def acknowledge(
        self, barcode: str, by: str, seconds: float | None = None, *, take: bool = False
    ) -> dict[str, Any]:
        return self._note("acknowledge", barcode, by, seconds, take)

    def release(self, barcode: str, by: str) -> dict[str, Any]:
        return self._note("release", barcode, by)

    def answer(
        self,
        barcode: str,
        outcome: Outcome,
        by: str,
        comment: str = "",
        *,
        number: int | None = None,
        site: str = "",
        instead: str = "",
    ) -> dict[str, Any]:
        if outcome is Outcome.DONE:
            return self._note("operator_done", barcode, by, comment)
        if outcome is Outcome.REFUSED:
            return self._note("operator_refuse", barcode, by, comment)
        return self._note("answer", barcode, outcome.value, by, comment, number, site, instead)

    def scan(self, barcode: str, by: str) -> dict[str, Any]:
        return self._note("operator_scan", barcode, by)


class Movements:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def export(
        self,
        barcodes: Sequence[str],
        shelf: str,
        by: str,
        site: str = "",
        *,
        plan_only: bool = False,
        force: bool = False,
    ) -> Any:
        forced = ["force"] if force else []
        return self._note("plan_export", list(barcodes), shelf, by, site, plan_only, *forced)

    def bring_back(self, barcodes: Sequence[str], by: str) -> Any:
        return self._note("bring_back", list(barcodes), by)

    def left(self, barcode: str, by: str, comment: str = "") -> Any:
        return self._note("left", barcode, by, comment)

    def arrived(self, barcode: str, by: str, comment: str = "", shelf: str = "") -> Any:
        return self._note("arrived", barcode, by, comment, shelf)

    def undo(self, barcode: str, by: str, comment: str = "") -> Any:
        return self._note("undo", barcode, by, comment)

    def listing(self, *, number: int = 0, every: bool = False) -> Any:
        return self._note("movements", number, every)


MOVEMENT = {
    "id": 1,
    "list": 1,
    "barcode": "T00002",
    "kind": "export",
    "state": "planned",
    "open": True,
    "from": "sim slot 1",
    "to": "shelf A3",
    "library": "sim",
    "site": "",
    "shelf": "A3",
    "pool": "tape",
    "volume_state": "full",
    "planned_at": "2026-03-01T02:00:00Z",
    "planned_by": "alice",
    "left_at": None,
    "left_by": "",
    "ended_at": None,
    "ended_by": "",
    "comment": "",
}
"""As the daemon shows one."""


class Recall:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def request_study(self, uid: str, priority: Priority, who: str) -> dict[str, Any]:
        return self._note("request_study", uid, priority, who)

    def progress(self, request_pks: Sequence[int]) -> list[dict[str, Any]]:
        return self._note("progress", tuple(request_pks))


class Prefetches:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def ask(self, key: str, wanted: Any, scheduled: Any, by: str, margin: Any = None) -> dict[str, Any]:
        return self._note("prefetch", key, wanted, scheduled, by, margin)

    def show(self, key: str) -> dict[str, Any]:
        return self._note("prefetch_show", key)

    def withdraw(self, key: str, by: str) -> dict[str, Any]:
        return self._note("prefetch_withdraw", key, by)


class Trash:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def delete(self, uid: str, reason: str, by: str, **more: Any) -> dict[str, Any]:
        return self._note("delete", uid, reason, by, more)

    def undelete(self, uid: str, reason: str, by: str) -> dict[str, Any]:
        return self._note("undelete", uid, reason, by)

    def listing(self, limit: int, offset: int = 0, *, every: bool = False) -> list[dict[str, Any]]:
        self._note("trash", limit, offset, every)
        return []

    def revoke(self, uid: str, reason: str, by: str, note: str = "") -> dict[str, Any]:
        return self._note("revoke", uid, reason, by, note)

    def rejections(self, limit: int, offset: int = 0) -> list[dict[str, Any]]:
        self._note("rejections", limit, offset)
        return []


class Policies:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def listing(self) -> list[dict[str, Any]]:
        return self._note("listing")

    def check(self, texts: Any = None) -> dict[str, Any]:
        return self._note("check", texts)

    def run(self, name: str | None, dry_run: bool, by: str) -> dict[str, Any]:
        return self._note("run", name, dry_run, by)

    def explain(self, study_uid: str) -> dict[str, Any]:
        return self._note("explain", study_uid)

    def plan(self, hours: float) -> dict[str, Any]:
        return self._note("plan", hours)

    def diff(self, old: Any, new: Any) -> dict[str, Any]:
        return self._note("diff", old, new)

    def folder_digest(self) -> str:
        return self._note("folder digest")

    def activate(
        self, by: str, comment: str = "", version: int | None = None, digest: str = ""
    ) -> dict[str, Any]:
        return self._note("activate", by, comment, version, *([digest] if digest else []))

    def history(self, limit: int) -> list[dict[str, Any]]:
        return self._note("history", limit)

    def resume(self, name: str, by: str) -> dict[str, Any]:
        return self._note("resume", name, by)


class Exports:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def begin(
        self, target: str, uids: list[str], user: str, by: str, *, anonymise: bool, udf: bool
    ) -> dict[str, Any]:
        return self._note("begin", target, tuple(uids), user, by, anonymise, udf)

    def show(self, pk: int) -> dict[str, Any]:
        return self._note("show", pk)

    def cancel(self, pk: int, by: str) -> dict[str, Any]:
        return self._note("cancel_export", pk, by)


class Queue:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def cancel(self, pk: int, by: str) -> None:
        self._note("cancel", pk, by)

    def retry(self, pk: int, by: str) -> None:
        self._note("retry", pk, by)


class Volumes:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def label(self, barcode: str, pool: str, by: str, overwrite: str = "") -> dict[str, Any]:
        return self._note("label", barcode, pool, by, overwrite)

    def verify(self, barcode: str, by: str) -> dict[str, Any]:
        self._note("verify", barcode, by)
        return {"barcode": barcode, "requests": 2}

    def retire(self, barcode: str, by: str, reason: str = "") -> None:
        self._note("retire", barcode, by, *((reason,) if reason else ()))

    def recycle(self, barcode: str, by: str, reason: str = "") -> dict[str, Any]:
        return self._note("recycle", barcode, by, reason)

    def lost(self, barcode: str, by: str, reason: str) -> dict[str, Any]:
        return self._note("lost", barcode, by, reason)

    def move(self, barcode: str, shelf: str, by: str) -> None:
        self._note("move", barcode, shelf, by)


class Storage:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def listing(self) -> list[dict[str, Any]]:
        answer = self._note("pool listing")
        return answer if isinstance(answer, list) else []

    def show(self, name: str) -> dict[str, Any]:
        return self._note("pool show", name)

    def test(self, name: str, volume: str) -> list[dict[str, Any]]:
        return self._note("pool test", name, volume)

    def drain(self, volume: str, by: str) -> dict[str, Any]:
        return self._note("drain", volume, by)

    def stop_drain(self, volume: str, by: str) -> dict[str, Any]:
        return self._note("stop drain", volume, by)


class Audit:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def copies(self, asked: Asked) -> dict[str, Any]:
        return self._note("audit copies", asked)

    def log(self, wanted: WantedRecords, limit: int, by: str) -> list[dict[str, Any]]:
        return self._note("audit log", wanted, limit)

    def verify_log(
        self, anchors: Mapping[int, bytes], volumes: Sequence[str] = (), by: str = ""
    ) -> dict[str, Any]:
        return self._note("audit verify", anchors, *volumes)

    def verify(self, asked: AskedFor, by: str) -> Any:
        return self._note("verify copies", asked, by)

    def verified(self, requests: Sequence[int]) -> Any:
        return self._note("verified", list(requests))

    def media(self) -> Any:
        return self._note("audit media")

    def medium(self, name: str, limit: int) -> Any:
        return self._note("audit medium", name, limit)

    def prove(self, uid: str, to: IO[bytes], by: str) -> None:
        to.write(self._note("prove", uid))


class Rescue:
    """Backups, and rebuilds that are tried."""

    def __init__(self, script: Script) -> None:
        self._note = script.note

    def write(self, pool: str, by: str, keep: int = 0) -> Any:
        return self._note("backup", pool, by, keep)

    def drill(self, sample: int, pool: str, by: str) -> Any:
        return self._note("drill", sample, pool, by)


class Scan:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def scan(self, barcode: str, by: str, *, adopt: bool = False, pool: str = "") -> dict[str, Any]:
        return self._note("scan", barcode, by, adopt, pool)


class Repack:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def start(self, wanted: Wanted, by: str, *, dry_run: bool = False) -> dict[str, Any]:
        return self._note("repack", wanted, by, dry_run)

    def stop(self, barcode: str, by: str) -> dict[str, Any]:
        return self._note("stop repack", barcode, by)


class Drives:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def set_service(self, library: str, drive: int, in_service: bool, by: str, reason: str) -> dict[str, Any]:
        return self._note("set_service", library, drive, in_service, by, reason)

    def report(self, library: str) -> dict[str, Any]:
        return self._note("report", library)


class Daemon:
    def __init__(self, script: Script) -> None:
        self._note = script.note

    def status(self) -> dict[str, Any]:
        return self._note("status")

    def reload(self) -> dict[str, Any]:
        return self._note("reload")


def turns(request_pks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Request 1 is third in the queue of a drive; the others need none."""
    turn = {
        "position": 3, "library": "sim", "drive": 256, "volume": "T00002",
        "starts_at": datetime(2100, 1, 1, tzinfo=UTC), "finishes_at": datetime(2100, 1, 1, 0, 4, tzinfo=UTC),
        "why": "third on T00002 in drive 256 of sim, after 7: stat before migration; 8: is under way",
        "ahead": [{"request": 7, "why": "stat before migration"}, {"request": 8, "why": "is under way"}],
        "ahead_total": 2,
    }  # fmt: skip
    return {pk: turn for pk in request_pks if pk == 1}


def services(catalog: Catalog, script: Script) -> Services:
    return Services(
        catalog=catalog,
        pools=lambda: POOLS,
        reach=lambda: Reach({pool.name: pool.tier for pool in POOLS}),
        custody=Custody(script),
        recall=Recall(script),
        prefetches=Prefetches(script),
        trash=Trash(script),
        policies=Policies(script),
        queue=Queue(script),
        volumes=Volumes(script),
        drives=Drives(script),
        repack=Repack(script),
        scan=Scan(script),
        daemon=Daemon(script),
        exports=Exports(script),
        storage=Storage(script),
        backups=Rescue(script),
        drills=Rescue(script),
        operators=Operators(catalog, script),
        movements=Movements(script),
        audit=Audit(script),
        turns=turns,
    )


def fill(session: Session, catalog: Catalog) -> None:
    """Three studies: one online and copied, one on a shelved cartridge, one not sealed yet."""
    now = catalog.clock.now()
    for pk, (name, tier) in enumerate((("online", 1), ("nearline", 1)), start=1):
        session.add(_volume(pk, name, now, pool=name, used=700 * tier))
    session.add(
        _volume(
            3, "T00001", now, pool="tape", used=900, library="sim", place="shelf", shelf="A3", removable=True
        )
    )
    session.add(
        _volume(4, "T00002", now, library="sim", state="scratch", place="slot", element=1002, removable=True)
    )
    patients = (
        ("P1", "Döe^Jäne=山田^花子", "döe^jäne", "山田^花子"),
        ("P2", "ROE^RICHARD", "roe^richard", ""),
    )
    for pk, (patient_id, name, normal, ideographic) in enumerate(patients, start=1):
        session.add(
            Patient(
                pk=pk, key=patient_id, patient_id=patient_id, issuer="", name=name, name_alphabetic=normal,
                name_ideographic=ideographic or None, birth_date="19700101", sex="F",
            )
        )  # fmt: skip
    session.flush()
    for pk, (uid, owner, date, modalities) in enumerate(
        (
            (LONG_UID, 1, "20240110", "\\CT\\SR\\"),
            (TAPE_UID, 2, "20230501", "\\MR\\"),
            (NEW_UID, 2, "", "\\US\\"),
        ),
        start=1,
    ):
        session.add(_study(pk, uid, owner, date, modalities, now + timedelta(seconds=pk)))
    session.flush()
    session.add(
        Series(
            pk=1, study_pk=1, uid="1.2.3.4.1.1", modality="CT", number=1, description="Thorax",
            body_part="CHEST",
            date="", time="", station="", n_instances=3,
        )
    )  # fmt: skip
    for pk in (1, 2):
        uid = (LONG_UID, TAPE_UID)[pk - 1]
        session.add(
            Package(
                pk=pk, study_pk=pk, number=1, key=f"{uid}.p0001.tar", size=700, digest=bytes(32),
                n_instances=3,
                sealed_at=now,
            )
        )  # fmt: skip
    session.flush()
    for package_pk, volume_pk, state in (
        (1, 1, "verified"),
        (1, 2, "verified"),
        (2, 1, "released"),
        (2, 3, "verified"),
    ):
        session.add(
            Copy(
                package_pk=package_pk, volume_pk=volume_pk, state=state, locator="x",
                position=None, written_at=now,
                verified_at=now,
            )
        )  # fmt: skip
    _work(session, catalog)


def _volume(pk: int, name: str, now: Any, **more: Any) -> Volume:
    values = {
        "pool": None, "state": "active", "removable": False, "capacity": 10_000, "used": 0, "library": None,
        "place": "mounted", "element": None, "shelf": "", "error": "",
    }  # fmt: skip
    return Volume(pk=pk, name=name, uuid=f"uuid-{name}", created_at=now, **(values | more))


def _study(pk: int, uid: str, patient: int, date: str, modalities: str, at: Any) -> Study:
    return Study(
        pk=pk, patient_pk=patient, uid=uid, date=date, time="", study_id="", accession=f"A{pk}",
        description="Thorax\x1b[31m nativ", referring_physician="", referring_alphabetic="",
        institution="", charset="",
        modalities=modalities, n_series=1, n_instances=3, n_bytes=600, source_ae="CT1", first_received=at,
        last_received=at, last_accessed=at, unsealed=3 if uid == NEW_UID else 0,
        packages=0 if uid == NEW_UID else 1,
    )  # fmt: skip


def _work(session: Session, catalog: Catalog) -> None:
    now = catalog.clock.now()
    for pk, kind, state, volume in (
        (1, "copy", "queued", None),
        (2, "recall", "waiting", 3),
        (3, "verify", "failed", 2),
    ):
        study = 2 if kind == "recall" else 1
        session.add(
            Request(
                pk=pk, kind=kind, key=f"{kind}:{pk}", state=state, priority=10 * pk,
                study_pk=study, package_pk=study,
                volume_pk=volume, pool="tape", reason="policy keep", detail={"a": 1}, attempts=pk, worker="",
                error="the medium is worn" if state == "failed" else "", not_before=now, created_at=now,
                started_at=None, finished_at=now if state == "failed" else None,
            )
        )  # fmt: skip
    session.flush()
    for who in ("C-MOVE from WS1 to WS1", "recall by alice"):
        session.add(Waiter(request_pk=2, who=who, since=now))
    session.add(
        MountRequest(
            pk=1, volume_pk=3, state="open", priority=20, created_at=now - timedelta(minutes=5),
            answered_at=None,
            answered_by="", comment="",
        )
    )  # fmt: skip
    session.add(
        Run(
            pk=1, policy="keep", policy_digest=bytes(32), started_at=now, finished_at=now,
            matched=2, requested=1,
            refused=0,
        )
    )  # fmt: skip
    session.flush()
    session.add(
        Decision(
            run_pk=1,
            study_pk=1,
            rule="to-tape",
            action="copy",
            pool="tape",
            reason="older than 1 d",
            request_pk=1,
        )
    )
    journal.append(session, now, "ae:CT1", "received", "study", LONG_UID, {"patient_id": "P1"})
    journal.append(session, now, "daemon", "queued", "request", "1", {"key": "copy:1"})
    journal.append(session, now, "daemon", "queued", "request", "2", {"key": "recall:2"})


REFUSED = Refused("the last verified copy stays")
ABSENT = NotFound("no volume 'X'")
