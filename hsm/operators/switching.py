"""A prompt that nobody answers gives way to another copy, where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hsm.catalog import prompts, queue, queuelooks
from hsm.catalog.engine import Catalog
from hsm.catalog.prompts import PromptRef
from hsm.catalog.views.prompts import Other, others
from hsm.log import get_logger
from hsm.states import Outcome, VolumeState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "hsm"


def switch_unanswered(catalog: Catalog, bell: Bell, after_seconds: float) -> int:
    """Let recalls that wait for a volume too long go on with another one; how many prompts were withdrawn.

    Each copy is asked for once so: when none has been brought, the last one stays asked for.
    """
    now, withdrawn = catalog.clock.now(), 0
    with catalog.read() as session:
        stale = [
            each
            for each in prompts.open_prompts(session)
            if not each.walker(now)
            and now - max(each.created_at, each.acked_until or each.created_at)
            >= timedelta(seconds=after_seconds)
        ]
        # For most nothing else is left: they are found all at once, and nothing is written for them.
        found = others(session, [each.volume_pk for each in stale])
    for each in stale:
        if not _untried(found[each.volume_pk]):
            continue
        with catalog.write() as session:
            withdrawn += _switch(session, each, now, after_seconds)
    if withdrawn:
        bell.ring()
    return withdrawn


def _switch(session: Session, prompt: PromptRef, now: datetime, after_seconds: float) -> bool:
    current = prompts.current(session, prompt.volume_pk)
    if current is None or current.pk != prompt.pk or not current.is_open:
        return False
    free = _untried(others(session, [prompt.volume_pk])[prompt.volume_pk])
    if not free:
        return False
    queue.pass_over(session, sorted(free), prompt.barcode, now, ACTOR)
    names = ", ".join(sorted(set(free.values())))
    left = queuelooks.awaited(session, prompt.volume_pk)
    why = f"nobody has answered for {after_seconds / 60:.0f} min; {names} instead"
    log.warning("operator: %s: %s", prompt.barcode, why)
    if left:
        prompts.add_note(session, [prompt.volume_pk], f"is still needed for {left} other requests")
        return False
    prompts.answer(session, prompt.volume_pk, Outcome.UNANSWERED, now, ACTOR, why)
    return True


def _untried(found: Iterable[Other]) -> dict[int, str]:
    """Recalls, and the volume that each could go on with."""
    free: dict[int, str] = {}
    for other in found:
        for pk in other.untried if other.state != VolumeState.SUSPECT else ():
            free.setdefault(pk, other.name)
    return free
