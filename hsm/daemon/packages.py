"""What becomes of instances, packages and their copies: taken in, sealed, copied, recalled, mended, ended."""

from __future__ import annotations

from hsm.daemon.foundation import Foundation
from hsm.dicom.header import read_header
from hsm.ingest import Ingest
from hsm.migrate import Migrate
from hsm.operators import Damage
from hsm.prefetch import Prefetches
from hsm.reader import Reader
from hsm.recall import Recall
from hsm.recovery import Recovery
from hsm.repair import Repairs
from hsm.scrub import Scrubs
from hsm.seal import Seal
from hsm.staging import Staging
from hsm.trash import Trash


class Packages:
    """:raises ConfigError: the staging area cannot be used."""

    def __init__(self, base: Foundation) -> None:
        config, catalog, pools, bell = base.config, base.catalog, base.pools, base.bell
        goals_of = base.policies.goals_of
        area = config.staging
        self.staging = Staging(area.path, area.size_max_bytes, area.free_min_bytes, base.clock)
        self.reader = Reader(catalog, pools, self.staging)
        self.recall = Recall(catalog, self.staging, self.reader, bell)
        self.migrate = Migrate(catalog, pools, self.staging, self.reader, self.recall, goals_of)
        self.scrubs = Scrubs(catalog, pools, bell)
        self.damage = Damage(config.operator, base.title, base.clock, catalog=catalog, node=base.node)
        self.repairs = Repairs(catalog, pools, goals_of, bell, self.damage.tell)
        self.seal = Seal(catalog, pools.ingest, config.seal.quiet_seconds, config.seal.package_bytes_max)
        self.ingest = Ingest(catalog, pools.ingest, config.dicom.same_uid, config.deletion.trash)
        self.recovery = Recovery(catalog, pools.ingest, self.ingest, read_header)
        self.trash = Trash(catalog, self.staging, bell, config.deletion)
        self.prefetches = Prefetches(catalog, self.recall)
