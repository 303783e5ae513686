"""The two protocols that storage speaks, and the values they exchange.

A :class:`Store` is something bytes can be put into and got from *now*. A :class:`Library` is
something that turns a volume into a Store: a changer (a robot, or a person with a shelf) with
drives. Capabilities are data (:class:`Traits`), not methods. They stand in :mod:`drivers.store` and
:mod:`drivers.library`; whoever writes a driver, or uses one, finds both here.

Sizes and offsets are bytes, times are seconds, digests are the 32 raw bytes of a SHA-256.
Every method may raise the four kinds of :mod:`drivers.errors` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drivers.library import Cleaning as Cleaning
from drivers.library import Element as Element
from drivers.library import ElementKind as ElementKind
from drivers.library import Inventory as Inventory
from drivers.library import Library as Library
from drivers.library import Ordering as Ordering
from drivers.library import Overwriting as Overwriting
from drivers.library import Reporting as Reporting
from drivers.library import SimulatedHands as SimulatedHands
from drivers.library import VolumeLabel as VolumeLabel
from drivers.store import CHUNK_BYTES as CHUNK_BYTES
from drivers.store import DIGEST_BYTES as DIGEST_BYTES
from drivers.store import KEY_LENGTH_MAX as KEY_LENGTH_MAX
from drivers.store import Capacity as Capacity
from drivers.store import Digested as Digested
from drivers.store import Figure as Figure
from drivers.store import Health as Health
from drivers.store import Labelled as Labelled
from drivers.store import Notice as Notice
from drivers.store import ObjectStat as ObjectStat
from drivers.store import Readable as Readable
from drivers.store import Recallable as Recallable
from drivers.store import RecallState as RecallState
from drivers.store import Severity as Severity
from drivers.store import Store as Store
from drivers.store import StoreLabel as StoreLabel
from drivers.store import Traits as Traits
from drivers.store import Warmth as Warmth
from drivers.store import Watched as Watched
from drivers.store import check_key as check_key
from drivers.store import noted_digest as noted_digest


@dataclass(frozen=True, slots=True)
class Family:
    """One driver family, as found through the entry-point group ``hsm.drivers``.

    The factories take the driver's own options (plain values from the configuration) and
    import what is heavy only when called. A family gives Stores, Libraries, or both.
    """

    name: str
    options: frozenset[str]
    """The option names that the factories accept; anything else is a configuration error."""
    open_store: Callable[[Mapping[str, Any]], Store] | None = None
    open_library: Callable[[Mapping[str, Any]], Library] | None = None
    required: frozenset[str] = frozenset()
    kind: str = "disk"
    """What a policy calls the volumes of its Stores: disk, nas, sftp, s3, optical, tape."""
    path_option: str | None = None
    """The option that names a folder of this machine below which the object ``key`` is the file
    ``path/key``, if the Stores are such: only these can hold the layout ``files``."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Looks at the options' values and opens nothing, for whoever checks a configuration; raises
    ``Permanent`` where one cannot be meant."""
    any_clock: bool = False
    """Nothing in it waits for hardware or a network, so that a daemon in a simulation whose clock is
    sped up may use it."""
