"""Everything that needs a drive, looked at once: what needs none after all is ended, sessions are begun,
people are asked for what is on the shelf, and each request that waits is told why."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hsm import planner, sight
from hsm.catalog import media, prompts, queue
from hsm.catalog.engine import Catalog
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import Place, Priority
from hsm.owed import Owed
from hsm.planning import Planning
from hsm.pools import Pools
from hsm.sessions import DriveSessions
from hsm.staging import Staging
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "dispatcher"
FETCH_AGAIN_SECONDS = 600.0
"""After so long the recall of what is to be copied is asked for again."""


class Dispatcher:
    """Used by one thread."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        staging: Staging,
        migrate: Migrate,
        planning: Planning,
        sessions: DriveSessions,
        bell: Bell,
        owed: Owed,
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._staging = staging
        self._migrate = migrate
        self._planning = planning
        self._sessions = sessions
        self._bell = bell
        self._owed = owed
        self._lacking: tuple[str, ...] = ()
        self._fetched: dict[int, float] = {}
        """Packages whose recall was asked for so that they can be copied, and when."""

    def look(self) -> bool:
        """Look and act; whether a session was begun.

        :raises SQLAlchemyError: the catalog does not answer; what was not done is done at the next look.
        """
        self._owed.pay(ACTOR)
        self._pools.tell(self._catalog)
        picture = self._planning.look()
        if picture.empty:
            return False
        self._settle(picture)
        self._sessions.begin_cold(picture)
        self._fetch(picture)
        plan = self._planning.plan(picture, self._sessions.using())
        started = [self._sessions.begin(each, picture) for each in plan.sessions]
        self._prompt(plan, picture)
        self._explain(plan, picture)
        return any(started)

    def _settle(self, picture: sight.Picture) -> None:
        """Recalls that need no drive after all, and requests that nothing can serve."""
        now = self._catalog.clock.now()
        if not picture.ready and not picture.hopeless and not picture.too_large:
            return
        with self._catalog.write() as session:
            for pk in picture.ready:
                if queue.take(session, pk, ACTOR, now) is not None:
                    queue.done(session, pk, now, ACTOR)
            for pk, why in picture.hopeless:
                if queue.take(session, pk, ACTOR, now) is not None:
                    queue.fail(session, pk, now, ACTOR, why)
            for pk, key, why in picture.too_large:
                self._end_unwanted(session, pk, key, why, now)
        self._bell.ring()

    def _end_unwanted(self, session: Session, pk: int, key: str, why: str, now: datetime) -> None:
        """Nobody waits for a package that is never kept: withdrawn where somebody did, failed where nobody
        ever would have been served. Who has come meanwhile said so before joining: it goes on."""
        order = queue.take(session, pk, ACTOR, now)
        if order is None:
            return
        if self._staging.streams.hungry(key) is not None:
            queue.give_back(session, pk, now, ACTOR, "somebody waits for it again")
        elif order.priority < Priority.PREFETCH:
            queue.explain(session, pk, why)
            queue.cancel_active(session, pk, now, ACTOR)
        else:
            queue.fail(session, pk, now, ACTOR, why)

    def _fetch(self, picture: sight.Picture) -> None:
        """Ask for the recall of what is to be copied from tape to tape: as much as half of the staging area
        takes, so that nothing is pushed out again before it is copied."""
        room, now = self._staging.size_max_bytes // 2, self._catalog.clock.monotonic()
        asked: dict[int, float] = {}
        for number, package in enumerate(picture.sources):
            room -= package.size
            if room < 0 and number:
                break
            since = now if package.pk in picture.coming else self._fetched.get(package.pk)
            if since is None or now - since > FETCH_AGAIN_SECONDS:
                self._migrate.sources.ask_recall(package)
                since = now
            asked[package.pk] = since
        self._fetched = asked

    def _explain(self, plan: planner.Plan, picture: sight.Picture) -> None:
        """Say at each request why it cannot be placed, so that `hsm queue ls` answers it."""
        reasons = list(plan.unplaceable)
        placed = {pk for session in plan.sessions for pk in session.work} | {pk for pk, _ in reasons}
        reasons += [
            (each.request_pk, f"no volume has room for {each.pool}: put a blank one in")
            for each in picture.work
            if each.volume is None and each.pool in plan.scratch_needed and each.request_pk not in placed
        ]
        if plan.scratch_needed != self._lacking:
            self._lacking = plan.scratch_needed
            for pool in plan.scratch_needed:
                log.warning("operator: no volume has room for pool %s: put a blank one in", pool)
        if not reasons:
            return
        with self._catalog.write() as session:
            for pk, why in reasons:
                queue.explain(session, pk, why)

    def _prompt(self, plan: planner.Plan, picture: sight.Picture) -> None:
        """Ask an operator for what is on the shelf; withdraw what nobody waits for any more."""
        clock = self._catalog.clock
        with self._catalog.write() as session:
            now = clock.now()
            wanted = []
            for prompt in plan.prompts:
                volume = media.volume(session, prompt.barcode)
                if volume.place not in (Place.SHELF, Place.UNKNOWN):
                    continue  # it has come since the plan looked
                wanted.append(volume.pk)
                if prompts.ask_for(session, volume.pk, prompt.priority, now, ACTOR):
                    log.warning(
                        "operator: load %s (%s): %s", volume.name, volume.shelf or "shelf", prompt.why
                    )
                for pk in prompt.request_pks:
                    why = f"{volume.name} is on the shelf"
                    queue.wait_for_operator(session, pk, volume.pk, now, ACTOR, why)
            prompts.retire_obsolete(session, [*wanted, *picture.awaited], now)
