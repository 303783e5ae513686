"""Volumes, drives and the people who carry cartridges: where each is, what state it is in, what it needs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from hsm.anchoring import Anchoring
from hsm.claims import Drives
from hsm.clockwatch import ClockWatch
from hsm.custody import Custody
from hsm.daemon.foundation import Foundation
from hsm.daemon.packages import Packages
from hsm.dicom.header import read_header
from hsm.drain import Drains
from hsm.driveuse import DriveUse
from hsm.markingtapes import MarkingTapes
from hsm.mediawatch import MediaWatch
from hsm.operators import Damage, Manners, Movements, Operators, Reminders
from hsm.operators.damage import compose_backup
from hsm.poolbackup import Failing, Plan, PoolBackups
from hsm.pooldesk import PoolDesk
from hsm.rebuild import Drills
from hsm.repack import Repack
from hsm.scan import Scan
from hsm.volumes import Volumes


class Media:
    """What is done with volumes and drives."""

    def __init__(self, base: Foundation, packages: Packages) -> None:
        config, catalog, pools, bell = base.config, base.catalog, base.pools, base.bell
        goals_of = base.policies.goals_of
        anchors = config.audit.anchors
        late = timedelta(seconds=anchors.every)
        self.anchoring = Anchoring(catalog, pools, base.title, late, anchors.file)
        self.drives = Drives()
        self.custody = Custody(catalog, pools, self.drives, bell)
        manners = Manners.of(config.operator, config.dicom.retrieve.hold_seconds_max)
        self.operators = Operators(catalog, pools, self.custody, self.drives, bell, manners)
        self.movements = Movements(catalog, pools, self.custody, bell)
        self.reminders = Reminders(catalog, self.operators, config.operator, base.title, bell)
        self.drains = Drains(catalog, pools, goals_of, bell)
        self.pool_desk = PoolDesk(config, catalog, pools, self.drains)
        self.volumes = Volumes(catalog, pools, self.custody, bell, goals_of)
        self.scan = Scan(catalog, pools, self.custody, packages.migrate, bell)
        self.repack = Repack(catalog, pools, bell, goals_of)
        asked = config.catalog.backup
        self.backups = PoolBackups(
            catalog,
            pools,
            self.custody,
            self.volumes.label_in,
            config.home,
            Plan(asked.pool, timedelta(seconds=asked.every), asked.keep) if asked is not None else None,
            partial(_tell_backup, packages.damage, base.title),
        )
        self.marking_tapes = MarkingTapes(catalog, pools, self.custody, self.anchoring, late)
        self.drills = Drills(catalog, pools, self.custody, read_header, config.home)
        off_after = {each.name: each.drive_off_after for each in config.libraries}
        self.drive_use = DriveUse(catalog, pools, off_after)
        self.media_watch = MediaWatch(catalog, pools)
        self.clock_watch = ClockWatch(catalog)


def _tell_backup(damage: Damage, title: str, told: Failing) -> None:
    message = compose_backup(told.pool, told.why, told.last, told.now, title)
    damage.say(message, urgent=bool(told.why))
