"""The archive of :mod:`tests.sim.world` with a NAS, a bucket and all that may go wrong around it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

import drivers.folder
import hsm.opening
from drivers.errors import Corrupt, DriverError, WrongVolume
from drivers.quotas import Room
from drivers.simulated.faults import Event, FaultScript
from drivers.simulated.library import SimulatedRobot
from hsm.catalog import queue
from hsm.catalog.engine import open_engine
from hsm.catalog.orders import Order
from hsm.clockwatch import ClockWatch
from hsm.config import DicomConfig
from hsm.config.deletion import DeletionConfig
from hsm.delivery import Deliveries
from hsm.deliverylog import DeliveryLog
from hsm.dicom.deliver import Deliverer
from hsm.dicom.outbound import Outbound
from hsm.dicom.retrieve import Retrieve
from hsm.dicom.rights import AeBook
from hsm.dicom.waitingroom import WaitingRoom
from hsm.drain import Drains
from hsm.errors import BadInput, HsmError, Retryable
from hsm.mediawatch import MediaWatch
from hsm.model import Header, InstanceRef
from hsm.operators.switching import switch_unanswered
from hsm.poolwatch import PoolWatch
from hsm.prefetch import Prefetches
from hsm.recovery import recover
from hsm.trash import Trash
from tests.chaos.chaos_clock import SteppedClock
from tests.chaos.chaos_database import Database
from tests.chaos.chaos_effects import Effects
from tests.chaos.chaos_host import Host
from tests.chaos.chaos_moves import DOWN, PEERS, Moves
from tests.chaos.chaos_network import Trouble
from tests.chaos.chaos_studies import sent_of
from tests.sim.world import EXPLICIT_LITTLE, Shape, World

SWITCH_SECONDS = 900.0
"""A prompt that nobody answers for so long gives way to another copy."""
SCRUB = {"every": 3600.0, "shelf": "ask"}
SCRUBBED = ("tape", "nas", "cloud")
"""Pools whose copies are read back again and again: what is damaged there is found by itself."""
HOLD_SECONDS_MAX = 900.0
"""Of a C-MOVE."""
CARTRIDGES = 24
SHELF_MAX = 6
"""More are not taken out of the library."""
SHAPE_SLOTS = 80
"""Room for what people bring besides."""


@dataclass
class Surroundings:
    """What outlives a daemon."""

    clock: SteppedClock
    effects: Effects
    host: Host
    database: Database
    nas: Trouble
    bucket: Trouble
    full: set[str]
    """Disk pools of this machine without room."""
    trash_seconds: float
    """How long a deleted study stays in the trash."""
    moves: Moves = field(init=False)


def shape(home: Path, capacity_bytes: int, staging_bytes: int) -> Shape:
    """The site: disks, a NAS, a bucket, another with a cold class, a library with two drives."""
    for name in ("nas", "bucket", "vault"):
        (home.parent / name).mkdir()
    return Shape(
        cartridges=CARTRIDGES,
        slots=SHAPE_SLOTS,
        mail_slots=2,
        drives=2,
        capacity_bytes=capacity_bytes,
        staging_bytes=staging_bytes,
        tape={"scrub": SCRUB},
        pools=(
            _far("nas", "chaosnas", home.parent / "nas"),
            _far("cloud", "chaosbucket", home.parent / "bucket"),
            _far("vault", "chaosvault", home.parent / "vault"),
        ),
    )


def _far(name: str, driver: str, at: Path) -> dict[str, Any]:
    pool = {"name": name, "driver": driver, "tier": "nearline", "options": {"at": str(at)}}
    return pool | ({"scrub": SCRUB} if name in SCRUBBED else {})


def read_synthetic(dataset: memoryview, syntax: str) -> Header:
    """What recovery asks of a dataset.

    :raises BadInput: it is cut off, or not one of ours.
    """
    found = sent_of(bytes(dataset))
    if found is None or syntax != EXPLICIT_LITTLE:
        raise BadInput("the dataset is cut off")
    return found.header()


class ChaosWorld(World):
    """One life of the daemon."""

    surroundings: Surroundings
    dies_at: int | None = None
    """The effect at which the next start dies."""

    def _build(self) -> None:
        around = self.surroundings
        around.host.idle = False
        around.host.fuse = self.fuse
        self.fuse.blows_at = self.dies_at
        super()._build()

    def _open_engine(self) -> Engine:
        engine = open_engine(self.url)
        self.surroundings.database.attach(engine)
        return engine

    def _start(self) -> None:
        """As :meth:`hsm.daemon.Daemon.start` takes over what the last one left."""
        self.drains = Drains(self.catalog, self.pools, self.policies.goals_of, self.bell)
        self.prefetches = Prefetches(self.catalog, self.recall)
        config = DeletionConfig(trash=self.surroundings.trash_seconds)
        self.trash = Trash(self.catalog, self.staging, self.bell, config)
        self.clock_watch = ClockWatch(self.catalog)
        self.media_watch = MediaWatch(self.catalog, self.pools)
        self.poolwatch = PoolWatch(self.catalog, self.pools, self.bell)
        with self.catalog.write() as session:
            queue.give_back_all_active(session, self.clock.now(), "start")
        self._build_moves()
        self.deliveries.begin_again()
        self.announcements.round()
        self._recover()
        self.take_inventory()

    def _build_moves(self) -> None:
        """C-MOVE and what goes on when its caller has gone, as the daemon joins them."""
        peers = [
            {"ae_title": name, "host": "127.0.0.1", "port": 104, "deliver_when_down": when_down}
            for name, when_down in PEERS.items()
        ]
        config = DicomConfig.model_validate(
            {"aes": peers, "retrieve": {"hold_seconds_max": HOLD_SECONDS_MAX}}
        )
        log = DeliveryLog(self.home / "deliveries")
        self.deliveries = Deliveries(self.catalog, self.bell, log)
        watch = self.surroundings.moves.watch
        self.deliverer = Deliverer(config, "HSM", watch, self.retrievals, self.deliveries)
        self.waiting_room = WaitingRoom(1)
        self.mover = Retrieve(
            config,
            "HSM",
            AeBook.of(config),
            self._wanted,
            self.retrievals,
            self.deliveries,
            self.clock,
            threading.Event(),
            Outbound(self.clock),
            self.waiting_room,
        )

    def _wanted(self, *_: object, **__: object) -> list[InstanceRef]:
        return self.instances(self.surroundings.moves.serves.study)

    def _recover(self) -> None:
        service = self.pools.ingest.service
        assert service is not None
        if not service.opened:
            service.on_open = self._recover
            return
        try:
            recover(self.pools.ingest, self.ingest, read_synthetic)
        except (DriverError, HsmError) as error:
            logging.getLogger(__name__).info("recovery waits for the next start: %s", error)

    def take_inventory(self) -> None:
        """A library that does not answer keeps nobody from starting."""
        try:
            self.custody.inventory()
        except (DriverError, HsmError) as error:
            logging.getLogger(__name__).info("inventory: %s", error)

    def _deliver(self, order: Order, stop: threading.Event) -> None:
        with self.surroundings.moves.serving(order.detail["message_id"]):
            self.deliverer(order, stop)

    def _notify(self, order: Order, stop: threading.Event) -> None:
        self._peers(super()._notify, order, stop)

    def _report(self, order: Order, stop: threading.Event) -> None:
        self._peers(super()._report, order, stop)

    def _peers(
        self, act: Callable[[Order, threading.Event], None], order: Order, stop: threading.Event
    ) -> None:
        """What goes to a peer, who may be down."""
        try:
            act(order, stop)
        except Retryable as error:
            if str(error).endswith(DOWN):
                self.surroundings.effects.feel("peer down")
            raise

    # The routines that the daemon's scheduler and its threads run.

    def routines(self) -> dict[str, tuple[float, Callable[[], object]]]:
        """By name: how often (seconds), and what."""
        return {
            "seal": (30.0, self.seal.enqueue_quiet),
            "clock": (60.0, self.clock_watch.round),
            "policies": (90.0, self._policies),
            "policy watch": (60.0, self.policies.watch),
            "inventory": (300.0, self.take_inventory),
            "deliveries": (30.0, self.deliveries.settle),
            "prompts": (60.0, partial(switch_unanswered, self.catalog, self.bell, SWITCH_SECONDS)),
            "prefetches": (60.0, self.prefetches.round),
            "drains": (60.0, self.drains.round),
            "announcements": (30.0, self.announcements.round),
            "repack": (60.0, self.repack.round),
            "trash": (60.0, self.trash.round),
            "scrub": (60.0, self.scrubs.round),
            "repairs": (60.0, self.repairs.round),
            "anchors": (300.0, self.anchoring.round),
            "pools": (5.0, self.probe),
            "names": (5.0, self.ingest.settle),
        }

    def _policies(self) -> None:
        self.policies.run(None, dry_run=False, by="schedule")

    def probe(self) -> None:
        """One round of the pool watch, whose threads run here in turn."""
        self.poolwatch.round()

    def outside_drives(self) -> list[str]:
        """Barcodes of the cartridges that hands can reach in the library."""
        drives = set(self.library._drives)
        where = self.library._places.read().where
        return sorted(
            barcode for barcode, place in where.items() if place is not None and place not in drives
        )

    def again(self, dies_at: int | None) -> ChaosWorld:
        """The next daemon, on what this one left; it may die in its start."""
        type(self).dies_at = dies_at
        found = super().rebuild()
        assert isinstance(found, ChaosWorld)
        return found


class _Inline:
    """A thread that has run when it was started."""

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...] = (), **_: Any) -> None:
        self.name = ""
        self._run = partial(target, *args)

    def start(self) -> None:
        self._run()

    def join(self, *_: Any) -> None:
        return


@contextmanager
def one_thread(around: Surroundings) -> Iterator[None]:
    """Nothing runs beside anything else; disks are as full, and hardware as broken, as the surroundings
    say, and what was felt of it is counted."""
    effects = around.effects
    inline = SimpleNamespace(**{**vars(threading), "Thread": _Inline})
    room, check = drivers.folder.room_at, FaultScript.check
    mount, read_label = SimulatedRobot.mount, SimulatedRobot.read_label

    def room_at(descriptor: int) -> Room:
        found = room(descriptor)
        pool = around.host.pool_of(f"{around.host._path(descriptor, None)}/x")
        if pool in around.full:
            effects.feel("disk full")
            return Room(1 << 40, 0)
        return Room(1 << 40, 1 << 39, found.whose)

    def struck(self: FaultScript, event: Event) -> None:
        try:
            check(self, event)
        except DriverError as error:
            effects.feel(str(error).rpartition("chaos: ")[2])
            raise

    def seen(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return real(*args)
            except WrongVolume:
                effects.feel("stickers exchanged")
                raise
            except Corrupt as error:
                if "torn" in str(error):
                    effects.feel("cartridge torn")
                raise

        return call

    changes: list[tuple[Any, str, Any]] = [
        (hsm.opening, "threading", inline),
        (hsm.poolwatch, "threading", inline),
        (drivers.folder, "room_at", room_at),
        (FaultScript, "check", struck),
        (SimulatedRobot, "mount", seen(mount)),
        (SimulatedRobot, "read_label", seen(read_label)),
    ]
    old = [(where, name, getattr(where, name)) for where, name, _ in changes]
    try:
        for where, name, new in changes:
            setattr(where, name, new)
        yield
    finally:
        for where, name, before in old:
            setattr(where, name, before)


TROUBLES = (SQLAlchemyError, DriverError, HsmError)
"""What the daemon's threads survive: they try again."""
