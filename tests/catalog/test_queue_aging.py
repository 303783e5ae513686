"""An endless row of urgent requests keeps none waiting for ever, on either database."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hsm.catalog import queue, queuelooks, requesting
from hsm.catalog.engine import Catalog
from hsm.model import Priority
from hsm.states import RequestKind

HOUR = timedelta(hours=1)


def ask(session: Session, now: datetime, key: str, priority: Priority, pool: str | None = None) -> int:
    kind = RequestKind.RECALL if pool is None else RequestKind.COPY
    return requesting.enqueue(session, now, "test", kind, key, priority=priority, reason="test", pool=pool)[0]


def test_the_one_whose_patience_ends_first_is_found_among_all_classes(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        elsewhere = ask(session, now - 99 * HOUR, "elsewhere", Priority.SCRUB, "far")
        scrub = ask(session, now - 21 * HOUR, "scrub", Priority.SCRUB, "near")
        ask(session, now - 5 * HOUR, "migration", Priority.MIGRATION, "near")
        routine = ask(session, now, "routine", Priority.ROUTINE, "near")
        kinds, later = (RequestKind.COPY,), now + HOUR
        assert queuelooks.longest_due(session, kinds, later, ["near"]) == scrub
        assert queuelooks.longest_due(session, kinds, later, None) == elsewhere
        assert queuelooks.longest_due(session, (RequestKind.SEAL,), later, None) is None
        urgent = queue.take_next(session, kinds, "disk-1", later, ["near"])
        overdue = queue.take_next(session, kinds, "disk-1", later, ["near"], overdue=True)
        assert urgent is not None and overdue is not None
        assert (urgent.pk, overdue.pk) == (routine, scrub)


def test_a_look_that_cannot_show_everything_shows_the_oldest_of_each_class_too(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        old = [ask(session, now, f"old {each.name}", each) for each in (Priority.SCRUB, Priority.BULK)]
        new = [ask(session, now, f"stat {number}", Priority.STAT) for number in range(30)]
        later = now + HOUR
        found = queuelooks.queued_work(session, later, RequestKind.RECALL, (), 20)
        assert [each.pk for each in found[:20]] == new[:20], "the most urgent first"
        assert {each.pk for each in found[20:]} >= set(old)
        assert len({each.pk for each in found}) == len(found), "none twice"
        assert len(queuelooks.queued_work(session, later, RequestKind.RECALL, (), 50)) == 32
