"""What the API asks of the daemon, as protocols: it builds nothing and owns nothing itself.

Every method may raise the errors of :mod:`hsm.errors`; :mod:`hsm.api.problems` says what a client
sees of each. ``by`` names the person for the journal, as :mod:`hsm.api.identity` found out.
Returned dictionaries hold plain values, enumerations and aware datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hsm.api.services.media import Custody, Drives, Movements, Operators, Repack, Scan, Storage, Volumes
from hsm.api.services.oversight import Audit, Backups, Daemon, Drills, Policies
from hsm.api.services.record import Record
from hsm.api.services.studies import Exports, Prefetches, Queue, Recall, Trash
from hsm.availability import Reach
from hsm.catalog.engine import Catalog
from hsm.catalog.views import PoolFact

__all__ = ["Daemon", "Record", "Services"]

Turns = Callable[[Sequence[int]], Mapping[int, Record]]
"""Of these requests those that need a drive, each with its turn: position (0: under way, 1: next on its
drive), library, drive, volume, starts_at, finishes_at, why, ahead (request, why), ahead_total."""


@dataclass(frozen=True)
class Services:
    """Everything the API is joined to."""

    catalog: Catalog
    pools: Callable[[], Sequence[PoolFact]]
    """The pools of the configuration in force, in its order."""
    reach: Callable[[], Reach]
    """What can be read now, and how."""
    custody: Custody
    recall: Recall
    prefetches: Prefetches
    policies: Policies
    queue: Queue
    volumes: Volumes
    drives: Drives
    repack: Repack
    scan: Scan
    daemon: Daemon
    exports: Exports
    storage: Storage
    backups: Backups
    drills: Drills
    operators: Operators
    movements: Movements
    audit: Audit
    trash: Trash
    turns: Turns = lambda _requests: {}
