"""Catalog, manifests and bytes compared, in that order: after a restore from a backup, or whenever asked.

What media know and the catalog has forgotten is taken in; what contradicts it is quarantined and stays where
it lies; what the catalog believes and the medium does not have is suspect. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.orm import Session

from drivers.base import Store, VolumeLabel
from hsm.catalog import adoption, media, rebuilding, restored, volumelife
from hsm.catalog.media import VolumeRef
from hsm.errors import NotFound
from hsm.marksfile import Stand
from hsm.rebuild.run import BLANK, Rebuild
from hsm.rebuild.take import BATCH
from hsm.rebuild.values import Report, VolumeReport
from hsm.states import BLANK_VOLUMES, VolumeState

NOTHING_COUNTS = (*BLANK_VOLUMES, VolumeState.FOREIGN, VolumeState.RETIRED, VolumeState.LOST)
"""States of volumes that need not be compared: no copy on them counts, and their label is read before
anything is written to them."""


class MediaCheck(Rebuild):
    """Compares volumes with the catalog that they are in."""

    _verb = restored.COMPARED
    _way: bytes | None = None
    """The journal's, before the restore."""
    _knows: int | None = None
    """How many records the catalog had when it was restored; None: it never was."""

    def begin(self, sources: Collection[str]) -> None:
        """Go on with a comparison that was not finished, or begin one."""
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if (fork := restored.forked(session)) is not None:
                self._knows, self._heed_since = fork
                self._way = restored.way(session, before=self._heed_since)
            self._since = rebuilding.comparing_since(session)
            if self._since is None:
                rebuilding.begin_comparing(session, now, self._actor, sorted(sources))
                self._since = now

    def without(self, names: Collection[str]) -> None:
        """Volumes that nobody can bring: they are suspect, and nothing on them counts until they are
        scanned.

        :raises NotFound: there is no such volume.
        """
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            for name in sorted(names):
                volume = media.volume(session, name)
                if volume.state is not VolumeState.SUSPECT and volume.state not in NOTHING_COUNTS:
                    why = f"{restored.NOT_COMPARED}: left out by {self._actor}"
                    media.move_volume(session, volume.pk, VolumeState.SUSPECT, now, self._actor, why)
                detail = {"why": "left out: nothing on it counts until it is scanned"}
                rebuilding.volume_done(session, name, self._verb, now, self._actor, detail)

    def _done_before(self) -> set[str]:
        with self._catalog.read() as session:
            last = restored.last(session)
            return rebuilding.volumes_done(session, self._verb, last[0] if last else 0)

    def _done(self, found: VolumeReport) -> None:
        super()._done(found)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, found.volume)
            if volume.state is VolumeState.SUSPECT and volume.error.startswith(restored.NOT_COMPARED):
                media.move_volume(session, volume.pk, VolumeState.ACTIVE, now, self._actor, "it was compared")

    def _heeds(self, stand: Stand) -> bool:
        """Only what was said behind the backup: all else the catalog knows, or it is another archive's."""
        return self._knows is not None and stand.journal == self._way and stand.to > self._knows

    def _read(self, volume_pk: int, found: VolumeReport, store: Store) -> None:
        """What the catalog believes to be here, and is not."""
        after = 0
        while True:
            with self._catalog.read() as session:
                some = rebuilding.believed(session, volume_pk, after, BATCH)
            if not some:
                return
            after = some[-1][1].copy_pk
            for locator, copy in some:
                try:
                    store.stat(locator)
                except NotFound:
                    self._missing(found, copy.copy_pk, copy.package)

    def _missing(self, found: VolumeReport, copy_pk: int, package: str) -> None:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if adoption.doubt(session, copy_pk, now, self._actor, f"not on {found.volume}: compared"):
                found.missing.append(package)

    def _not_ours(self, volume: VolumeRef, found: VolumeReport, words: str) -> bool:
        named = super()._not_ours(volume, found, words)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            held = volumelife.live_copies(session, volume.pk)
            if held and media.volume_by_key(session, volume.pk).state not in NOTHING_COUNTS:
                media.move_volume(
                    session, volume.pk, VolumeState.SUSPECT, now, self._actor, f"compared: it is {words}"
                )
        after = 0
        while held:
            with self._catalog.read() as session:
                some = rebuilding.believed(session, volume.pk, after, BATCH)
            if not some:
                break
            after = some[-1][1].copy_pk
            for _, copy in some:
                self._missing(found, copy.copy_pk, copy.package)
        return named or bool(held) or words != BLANK

    def _own(self, session: Session, volume: VolumeRef, label: VolumeLabel, now: datetime) -> None:
        if volume.state in (*BLANK_VOLUMES, VolumeState.FOREIGN):
            super()._own(session, volume, label, now)
            return
        why = f"it carries the label {label.uuid} of pool {label.pool!r} now"
        while volumelife.lose_copies(session, volume.pk, now, self._actor, why, BATCH):
            pass
        adoption.relabelled(session, volume.pk, label.pool, label.uuid, now, self._actor, why)

    def _end(self, report: Report) -> None:
        """Done when every volume on which something counts has been compared, or was left out."""
        super()._end(report)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            last = restored.last(session)
            done = rebuilding.volumes_done(session, self._verb, last[0] if last else 0)
            left = [
                each.name
                for each in media.volumes(session)
                if each.state not in NOTHING_COUNTS and each.name not in done
            ]
            report.left = sorted(left)
            if not left and report.complete:
                detail = {"quarantined": report.quarantined, "totals": report.totals}
                rebuilding.compared(session, now, self._actor, detail)
                report.lifted = True

    def _finish(self, session: Session, report: Report, now: datetime) -> None:
        """The record of the end is another one."""
