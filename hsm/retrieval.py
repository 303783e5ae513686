"""What a retrieve reads: its instances, each as soon as it can be read.

What lies on disk goes first; for the rest a recall is joined, and its instances follow in the order
in which their bytes arrive. Closing a retrieval leaves the recalls to themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from hsm.availability import RECALLED, Reach, Room, Way, quickest, route, too_large, why_none
from hsm.catalog import instances as rows
from hsm.catalog import placement, queuelooks
from hsm.catalog.access import AccessLog
from hsm.catalog.engine import Catalog
from hsm.catalog.history import Recorder
from hsm.errors import DriverError, HsmError
from hsm.log import get_logger
from hsm.model import InstanceRef, Place, Priority, Tier
from hsm.ranges import Closing, Range
from hsm.reader import Reader
from hsm.recall import Recall
from hsm.retrieveaccount import STAGED, Account
from hsm.retrieveparts import Part, parts_of
from hsm.staging import Staging
from hsm.states import CopyState, RequestState
from hsm.wake import Bell

log = get_logger(__name__)

RECALLS_PER_PACKAGE_MAX = 3
DAMAGES_MAX = 20
LOOK_SECONDS = 1.0
"""The longest that a waiting retrieve goes without looking at its requests."""


@dataclass(frozen=True, slots=True)
class Readable:
    """One instance and its whole Part 10 file, digest already checked. Who gets it closes the content."""

    instance: InstanceRef
    content: Range


@dataclass(frozen=True, slots=True)
class Unobtainable:
    """One instance that cannot be had, and why."""

    instance: InstanceRef
    reason: str


class Retrievals:
    """Opens retrievals."""

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        recall: Recall,
        staging: Staging,
        bell: Bell,
        history: Recorder | None = None,
        tiers: Mapping[str, Tier] | None = None,
        accesses: AccessLog | None = None,
    ) -> None:
        """
        :param history: where each retrieve is noted; nowhere without it.
        :param tiers: of the configured pools, for the history.
        :param accesses: what puts each study's retrieve into the journal; None: nothing does.
        """
        self.catalog = catalog
        self.reader = reader
        self.recall = recall
        self.staging = staging
        self.bell = bell
        self.history = history
        self.accesses = accesses
        self.forecast: Callable[[Sequence[int]], str] | None = None
        """Says in words what recalls wait for, and how long; without it the queue says what it knows."""
        self.tiers = tiers or {}

    def open(
        self,
        instances: Sequence[InstanceRef],
        who: str,
        priority: Priority,
        ae: str = "",
        *,
        comes_back: bool = False,
    ) -> Retrieval:
        """Begin to retrieve these instances; joins the recalls that are needed at once.

        :param ae: the calling AE title, for the history.
        :param comes_back: it is closed and opened again until everything was had: what comes for it
            meanwhile is kept.
        """
        with self.catalog.read() as session:
            parts = parts_of(session, instances)
        with self.catalog.write() as session:
            studies = {instance.study_uid for instance in instances}
            placement.touch_studies(session, studies, self.catalog.clock.now())
        retrieval = Retrieval(self, parts, who, priority, ae, comes_back=comes_back)
        try:
            retrieval.begin()
        except BaseException:
            retrieval.close()  # what it had joined must not stay pinned
            raise
        if not comes_back:
            retrieval.account.begun(sorted(studies))
        return retrieval


class Retrieval:
    """An open retrieval. Not thread-safe: one association owns it."""

    def __init__(
        self,
        owner: Retrievals,
        parts: list[Part],
        who: str,
        priority: Priority,
        ae: str = "",
        *,
        comes_back: bool = False,
    ) -> None:
        self._owner = owner
        self._parts = parts
        self._who = who
        self._priority = priority
        self._comes_back = comes_back
        self.account = Account(owner.history, owner.accesses, owner.catalog.clock, who, ae)

    @property
    def remaining(self) -> int:
        """Instances not handed out yet."""
        return sum(len(part.instances) for part in self._parts)

    def begin(self) -> None:
        """Join recalls for all that no disk has."""
        reach = self._owner.reader.reach()
        for part in list(self._parts):  # it may grow meanwhile
            self._join_if_needed(part, reach)

    def _join_if_needed(self, part: Part, reach: Reach) -> None:
        if part.package is not None and part.attachment is None:
            self._join(part, reach)

    def next(self, timeout_seconds: float) -> Readable | Unobtainable | None:
        """The next instance that can be read, or one that cannot be had; None when the time is over
        or nothing remains."""
        clock = self._owner.catalog.clock
        deadline = clock.monotonic() + timeout_seconds
        while self._parts:
            rings = self._owner.bell.rings
            found = self._look()
            if found is not None:
                return found
            left = deadline - clock.monotonic()
            if left <= 0:
                return None
            self._owner.bell.wait(rings, min(left, LOOK_SECONDS))
        return None

    def waiting_for(self) -> str:
        """In words for a human: what the next instance waits for."""
        requests = [part.attachment.request_pk for part in self._parts if part.attachment is not None]
        if requests and self._owner.forecast is not None:
            return self._owner.forecast(requests)
        if requests:
            with self._owner.catalog.read() as session:
                return queuelooks.waiting_for(session, requests)
        reader = self._owner.reader
        reach = reader.reach()
        for part in self._parts:
            if part.package is None and reach.ingest:
                return reach.ingest
            found = route(part.copies, reach)
            if found.way is Way.AWAY and found.copy is not None:
                return reader.why_away(found.copy)
        return ""

    def close(self) -> None:
        """Leave the recalls; they go on. Idempotent."""
        self.account.ended()
        parts, self._parts = self._parts, []
        for part in parts:
            try:
                self._leave(part, comes_back=self._comes_back)
            except (SQLAlchemyError, DriverError, HsmError) as error:
                log.warning("a waiter stays noted until the next start: %s", error)

    def _look(self) -> Readable | Unobtainable | None:
        """One pass over the parts, the first that has something wins."""
        at = 0
        while at < len(self._parts):  # it may grow meanwhile
            part = self._parts[at]
            found = self._from_part(part) if part.instances else None
            if found is not None:
                part.instances.popleft()
                if isinstance(found, Readable):
                    self._note(part, found.instance)
                    found = self._taken(part, found)
            if part.instances:
                at += 1
            else:
                self._leave(part)
                self._parts.remove(part)
            if found is not None:
                return found
        return None

    def _note(self, part: Part, instance: InstanceRef) -> None:
        """For history and journal: one more instance of its study was read."""
        if self.account.is_wanted:
            part.tier = part.tier or self._tier_of(part)
            self.account.read(instance, part.tier)

    def _tier_of(self, part: Part) -> str:
        if part.package is None:
            return Tier.ONLINE.value
        if part.recalls and not part.staged:
            cold = self._owner.reader.cold_copies(part.copies)
            copy = next(iter(cold), None) or quickest(part.copies)
            if copy is None or copy.place is Place.SHELF:
                return Tier.OFFLINE.value
            return self._owner.tiers.get(copy.pool, Tier.NEARLINE).value
        direct = self._owner.reader.direct_copies(part.copies)
        return self._owner.tiers.get(direct[0].pool, Tier.ONLINE).value if direct else STAGED

    def _taken(self, part: Part, found: Readable) -> Readable:
        """What passes through is taken when the content is closed: until then its bytes are in use."""
        if part.attachment is None or found.instance.offset is None:
            return found
        streams, follower = self._owner.staging.streams, part.attachment.follower
        took = partial(streams.took, follower, found.instance.offset)
        return Readable(found.instance, Closing(found.content, took))

    def _passing_by(self, part: Part) -> InstanceRef:
        """The next instance; of a package that passes through, the one that is there."""
        if part.attachment is not None:
            ready = self._owner.staging.streams.ready(part.attachment.follower)
            if ready is not None and part.instances[0].offset != ready.offset:
                there = next((each for each in part.instances if each.offset == ready.offset), None)
                if there is not None:
                    part.instances.remove(there)
                    part.instances.appendleft(there)
        return part.instances[0]

    def _from_part(self, part: Part) -> Readable | Unobtainable | None:
        instance = self._passing_by(part)
        if part.failed:
            return self._last_resort(part, instance)
        key = part.package.key if part.package is not None else None
        if part.attachment is None or self._arrived(part, instance) or self._is_back(part):
            content = self._owner.reader.read(instance, key, part.copies)
            if content is not None:
                return Readable(instance, content)
            if part.package is None:
                return self._look_up_again(part, instance)
            if self._owner.staging.streams.passes(part.package.key) and self._spoilt(part):
                return Unobtainable(instance, part.failure)
            if self._is_doubtful(part):
                content = self._owner.reader.read_suspect(instance, part.copies)
                if content is not None:
                    return Readable(instance, content)
                part.doubted = True
            self._refresh(part)
        if part.attachment is not None:
            self._check_recall(part)
        return self._last_resort(part, instance) if part.failed else None

    def _last_resort(self, part: Part, instance: InstanceRef) -> Readable | Unobtainable:
        content = self._owner.reader.read_suspect(instance, part.copies)
        return Readable(instance, content) if content is not None else Unobtainable(instance, part.failure)

    def _look_up_again(self, part: Part, instance: InstanceRef) -> Unobtainable | None:
        """An unsealed instance whose file is gone may have been sealed, and even released, since it was
        selected: what is left of the part is found anew by its packages."""
        wanted = [each.pk for each in part.instances]
        with self._owner.catalog.read() as session:
            now = rows.instances(session, wanted)
            sealed = [now[pk] for pk in wanted if pk in now and now[pk].package_pk is not None]
            fresh = parts_of(session, sealed)
        reach = self._owner.reader.reach()
        if all(each.pk != instance.pk for each in sealed):
            if reach.ingest:  # it comes back: that is waiting, not failing
                return None
            return Unobtainable(instance, "it is not sealed yet, and its file is damaged or missing")
        moved = {each.pk for each in sealed}
        part.instances = deque(each for each in part.instances if each.pk not in moved)
        self._parts += fresh
        for each in fresh:
            self._join_if_needed(each, reach)
        return None

    def _arrived(self, part: Part, instance: InstanceRef) -> bool:
        assert part.package is not None  # only packages are recalled
        return self._owner.staging.has(part.package.key, instance.offset or 0, instance.size)

    def _spoilt(self, part: Part) -> bool:
        """It had come and was not what is stored; whether that happened too often."""
        part.damaged += 1
        if part.damaged >= DAMAGES_MAX:
            part.failure = f"{part.damaged} times what came to the staging area was damaged there"
        return part.failed

    def _is_back(self, part: Part) -> bool:
        """A file system that was away when the recall began, which may wait for a person, is there."""
        return bool(self._owner.reader.direct_copies(part.copies))

    def _refresh(self, part: Part) -> None:
        """A copy that was there is not: look again, and recall when no disk has the package now."""
        assert part.package is not None
        with self._owner.catalog.read() as session:
            part.copies = placement.copies(session, [part.package.pk])[part.package.pk]
        if part.attachment is None:
            self._join(part, self._owner.reader.reach())

    def _is_doubtful(self, part: Part) -> bool:
        """Only a suspect copy on a disk is left: what it gives of each instance is seen at once."""
        found = route(part.copies, self._owner.reader.reach())
        return found.way is Way.DISK and found.doubtful and not part.doubted

    def _join(self, part: Part, reach: Reach) -> None:
        """Join its recall, if it needs one that can be had; or it has failed."""
        assert part.package is not None
        copies = part.copies
        if part.doubted:
            copies = [copy for copy in copies if copy.state != CopyState.SUSPECT or reach.disk(copy) is None]
        found = route(copies, reach, staged=part.package.key in reach.staged)
        if found.way is Way.NONE:
            part.failure = why_none(part.copies)
        if found.way not in (Way.STAGED, *RECALLED):
            return  # it can be read, or its storage is away and comes back: that is waiting, not failing
        if part.recalls >= RECALLS_PER_PACKAGE_MAX:
            part.failure = f"recalled {part.recalls} times and never readable"
            return
        if found.way in RECALLED:
            self._set_aside(part, reach.room)
            if not part.instances:
                return
        part.recalls += 1
        part.staged = self._owner.staging.complete(part.package.key)
        # They come in the order of the package.
        part.instances = deque(sorted(part.instances, key=lambda each: each.offset or 0))
        part.attachment = self._owner.recall.attach(part.package, self._who, self._priority, part.instances)

    def _set_aside(self, part: Part, room: Room | None) -> None:
        """What is too large to come through the staging area is waited for by nobody."""
        assert part.package is not None
        if room is None or part.package.size <= room.package:
            return
        wanted, part.instances = part.instances, deque()
        for each in wanted:
            if room.passes(part.package.size, each.size):
                part.instances.append(each)
            else:
                why = too_large(each.size, room)
                self._parts.append(Part(deque([each]), part.package, part.copies, failure=why))

    def _check_recall(self, part: Part) -> None:
        """Has the recall ended without what we wait for?"""
        assert part.package is not None
        assert part.attachment is not None
        request_pk = part.attachment.request_pk
        with self._owner.catalog.read() as session:
            state, error = queuelooks.outcome(session, [request_pk])[request_pk]
        if state is RequestState.CANCELLED:
            part.failure = f"its recall (request {request_pk}) was cancelled"
        elif state is RequestState.FAILED:
            self._refresh(part)
            part.failure = error or "its recall failed"
        elif state is RequestState.DONE and not self._owner.staging.complete(part.package.key):
            self._leave(part)
            self._refresh(part)

    def _leave(self, part: Part, *, comes_back: bool = False) -> None:
        attachment, part.attachment = part.attachment, None
        if attachment is not None and part.package is not None:
            self._owner.recall.detach(part.package, attachment, comes_back=comes_back)
