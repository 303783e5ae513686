"""Which volume goes into which drive, for whom.

The most urgent work chooses first. Everything else saves robot moves: work is batched by volume, and
newer work on a volume that lies in an idle drive has a small head start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hsm.model import Place
from hsm.planner.hardware import Draft, Hardware
from hsm.planner.order import distance, session_order, urgency
from hsm.planner.turns import its_turn
from hsm.planner.values import DriveAt, Plan, Prompt, Session, Site, VolumeAt, Work

MOUNTED_HEAD_START_SECONDS = 300.0
"""A change of volumes costs minutes (unload, move, load, locate): newer work on the volume that is in
the drive may go first, but never much newer."""


def plan(
    work: Sequence[Work],
    volumes: Sequence[VolumeAt],
    drives: Sequence[DriveAt],
    now: datetime,
    site: Site = Site(),
    *,
    ordered: bool = True,
) -> Plan:
    """The next session of every idle drive. Equal arguments in any order give the same plan.

    :param ordered: False: sessions list their work by urgency alone, which takes less time to work out.
    """
    desk = _Desk(work, Hardware(work, volumes, drives, site), now, site, ordered)
    queue = desk.batches(work)
    while queue:
        queue.sort(key=lambda batch: batch.rank)
        batch = queue.pop(0)
        desk.alone = batch.alone
        if batch.volume is not None:
            desk.place_bound(batch.volume, batch.work)
        elif rest := desk.place_writes(batch.pool, batch.work):
            queue.append(desk.batch(None, rest))
    return desk.plan()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Work for one volume, or writes for any volume of one pool; most urgent first."""

    volume: str | None
    pool: str
    work: tuple[Work, ...]
    rank: tuple[int, datetime, int]
    alone: bool = False
    """It goes before stat recalls, for this one package: nothing joins its session."""


