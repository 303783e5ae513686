"""Peers are told how available studies have become, as durable work: PS3.4 annex R.

What has happened is read from the journal, so that nobody who changes a copy or a volume has to think of it.
A change of a study makes one request for each peer that wants to know; what is said is found when it is
sent, so that changes which come faster than they are sent are one notification. An outage of storage is no
change: it ends by itself, and queries tell it meanwhile.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from hsm.availability import Reach
from hsm.catalog import announced, placement, queue, queuelooks, requesting
from hsm.catalog.announced import Picture, Told
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.log import get_logger
from hsm.model import Priority
from hsm.states import RequestKind, RequestState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "announce"
FOLLOWER = "availability"
RECORDS_AT_ONCE = 2000
STUDIES_AT_ONCE = 200
"""In one transaction."""
SETTLE_SECONDS = 5.0
"""A change is told after so long: mostly more of the same study follows."""
ITEMS_MAX = 2000
"""Instances in one notification; a study of more is told in several."""
SENT = "sent"
"""In a request's detail: notifications that the peer has."""
_NAMESPACE = uuid.UUID("6f1f7a35-6d19-4c6d-9d9b-0b8c6e6f4a51")


@dataclass(frozen=True, slots=True)
class Notification:
    """What one N-CREATE says; at most :data:`ITEMS_MAX` instances of one study."""

    uid: str
    """The SOP Instance UID: the same content has the same one, however often it is sent."""
    study_uid: str
    items: tuple[Told, ...]
    media: Mapping[str, str]
    """UUIDs of the removable volumes named in them."""


class Announcements:
    """Keeps what is to be told.

    :param reach: what could be read if nothing were out of service.
    :param subscribers: the AE titles that want to know, as configured now.
    """

    def __init__(
        self,
        catalog: Catalog,
        bell: Bell,
        reach: Callable[[], Reach],
        subscribers: Callable[[], Sequence[str]],
    ) -> None:
        self._catalog, self._bell = catalog, bell
        self._reach, self._subscribers = reach, subscribers
        self._again: set[int] = set()
        """Studies that changed while they were being told."""

    def round(self) -> int:
        """Read what is new in the journal and queue what is to be told; how many studies have changed.

        Whoever subscribes is told what changes from then on.
        """
        titles = self._subscribers()
        with self._catalog.read() as session:
            since, head = announced.followed(session, FOLLOWER), announced.head(session)
            if since is None or not titles:
                if (since is None) != (not titles):
                    self._begin(head if titles else None)
                return 0
            reached, studies = announced.touched(session, since, RECORDS_AT_ONCE)
            looked_at = sorted({*studies, *announced.staged(session), *self._again})
        changed = 0
        for start in range(0, len(looked_at), STUDIES_AT_ONCE):
            changed += self._look(looked_at[start : start + STUDIES_AT_ONCE], titles)
        if reached != since:
            with self._catalog.write() as session:
                announced.follow(session, FOLLOWER, reached)
        if changed:
            self._bell.ring()
        return changed

    def _begin(self, head: int | None) -> None:
        with self._catalog.write() as session:
            announced.follow(session, FOLLOWER, head)

    def _look(self, study_pks: Sequence[int], titles: Sequence[str]) -> int:
        reach = self._reach()
        with self._catalog.read() as session:
            now = announced.pictures(session, study_pks, reach)
            before = announced.known(session, study_pks)
        news = {pk: each for pk, each in now.items() if each != before.get(pk, Picture("", False))}
        self._again -= set(study_pks) - set(news)
        if not news:
            return 0
        changed = 0
        with self._catalog.write() as session:
            for pk, picture in sorted(news.items()):
                told = before.get(pk)
                if picture.text == (told.text if told else ""):
                    announced.note(session, pk, picture, self._catalog.clock.now())
                elif self._queue(session, pk, picture, titles):
                    changed += 1
        return changed

    def _queue(self, session: Session, study_pk: int, picture: Picture, titles: Sequence[str]) -> bool:
        """One request a peer; False while one of them is being told just now: then it is looked at again."""
        now = self._catalog.clock.now()
        study_uid = placement.study_uid(session, study_pk)
        keys = {title: f"notify:{title}:{study_uid}" for title in titles}
        busy = queuelooks.latest(session, keys.values())
        if any(order.state is RequestState.ACTIVE for order in busy.values()):
            self._again.add(study_pk)
            return False
        self._again.discard(study_pk)
        for title, key in keys.items():
            requesting.enqueue(
                session,
                now,
                ACTOR,
                RequestKind.NOTIFY,
                key,
                priority=Priority.PREFETCH,
                reason=f"{title} is told how available the study is",
                study_pk=study_pk,
                detail={"ae": title, "study": study_uid},
                not_before=now + timedelta(seconds=SETTLE_SECONDS),
            )
        announced.note(session, study_pk, picture, now)
        return True

    def notifications(self, order: Order) -> list[Notification]:
        """What is to be sent for a request, as things are now, less what the peer has of it already."""
        study_uid = str(order.detail["study"])
        with self._catalog.read() as session:
            items = list(announced.instances(session, study_uid, self._reach()))
            media = announced.media(session, {name for each in items for name in each.standing.media})
        parts = [tuple(items[start : start + ITEMS_MAX]) for start in range(0, len(items), ITEMS_MAX)]
        every = [Notification(_uid(order.pk, part), study_uid, part, media) for part in parts]
        sent = set(order.detail.get(SENT, ()))
        return [each for each in every if each.uid not in sent]

    def sent(self, order: Order, notification: Notification) -> None:
        """Note that the peer has it."""
        with self._catalog.write() as session:
            detail = queue.get(session, order.pk).detail
            queue.set_detail(session, order.pk, {**detail, SENT: [*detail.get(SENT, ()), notification.uid]})


def _uid(request_pk: int, items: Sequence[Told]) -> str:
    """A UID made of what is said (PS3.5 section B.2): who gets it twice can tell."""
    digest = hashlib.sha256(repr(items).encode()).hexdigest()
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{request_pk} {digest}').int}"
