"""How people look in and command: the control API with all it offers, audits, the nightly mail, roles."""

from __future__ import annotations

from typing import Protocol

from hsm.api import services
from hsm.api.control import ControlApi
from hsm.audit import Audit
from hsm.audit.nightly import Nightly
from hsm.catalog.views import PoolFact
from hsm.daemon.foundation import Foundation
from hsm.daemon.media import Media
from hsm.daemon.packages import Packages
from hsm.daemon.peers import Peers
from hsm.daemon.work import Work
from hsm.model import Layout
from hsm.pools import Pools
from hsm.queueacts import QueueActs
from hsm.recalldesk import RecallDesk
from hsm.roleswatch import RolesWatch


class Process(services.Daemon, Protocol):
    """The daemon as a whole, which the API and the mail ask."""

    def problems(self) -> list[str]:
        """What an administrator should see to, as ``hsm status`` lists it."""
        ...


class Control:
    """:raises ConfigError: a certificate or key of the API cannot be used."""

    def __init__(
        self,
        base: Foundation,
        packages: Packages,
        media: Media,
        peers: Peers,
        work: Work,
        process: Process,
    ) -> None:
        config, catalog = base.config, base.catalog
        file = config.audit.file.path if config.audit.file is not None else None
        self.audit = Audit(catalog, base.pools, base.policies, media.custody, base.title, base.bell, file)
        self.nightly = Nightly(catalog, self.audit, process.problems, base.title)
        offered = services.Services(
            catalog=catalog,
            pools=lambda: pool_facts(base.pools),
            reach=packages.reader.reach,
            custody=media.custody,
            prefetches=packages.prefetches,
            trash=packages.trash,
            recall=RecallDesk(catalog, packages.recall, work.etas),
            policies=base.policies,
            queue=QueueActs(catalog, base.bell),
            volumes=media.volumes,
            drives=media.drive_use,
            repack=media.repack,
            scan=media.scan,
            daemon=process,
            exports=peers.exports,
            storage=media.pool_desk,
            backups=media.backups,
            drills=media.drills,
            operators=media.operators,
            movements=media.movements,
            audit=self.audit,
            turns=work.workers.planning.turns,
        )
        self.api = ControlApi(offered, config.api, base.clock, base.refusals.note, base.accesses.note)
        self.roles_watch = RolesWatch(catalog, base.node)


def pool_facts(pools: Pools) -> list[PoolFact]:
    """The pools in the order of the configuration, those that need no drive first."""
    disks = [PoolFact(p.name, p.tier, p.layout.value) for p in pools.disks.values()]
    return disks + [
        PoolFact(p.name, p.tier, Layout.PACKAGES.value, p.library, p.scratch, p.scratch_low)
        for p in pools.tapes.values()
    ]