class _Desk:
    """The state of one planning: what is given away, and what became of the rest."""

    def __init__(
        self, work: Sequence[Work], hardware: Hardware, now: datetime, site: Site, ordered: bool
    ) -> None:
        self._hardware = hardware
        self._now = now
        self._site = site
        self._ordered = ordered
        self.alone = False
        """What is placed now has its turn for one package: nothing else joins its session."""
        self._turns = its_turn(work, hardware.volumes, hardware.drives, site.homes, now)
        self._prompts: list[Prompt] = []
        self._scratch_needed: list[str] = []
        self._unplaceable: list[tuple[int, str]] = []

    def batches(self, work: Iterable[Work]) -> list[_Batch]:
        groups: dict[Any, list[Work]] = {}
        for each in work:
            if each.request_pk in self._turns:
                groups[each.volume, each.request_pk] = [each]
                continue
            bound = (each.volume,)
            free = (None, each.pool, each.not_on, each.near, each.apart, each.group)
            groups.setdefault(bound if each.volume is not None else free, []).append(each)
        return [self.batch(key[0], group) for key, group in groups.items()]

    def batch(self, volume: str | None, work: Iterable[Work]) -> _Batch:
        ordered = tuple(sorted(work, key=urgency))
        lane, date, pk = urgency(ordered[0])
        alone = pk in self._turns
        pool = ordered[0].pool
        free = self._hardware.writable(pool, ordered[0].not_on)
        candidates = [volume] if volume else [each.barcode for each in free]
        if any(drive.holds in candidates for drive in self._hardware.drives if not drive.busy):
            date -= timedelta(seconds=MOUNTED_HEAD_START_SECONDS)
        return _Batch(volume, pool, ordered, (-1 if alone else lane, date, pk), alone)

    def place_bound(self, barcode: str, work: Sequence[Work]) -> None:
        """Place work for one volume: a session, a prompt, or a reason why neither."""
        volume = self._hardware.volumes.get(barcode)
        if volume is None:
            return self._give_up(work, f"volume {barcode} is not in the catalog")
        if volume.place is Place.MOUNTED:
            return self._give_up(work, f"volume {barcode} is a file system and needs no drive")
        if volume.in_library and not self._hardware.has_drive(volume.library):
            return self._give_up(
                work, f"volume {barcode} is in {volume.library}, which has no drive in service"
            )
        stuck = next(
            (each for each in self._hardware.drives if each.holds == barcode and not each.in_service), None
        )
        if stuck is not None:
            return self._give_up(
                work,
                f"volume {barcode} is in drive {stuck.address} of {stuck.library}, which is out of service: "
                f"hsm library unload {stuck.library} {stuck.address}, or take it out by hand",
            )
        possible = [each for each in work if each.kind != "write" or self._may_write(volume, each)]
        if not possible:
            return None
        if not volume.in_library:
            self._prompts.append(self._prompt(volume, possible))
            return None
        draft = self._hardware.drafts.get(barcode)
        if draft is None:
            draft = self._hardware.begin(
                volume, possible, not_in=self._hardware.not_in(possible[0], volume), alone=self.alone
            )
        if draft is not None and (self.alone or not draft.alone):
            place = (draft.drive.library, draft.drive.address)
            # What does not fit now, or belongs into another drive, waits for the next plan.
            draft.take([each for each in possible if place not in self._hardware.not_in(each, volume)])
        return None

    def place_writes(self, pool: str, work: Sequence[Work]) -> list[Work]:
        """Place writes for any volume of a pool (but those they all must keep off); what another volume
        must take is returned.

        A volume that lies in an idle drive comes first, then one that is loaded in this plan anyway,
        then any other of the pool. Blank volumes are begun only when none of the pool's in the library
        has room, idle or not: a busy drive must not spread a pool over more volumes than it needs. Work
        with a group keeps to the volumes of its group, and begins a blank one before it goes elsewhere.
        """
        home = self._site.homes.get(pool)
        if not any(home in (None, drive.library) for drive in self._hardware.drives if drive.in_service):
            self._give_up(work, f"there is no drive in service for {pool}" + (f" in {home}" if home else ""))
            return []
        smallest = min(each.size for each in work)
        not_on = work[0].not_on
        usable = [volume for volume in self._hardware.writable(pool, not_on) if smallest <= volume.room]
        beside = [volume for volume in usable if volume.barcode in work[0].near]
        if beside:
            return self._write_to(beside, work)
        others = [volume for volume in usable if volume.barcode in work[0].apart]
        usable = [volume for volume in usable if volume not in others]
        at_hand = {drive.holds for drive in self._hardware.drives if self._hardware.is_idle(drive)}
        mounted = [volume for volume in usable if volume.barcode in at_hand]
        if mounted:
            return self._write_to(mounted, work)
        for draft in self._hardware.drafts.values():
            fits = draft.volume.writable and smallest <= draft.room
            open_to = draft.volume.barcode not in not_on and not draft.alone
            if draft.pool == pool and fits and open_to and draft.suits(work[0]):
                return draft.take(work)
        if usable:
            return self._write_to(usable, work)
        blank = [
            volume
            for volume in self._hardware.writable(None, not_on)
            if self._hardware.may_begin(pool, volume)
        ]
        if not blank and others:
            return self._write_to(others, work)
        if not blank:
            if pool not in self._scratch_needed:
                self._scratch_needed.append(pool)
            return []
        largest = max(volume.room for volume in blank)
        fitting = [each for each in work if each.size <= largest]
        blank = [volume for volume in blank if smallest <= volume.room]
        self._give_up(
            [each for each in work if each.size > largest],
            f"no volume of {pool} has room, and the largest blank one takes {largest} bytes",
        )
        return self._write_to(blank, fitting, scratch_for=pool) if fitting else []

    def plan(self) -> Plan:
        return Plan(
            sessions=tuple(self._session(draft) for draft in self._hardware.drafts.values() if draft.work),
            prompts=tuple(self._prompts),
            scratch_needed=tuple(self._scratch_needed),
            unplaceable=tuple(self._unplaceable),
        )

    def _may_write(self, volume: VolumeAt, work: Work) -> bool:
        if volume.writable and work.size <= volume.room:
            return True
        room = (
            f"has room for {volume.room} bytes, not for {work.size}" if volume.writable else "takes no writes"
        )
        self._give_up([work], f"volume {volume.barcode} {room}")
        return False

    def _write_to(
        self, usable: Sequence[VolumeAt], work: Sequence[Work], scratch_for: str | None = None
    ) -> list[Work]:
        """Write to one that takes the most urgent work, rather the fullest."""
        for volume in sorted(usable, key=lambda v: (work[0].size > v.room, v.room, v.barcode)):
            draft = self._hardware.begin(volume, work, scratch_for=scratch_for, alone=self.alone)
            if draft is not None:
                return draft.take(work)
        return []

    def _give_up(self, work: Iterable[Work], reason: str) -> None:
        self._unplaceable.extend((each.request_pk, reason) for each in work)

    def _prompt(self, volume: VolumeAt, work: Sequence[Work]) -> Prompt:
        where = "on the shelf" if volume.place is Place.SHELF else "in no library"
        return Prompt(
            volume.barcode,
            tuple(each.request_pk for each in work),
            min(each.priority for each in work),
            f"{volume.barcode} is {where}; {self._summary(work)}",
        )

    def _session(self, draft: Draft) -> Session:
        drive, barcode = draft.drive, draft.volume.barcode
        how = "in" if drive.holds == barcode else "to be loaded into"
        blank = f", blank, for {draft.scratch_for}" if draft.scratch_for else ""
        cost = self._site.costs.get(barcode, distance)
        at = (drive.head or 0) if drive.holds == barcode else 0
        work = session_order(draft.work, cost, at) if self._ordered else sorted(draft.work, key=urgency)
        return Session(
            drive,
            barcode,
            tuple(each.request_pk for each in work),
            f"{barcode} {how} drive {drive.address}{blank}; {self._summary(draft.work)}",
            draft.scratch_for,
        )

    def _summary(self, work: Sequence[Work]) -> str:
        kinds = [each.kind for each in work]
        counts = ", ".join(
            f"{kinds.count(kind)} to {kind}" for kind in ("read", "write", "verify") if kind in kinds
        )
        seconds = max(0.0, (self._now - min(each.created for each in work)).total_seconds())
        return f"{counts}; the oldest has waited {seconds:.0f} s"
