"""The volumes and drives of one planning: what is given away already, and what is free for what. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hsm.barcodes import belongs
from hsm.planner.turns import background_drives, is_background
from hsm.planner.values import DriveAt, Site, VolumeAt, Work

SESSION_WORK_MAX = 500
"""The most work in one session, so that urgent work elsewhere is looked at again in between."""


@dataclass(slots=True)
class Draft:
    """A session that more work may join."""

    drive: DriveAt
    volume: VolumeAt
    room: int
    scratch_for: str | None
    work: list[Work] = field(default_factory=list)
    alone: bool = False
    background: bool = False

    @property
    def pool(self) -> str | None:
        return self.scratch_for or self.volume.pool

    def suits(self, work: Work) -> bool:
        """Whether a write may join those that are here, by their groups."""
        return self.volume.barcode not in work.apart and all(
            each.group == work.group for each in self.work if each.kind == "write"
        )

    def take(self, work: Sequence[Work]) -> list[Work]:
        """Add what there is room for and return what needs another volume.

        What is too much for one session is neither: it waits for the next plan.
        """
        for each in work:
            # A volume may hold more than it was thought to have room for: it is read all the same.
            writes = each.kind == "write"
            if (not writes or each.size <= self.room) and len(self.work) < SESSION_WORK_MAX:
                self.work.append(each)
                self.room -= each.size if writes else 0
        taken = {each.request_pk for each in self.work}
        return [each for each in work if each.request_pk not in taken and each.size > self.room]


class Hardware:
    """What is free becomes less with each session that is begun (:meth:`begin`)."""

    def __init__(
        self, work: Sequence[Work], volumes: Iterable[VolumeAt], drives: Iterable[DriveAt], site: Site
    ) -> None:
        """
        :param work: all that is to be placed.
        """
        self.volumes = {volume.barcode: volume for volume in sorted(volumes, key=lambda v: v.barcode)}
        self.drives = sorted(drives, key=lambda drive: (drive.library, drive.address))
        self.drafts: dict[str, Draft] = {}
        """Sessions that were begun, by the barcode of their volume."""
        self._site = site
        pools = {each.pool for each in work if each.volume is None}
        self._asked_for = {each.volume for each in work} | {
            volume.barcode for pool in pools for volume in self._volumes_of(pool)
        }

    def begin(
        self,
        volume: VolumeAt,
        work: Sequence[Work],
        *,
        scratch_for: str | None = None,
        not_in: frozenset[tuple[str, int]] = frozenset(),
        alone: bool = False,
    ) -> Draft | None:
        """Begin a session for the volume; None while no drive can have it.

        :param scratch_for: the pool that a blank volume is given to.
        :param not_in: drives that must not have it.
        :param alone: no other work may join.
        """
        background = is_background(work)
        if background and volume.library is not None and self._is_full(volume.library):
            return None
        drive = self._drive_for(volume, not_in)
        if drive is None:
            return None
        draft = Draft(drive, volume, volume.room, scratch_for, alone=alone, background=background)
        self.drafts[volume.barcode] = draft
        return draft

    def _is_full(self, library: str) -> bool:
        """Whether no more drives may do work that nobody waits for."""
        begun = sum(draft.background and draft.drive.library == library for draft in self.drafts.values())
        return begun >= background_drives(self.drives, library, self._site.reserved.get(library, 0))

    def _drive_for(self, volume: VolumeAt, not_in: frozenset[tuple[str, int]]) -> DriveAt | None:
        """The drive that holds the volume, or else an idle one.

        Empty before loaded, and loaded with what nobody asks for before what has (less urgent) work.
        """

        def may_have(drive: DriveAt) -> bool:
            place = (drive.library, drive.address)
            return place not in not_in and (*place, volume.barcode) not in self._site.avoid

        holder = next((drive for drive in self.drives if drive.holds == volume.barcode), None)
        if holder is not None and (not self.is_idle(holder) or may_have(holder)):
            return holder if self.is_idle(holder) else None
        if any(drive.busy and drive.leaving == volume.barcode for drive in self.drives):
            return None
        idle = [
            drive
            for drive in self.drives
            if drive.library == volume.library and self.is_idle(drive) and may_have(drive)
        ]
        return min(
            idle, key=lambda d: (d.holds is not None, d.holds in self._asked_for, d.address), default=None
        )

    def not_in(self, work: Work, volume: VolumeAt) -> frozenset[tuple[str, int]]:
        """The drives that must not do it; none where the library has no other."""
        others = any(
            drive.library == volume.library
            and drive.in_service
            and (drive.library, drive.address) not in work.not_in
            for drive in self.drives
        )
        return work.not_in if others else frozenset()

    def is_idle(self, drive: DriveAt) -> bool:
        """Whether nobody uses it, no session of this planning either."""
        taken = {(draft.drive.library, draft.drive.address) for draft in self.drafts.values()}
        return drive.in_service and not drive.busy and (drive.library, drive.address) not in taken

    def has_drive(self, library: str | None) -> bool:
        """Whether the library has one in service, busy or not."""
        return any(drive.library == library and drive.in_service for drive in self.drives)

    def may_begin(self, pool: str, volume: VolumeAt) -> bool:
        """Whether a blank volume may become one of the pool's."""
        home, patterns = self._site.homes.get(pool), self._site.scratch.get(pool)
        return home in (None, volume.library) and (patterns is None or belongs(volume.barcode, patterns))

    def _volumes_of(self, pool: str | None) -> list[VolumeAt]:
        """Writable volumes of a pool (None: blank ones) that a drive of its library can load."""
        home = self._site.homes.get(pool) if pool is not None else None
        return [
            volume
            for volume in self.volumes.values()
            if volume.pool == pool
            and volume.writable
            and volume.in_library
            and home in (None, volume.library)
            and self.has_drive(volume.library)
        ]

    def writable(self, pool: str | None, not_on: frozenset[str]) -> list[VolumeAt]:
        """Those of :meth:`_volumes_of` that no session has yet and that the work may go to."""
        return [
            volume
            for volume in self._volumes_of(pool)
            if volume.barcode not in self.drafts and volume.barcode not in not_on
        ]
