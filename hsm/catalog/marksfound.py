"""Takes over what volumes say of studies: into a catalog that is rebuilt, or that is older than they are.

The last word counts, whatever the order in which volumes are read, and whether the study was found before or
after. A study that was deleted goes into the trash, for whoever finds its bytes again: nobody sees it, it can
be brought back by :func:`hsm.catalog.deletions.undelete`, and it ends when its time there is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from hsm.catalog import deletions, hiding, journal, marks, marksfacts, placements, words
from hsm.catalog.marksfacts import FOUND
from hsm.catalog.portions import chunks
from hsm.catalog.rebuilding import OBJECT, QUARANTINED
from hsm.catalog.tables import (
    MARKS,
    DeletedPackage,
    Deletion,
    HiddenInstance,
    Hold,
    Instance,
    Journal,
    Package,
    Series,
    Study,
)
from hsm.marksfile import Deleted, Held, Rejected, Stand, StudyMarks
from hsm.states import DeletionKind, DeletionState

GRACE = timedelta(days=7)
"""How long a deleted study whose bytes were found again stays in the trash at least."""
TAKEN = "marks taken over"
"""The verb: the catalog says now what a volume said of that study."""


def learn(
    session: Session,
    stand: Stand,
    some: Sequence[StudyMarks],
    volume: str,
    now: datetime,
    actor: str,
    since: int = 0,
) -> list[str]:
    """Take over what a volume says; the studies of which that was news.

    What was said of a study in this journal behind record ``since`` is newer than any volume.
    """
    before = marksfacts.found(session, [each.study for each in some])
    said_here = _said_here(session, [each.study for each in some], since)
    news = [
        each
        for each in some
        if said_here.get(each.study, 0) <= (before[each.study].seq if each.study in before else since)
        and (each.study not in before or stand.newer_than(before[each.study].stand))
    ]
    records = [(each.study, {**each.record(), **stand.record(), "volume": volume}) for each in news]
    journal.append_many(session, now, actor, FOUND, "study", records)
    names = marksfacts.absent(
        session,
        {name: digest for each in news if each.deleted for name, digest in each.deleted.packages.items()},
    )
    why = {"volume": volume, "why": "a package of this name was deleted"}
    # No other package gets that name: who finds the old one could not tell them apart by it.
    journal.append_many(session, now, actor, QUARANTINED, OBJECT, [(name, why) for name in sorted(names)])
    for each in news:
        _agree(session, each, now, actor)
    return [each.study for each in news]


def heed(session: Session, study_uid: str, now: datetime, actor: str) -> None:
    """More of a study has come into the catalog: what volumes said of it holds for that, too."""
    said = in_force(session, study_uid)
    if said is not None:
        _agree(session, said, now, actor)


def heed_loose(
    session: Session, study_uid: str, instance: tuple[str, int], came: datetime, now: datetime, actor: str
) -> None:
    """An instance (UID and version) of no package has come into the catalog: it went into the trash with its
    study if it was there by then."""
    said = in_force(session, study_uid)
    if said is None:
        return
    _agree(session, said, now, actor)
    if said.deleted is None or came > said.deleted.at:
        return
    pk = marks.study_key(session, study_uid)
    standing = deletions.standing_of(session, pk)
    deletion_pk = standing.pk if standing is not None else _stand(session, pk, said.deleted, now).pk
    hiding.hide(session, deletion_pk, _versions(session, pk, [instance]))
    hiding.recount(session, pk)
    done = {"deleted": {"at": said.deleted.at.isoformat(), "by": said.deleted.by, "instance": instance[0]}}
    journal.append(session, now, actor, TAKEN, "study", study_uid, done)


def in_force(session: Session, study_uid: str) -> StudyMarks | None:
    """What volumes said of a study, as long as nobody has said anything since."""
    found = marksfacts.found(session, [study_uid]).get(study_uid)
    if found is None or _said_here(session, [study_uid], found.seq):
        return None
    return found.marks


def names(said: StudyMarks | None, package: str, digest: bytes) -> bool:
    """Whether this package was deleted."""
    return said is not None and said.deleted is not None and said.deleted.packages.get(package) == digest


def _said_here(session: Session, uids: Iterable[str], since: int) -> dict[str, int]:
    """The last record by which somebody said something of each of these studies, behind record ``since``."""
    last: dict[str, int] = {}
    for some in chunks(uids):
        rows = session.execute(
            select(Journal.subject, Journal.seq, Journal.verb)
            .where(Journal.subject.in_(some), Journal.kind == "study", Journal.seq > since)
            .order_by(Journal.seq)
        )
        last |= {uid: seq for uid, seq, verb in rows if _is_mark(verb)}
    return last


def _is_mark(verb: str) -> bool:
    return verb != FOUND and (verb in MARKS or verb.startswith("retained until"))


def _agree(session: Session, said: StudyMarks, now: datetime, actor: str) -> None:
    """Make the catalog say what a volume said, of a study that it has."""
    hiding.lock(session)
    row = session.execute(
        select(Study.pk, Study.retain_until, Study.tags).where(Study.uid == said.study).with_for_update()
    ).first()
    if row is None:
        return
    pk, until, tags = row
    done: dict[str, Any] = {}
    if _hold(session, pk, said.held, now, actor):
        done["held"] = said.held.record() if said.held else None
    if (until or "") != said.retain_until:
        session.execute(update(Study).where(Study.pk == pk).values(retain_until=said.retain_until))
        done["retain_until"] = said.retain_until
    wanted = words.set_of(session, said.tags)
    if wanted != tags:
        session.execute(update(Study).where(Study.pk == pk).values(tags=wanted))
        done["tags"] = list(said.tags)
    if rejected := _rejections(session, pk, said.rejected, now, actor):
        done["rejected"] = rejected
    if (deleted := _deletion(session, pk, said.deleted, now, actor)) is not None:
        done["deleted"] = deleted
    if {"rejected", "deleted"} & done.keys():
        hiding.recount(session, pk)
        placements.refresh(session, [pk])
    if done:
        journal.append(session, now, actor, TAKEN, "study", said.study, done)


def _hold(session: Session, pk: int, said: Held | None, now: datetime, actor: str) -> bool:
    standing = marks.hold_of(session, pk)
    if (said is None) == (standing is None):
        return False
    if said is None:
        ended = {"lifted_at": now, "lifted_by": actor, "lifted_reason": "a volume says that it was lifted"}
        session.execute(update(Hold).where(Hold.study_pk == pk, Hold.lifted_at.is_(None)).values(**ended))
        return True
    hold = Hold(study_pk=pk, placed_at=said.at, placed_by=said.by, reason=said.reason)
    hold.lifted_at, hold.lifted_by, hold.lifted_reason = None, "", ""
    session.add(hold)
    session.flush()
    return True


def _deletion(
    session: Session, pk: int, said: Deleted | None, now: datetime, actor: str
) -> dict[str, Any] | None:
    """What was changed, for the journal; None where nothing was."""
    standing = deletions.standing_of(session, pk)
    if said is None:
        if standing is None:
            return None
        _undo(session, standing.pk, now, actor)
        return {"undone": True}
    rows = session.execute(
        select(Package.pk, Package.key, Package.digest).where(
            Package.study_pk == pk, ~placements.deleted(), Package.key.in_(list(said.packages))
        )
    )
    mine = {package: key for package, key, digest in rows if said.packages[key] == digest}
    if not mine:
        return None
    deletion_pk = standing.pk if standing is not None else _stand(session, pk, said, now).pk
    _hide(session, deletion_pk, select(Instance.pk).where(Instance.package_pk.in_(list(mine))))
    session.execute(
        insert(DeletedPackage), [{"package_pk": each, "deletion_pk": deletion_pk} for each in mine]
    )
    return {"at": said.at.isoformat(), "by": said.by, "why": said.reason, "packages": sorted(mine.values())}


def _stand(session: Session, pk: int, said: Deleted, now: datetime) -> Deletion:
    """In the trash again, with what was said then: of what was let go for good, too."""
    return hiding.stand(
        session,
        pk,
        DeletionKind.TRASH,
        (),
        said.at,
        said.by,
        said.reason,
        code=said.code,
        note=said.note,
        approved_by=said.approved_by,
        due_at=max(said.due_at, now + GRACE),
        refuses=said.refuses,
    )


def _rejections(
    session: Session, pk: int, said: Sequence[Rejected], now: datetime, actor: str
) -> dict[str, Any]:
    """What was changed, for the journal."""
    standing = {
        row.note: row.pk
        for row in session.scalars(
            select(Deletion).where(
                Deletion.study_pk == pk,
                Deletion.kind == DeletionKind.REJECTION,
                Deletion.state == DeletionState.STANDING,
            )
        )
    }
    done: dict[str, Any] = {}
    for note in standing.keys() - {each.note for each in said}:
        _undo(session, standing[note], now, actor)
        done[note] = "revoked"
    for each in said:
        there = [found for some in chunks(each.instances) for found in _versions(session, pk, some)]
        if not there:
            continue
        deletion_pk = standing.get(each.note)
        if deletion_pk is None:
            made = hiding.stand(
                *(session, pk, DeletionKind.REJECTION, (), each.at, each.by, each.reason),
                code=each.code,
                note=each.note,
            )
            deletion_pk = made.pk
        hidden = sum(
            _hide(session, deletion_pk, select(Instance.pk).where(Instance.pk.in_(some)))
            for some in chunks(there)
        )
        if hidden:
            done[each.note] = hidden
    return done


def _versions(session: Session, study_pk: int, some: Sequence[tuple[str, int]]) -> list[int]:
    """The instances of a study that are these versions of these UIDs."""
    wanted = set(some)
    rows = session.execute(
        select(Instance.pk, Instance.uid, Instance.version)
        .join(Series, Series.pk == Instance.series_pk)
        .where(Series.study_pk == study_pk, Instance.uid.in_([uid for uid, _ in some]))
    )
    return [pk for pk, uid, version in rows if (uid, version) in wanted]


def _hide(session: Session, deletion_pk: int, instances: Any) -> int:
    """Hide those that this deletion does not hide yet; how many those were."""
    already = select(HiddenInstance.instance_pk).where(HiddenInstance.deletion_pk == deletion_pk)
    fresh = session.scalars(instances.where(Instance.pk.not_in(already))).all()
    hiding.hide(session, deletion_pk, fresh)
    return len(fresh)


def _undo(session: Session, deletion_pk: int, now: datetime, actor: str) -> None:
    ended = {"ended_at": now, "ended_by": actor, "ended_reason": "a volume says that it was taken back"}
    state = {"state": DeletionState.UNDONE.value}
    session.execute(update(Deletion).where(Deletion.pk == deletion_pk).values(**state, **ended))
    session.flush()
    hiding.show(session, deletion_pk)
