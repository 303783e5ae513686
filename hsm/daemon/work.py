"""The threads that do the queue's work, and what they are joined to."""

from __future__ import annotations

from functools import partial

from hsm.coldrecall import ColdRecalls
from hsm.daemon.foundation import Foundation
from hsm.daemon.media import Media
from hsm.daemon.packages import Packages
from hsm.daemon.peers import Peers
from hsm.drivesession import DriveSession
from hsm.eta import Etas
from hsm.workers import Joints, Workers


class Work:
    """Workers, and when they are through with what."""

    def __init__(self, base: Foundation, packages: Packages, media: Media, peers: Peers) -> None:
        catalog, pools, bell = base.catalog, base.pools, base.bell
        session = DriveSession(
            catalog,
            pools,
            media.custody,
            media.volumes,
            media.drive_use,
            packages.recall,
            packages.migrate,
            bell,
            media.anchoring,
            packages.scrubs,
        )
        joints = Joints(
            catalog,
            pools,
            packages.staging,
            packages.reader,
            media.drives,
            packages.seal,
            packages.migrate,
            session,
            peers.deliverer,
            peers.reporter,
            bell,
            ColdRecalls(catalog, pools, packages.recall, bell),
            partial(peers.announcer, peers.announcements),
            peers.outbound.resting,
        )
        reserved = {each.name: each.drives_reserved_for_recall for each in base.config.libraries}
        self.workers = Workers(joints, reserved=reserved)
        self.etas = Etas(catalog, self.workers.planning)
        peers.retrievals.forecast = self.etas.waiting_for
