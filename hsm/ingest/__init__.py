"""Received bytes become durable before they are acknowledged (promise 1).

The order is fixed: bytes to a file that was made ahead and whose temporary name is durable, flush,
link under the final name, catalog row committed, success; then, for many at once, flush of the folders
and removal of the temporary names. A crash between any two steps leaves nothing, or an instance that
was never acknowledged, or one that is whole under at least one of its names: the next start looks at
all temporary ones (:mod:`hsm.recovery`).

:mod:`~hsm.ingest.decision` decides, :mod:`~hsm.ingest.intake` commits, :mod:`~hsm.ingest.incoming` has
the files, :mod:`~hsm.ingest.shelf` their final names, :mod:`~hsm.ingest.settle` what comes after success,
and :mod:`~hsm.ingest.room` says no before the pool is full.
"""

from hsm.ingest.decision import SameUidRule, StoreOutcome
from hsm.ingest.intake import Arrival, Ingest

__all__ = ["Arrival", "Ingest", "SameUidRule", "StoreOutcome"]
