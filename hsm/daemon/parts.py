"""All parts of an archive, in the order in which they are built."""

from __future__ import annotations

from collections.abc import Mapping

from hsm.catalog.engine import Catalog
from hsm.clock import Clock
from hsm.config import Config
from hsm.daemon.control import Control, Process
from hsm.daemon.foundation import Foundation
from hsm.daemon.media import Media
from hsm.daemon.packages import Packages
from hsm.daemon.peers import Peers
from hsm.daemon.work import Work


class Parts:
    """Built and joined; nothing of it has begun.

    :raises ConfigError: the configuration and the machine do not fit together.
    """

    def __init__(
        self, config: Config, environ: Mapping[str, str], clock: Clock, catalog: Catalog, process: Process
    ) -> None:
        base = self.base = Foundation(config, clock, catalog)
        packages = self.packages = Packages(base)
        media = self.media = Media(base, packages)
        peers = self.peers = Peers(base, packages, environ)
        work = self.work = Work(base, packages, media, peers)
        self.control = Control(base, packages, media, peers, work, process)
