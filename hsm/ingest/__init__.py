"""Received bytes become durable before they are acknowledged (promise 1).

The order is fixed: bytes to a temporary file, flush, link under the final name, flush the folder,
catalog row committed, success. A crash between any two steps leaves either nothing or an instance
that was never acknowledged.

:mod:`~hsm.ingest.intake` decides and commits, :mod:`~hsm.ingest.files` writes, :mod:`~hsm.ingest.room`
says no before the pool is full.
"""

from hsm.ingest.intake import Arrival, Ingest, SameUidRule, StoreOutcome

__all__ = ["Arrival", "Ingest", "SameUidRule", "StoreOutcome"]
