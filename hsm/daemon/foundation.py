"""What everything else stands on: the configuration in force, catalog, pools, policies, what is noted."""

from __future__ import annotations

import importlib.metadata
import socket

from hsm.catalog.access import AccessLog
from hsm.catalog.engine import Catalog
from hsm.catalog.history import Recorder
from hsm.clock import Clock, FastClock
from hsm.config import Config
from hsm.errors import ConfigError
from hsm.log import get_logger
from hsm.opening import open_pools
from hsm.policyrun import Policies
from hsm.poolwatch import PoolWatch
from hsm.refusals import Refusals
from hsm.trail import Trail
from hsm.wake import Bell
from policies import PolicySet, Schedule

log = get_logger(__name__)

ACTOR = "hsm"
"""By whom the daemon does what nobody asked for."""


def version() -> str:
    """Of this software."""
    return importlib.metadata.version("hsm-archive")


class Foundation:
    """:raises ConfigError: a pool or the policies are not right."""

    def __init__(self, config: Config, clock: Clock, catalog: Catalog) -> None:
        self.config = config
        """What is in force; a reload replaces it."""
        self.clock = clock
        self.catalog = catalog
        self.title = config.archive.ae_title
        self.node = f"{socket.gethostname()}:{config.home}"
        """A name of this daemon that it keeps when it is started again."""
        self.bell = Bell(clock.machine_seconds) if isinstance(clock, FastClock) else Bell()
        self.pools = open_pools(config, catalog)
        self.refusals = Refusals(catalog, clock)
        self.poolwatch = PoolWatch(catalog, self.pools, self.bell)
        self.policies = Policies(
            catalog, self.pools, self.bell, config.policies, PolicySet(), worker=self.node
        )
        self._begin_policies(config)
        self.history = Recorder(catalog)
        self.accesses = AccessLog(catalog)
        self.trail = Trail(catalog, config.audit, self.title, config.home, version())

    def _begin_policies(self, config: Config) -> None:
        """What was in force goes on to be; on a new archive the folder's policies come into force."""
        versions = self.policies.versions
        versions.default = Schedule(every_seconds=config.schedule.policies_seconds)
        number, loaded = versions.begin(ACTOR)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        self.policies.replace(config.policies, loaded, number)

    def reload_policies(self, new: Config) -> None:
        """Look at the folder again. What is in force stays in force until somebody activates the folder's
        policies; only where nothing was ever activated they come into force now.

        :raises ConfigError: something in the folder is wrong; nothing is changed.
        """
        versions = self.policies.versions
        old = (versions.folder, versions.default)
        versions.folder = new.policies
        versions.default = Schedule(every_seconds=new.schedule.policies_seconds)
        try:
            versions.read_folder()
            number, loaded = versions.begin(ACTOR)
        except ConfigError:
            versions.folder, versions.default = old
            raise
        self.policies.replace(new.policies, loaded, number)
        for problem in self.policies.problems():
            log.warning("%s", problem)
