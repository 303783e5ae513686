"""What is done again and again, and how often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import history
from hsm.daemon.parts import Parts
from hsm.errors import DriverError, HsmError
from hsm.log import get_logger
from hsm.schedule import Scheduler
from policies import Schedule

log = get_logger(__name__)

ANNOUNCE_SECONDS = 5.0
"""Between two looks at what peers are to be told of availability."""
SETTLE_SECONDS = 10.0
"""Between two tries to write down what the catalog could not take."""
HISTORY_SECONDS = 10.0
"""Between two times that noted accesses are written."""
REMIND_SECONDS = 15.0
"""Between two looks at prompts that nobody has answered."""
REPAIR_SECONDS = 15.0
"""Between two looks at damaged copies."""
WATCH_SECONDS = 30.0
"""Between two looks at what policies have asked for (failures, windows, what other nodes activated), at the
clock, at what is to be fetched before it is wanted, at drains, trash and backups."""
REPACK_SECONDS = 30.0
"""Between two looks at cartridges that are repacked."""
SCRUB_SECONDS = 60.0
"""Between two looks for copies that were last read back long ago."""
DAMAGE_SECONDS = 60.0
"""Between two tries to tell people of damaged copies."""
ANCHOR_SECONDS = 60.0
"""Between two looks whether pools and the file outside are due for an anchor, and the summary for a mail."""
MARK_TAPES_SECONDS = 600.0
"""Between two looks for cartridges that nobody writes to and that lack marks or an anchor."""
UPKEEP_SECONDS = 3600.0
"""Between two looks for accesses that are old enough to be counted by day, or forgotten."""

Act = Callable[[], object]


class Routines:
    """Runs them from :meth:`start` to :meth:`stop`, and those of the policies in force among them."""

    def __init__(self, parts: Parts) -> None:
        self._base = parts.base
        self._packages = parts.packages
        self._media = parts.media
        self._peers = parts.peers
        self._control = parts.control
        self._scheduler = Scheduler(parts.base.clock)
        self._base.policies.on_change = self.renew

    def start(self) -> None:
        self.renew()
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.stop()

    def renew(self) -> None:
        """(Re)place them by what is in force now; one that is gone is removed."""
        wanted = {name: (Schedule(every_seconds=every), act) for name, (every, act) in self._wanted().items()}
        for policy in self._base.policies.set.policies:
            wanted[f"policy {policy.name}"] = (policy.schedule, partial(self._policy_round, policy.name))
        self._scheduler.replace(wanted)

    def _wanted(self) -> dict[str, tuple[float, Act]]:
        """Every so many seconds, by name."""
        often = self._base.config.schedule
        packages, media, peers = self._packages, self._media, self._peers
        return {
            "seal": (often.seal_seconds, self._seal_round),
            "inventory": (often.inventory_seconds, self.inventory),
            "deliveries": (SETTLE_SECONDS, peers.deliveries.settle),
            "reminders": (REMIND_SECONDS, media.reminders.round),
            "clock": (WATCH_SECONDS, self._clock_round),
            "prefetches": (WATCH_SECONDS, packages.prefetches.round),
            "drains": (WATCH_SECONDS, media.drains.round),
            "announcements": (ANNOUNCE_SECONDS, peers.announcements.round),
            "scrub": (SCRUB_SECONDS, packages.scrubs.round),
            "damage": (DAMAGE_SECONDS, packages.damage.round),
            "repairs": (REPAIR_SECONDS, packages.repairs.round),
            "repack": (REPACK_SECONDS, media.repack.round),
            "trash": (WATCH_SECONDS, packages.trash.round),
            "history": (HISTORY_SECONDS, self.write_history),
            "history upkeep": (UPKEEP_SECONDS, self._keep_history_small),
            "summary": (ANCHOR_SECONDS, self._summarise),
            "roles": (ANCHOR_SECONDS, self.watch_roles),
            "anchors": (ANCHOR_SECONDS, media.anchoring.round),
            "marks on tape": (MARK_TAPES_SECONDS, media.marking_tapes.round),
            "catalog backup": (WATCH_SECONDS, media.backups.round),
            "policy watch": (WATCH_SECONDS, self._watch_policies),
        }

    def inventory(self) -> None:
        """Look into every library. One that does not answer is a problem of its own, not of the archive."""
        for name in self._base.pools.libraries:
            try:
                self._media.custody.inventory(name)
            except (DriverError, HsmError) as error:
                log.error("library %s: %s", name, error)
        self._media.media_watch.look()

    def watch_roles(self) -> None:
        """Who may do what, put on record where it changed."""
        control = self._control
        try:
            control.roles_watch.round(self._base.config.api, control.api.doors.tokens)
        except SQLAlchemyError as error:
            log.warning("changed roles wait to be journalled: %s", getattr(error, "orig", error))

    def write_history(self) -> None:
        """Write down who was given what; what cannot be written waits."""
        try:
            self._base.history.flush()
            self._base.accesses.flush()
        except SQLAlchemyError as error:
            log.warning("the access history waits: %s", getattr(error, "orig", error))

    def _seal_round(self) -> None:
        if self._packages.seal.enqueue_quiet():
            self._base.bell.ring()

    def _clock_round(self) -> None:
        if self._media.clock_watch.round():
            self._base.policies.watch()  # what waits for a window of its policy waits for that one again
            self._base.bell.ring()

    def _summarise(self) -> None:
        config = self._base.config
        self._control.nightly.round(config.audit.summary, config.operator.channels)

    def _keep_history_small(self) -> None:
        catalog, now, keep = self._base.catalog, self._base.clock.now(), self._base.config.history
        history.compact(catalog, now - timedelta(seconds=keep.detail_seconds))
        history.forget(catalog, now - timedelta(seconds=keep.keep_seconds))

    def _policy_round(self, name: str) -> None:
        policies = self._base.policies
        policy = next((each for each in policies.set.policies if each.name == name), None)
        if policy is not None and policy.schedule.is_open(self._base.clock.now()):
            policies.run(name, dry_run=False, by="schedule")

    def _watch_policies(self) -> None:
        self._base.policies.follow()
        self._base.policies.watch()
