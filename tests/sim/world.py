"""An archive in one thread: real catalog, real folders, a simulated library, a clock that is pushed.

Nothing runs by itself: :meth:`World.settle` runs the workers' steps until none finds work, and
:meth:`World.later` pushes the clock first. :meth:`World.rebuild` is a restart on the same folders,
whatever state a :class:`~tests.sim.taps.Crash` left them in.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine, event, select
from sqlalchemy.util import LRUCache

from drivers.base import Library
from drivers.simulated.faults import Fault
from drivers.simulated.library import SimulatedLibrary
from hsm.anchoring import Anchoring
from hsm.announce import Announcements, Notification
from hsm.catalog import chaincheck, check, journal, queue, retrievable
from hsm.catalog.engine import open_engine
from hsm.catalog.orders import Order
from hsm.catalog.tables import Copy, Instance, MountRequest, Package, Request, Study, Volume
from hsm.claims import Drives
from hsm.clock import ManualClock
from hsm.coldrecall import ColdRecalls
from hsm.commitment import Commitments, Result, WaitFor
from hsm.config import Config
from hsm.custody import Custody
from hsm.delivery import Deliveries
from hsm.dicom.contexts import is_storage_class
from hsm.drivesession import DriveSession
from hsm.driveuse import DriveUse
from hsm.errors import Retryable
from hsm.fullness import is_full
from hsm.ingest import Ingest, StoreOutcome
from hsm.layout import instance_path
from hsm.migrate import Migrate
from hsm.model import Header, InstanceRef, Priority, Selection
from hsm.opening import open_pools
from hsm.operators import Manners, Operators
from hsm.policyrun import Policies
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.recall import Postponed, Recall
from hsm.repack import Repack
from hsm.repair import Repairs
from hsm.retrieval import Readable, Retrieval, Retrievals, Unobtainable
from hsm.scan import Scan
from hsm.scrub import Scrubs
from hsm.seal import Seal
from hsm.staging import Staging
from hsm.volumes import Volumes
from hsm.wake import Bell
from hsm.workers import Joints, Workers
from policies import PolicySet, load_texts
from tests.sim.taps import Fuse, TappedCatalog, TappedLibrary, TappedStore

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
QUIET_SECONDS = 60.0
STEPS_MAX = 2000
ROOT = "1.2.826.0.1.3680043.8.498"
_STATEMENTS: dict[str, LRUCache[Any, Any]] = {}
LONG = os.environ.get("HSM_SIM") == "long"
"""`make sim`: everything, not a sample."""

ROAD = """\
policy: road
priority: 1
copies: {tape: 1}
rules:
  - {name: to nearline, copy to: nearline, when: copies(tape) = 0}
  - {name: to tape, copy to: tape, when: copies(nearline) >= 1}
  - {name: free online, release from: online, when: copies(tape) >= 1}
  - {name: free nearline, release from: nearline, when: copies(tape) >= 1}
"""
"""Everything goes on tape and off the disks."""

TWO_TAPES = """\
policy: two
priority: 1
copies: {tape: 2}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 2}
"""

NEARLINE = """\
policy: near
priority: 1
copies: {nearline: 1}
rules: [{name: to nearline, copy to: nearline}]
"""

NOTHING = """\
policy: nothing
priority: 1
rules: [{name: never, copy to: nearline, when: age > 200 years}]
"""


@dataclass(frozen=True)
class Shape:
    """How big the archive is."""

    cartridges: int = 4
    slots: int = 8
    mail_slots: int = 2
    drives: int = 2
    capacity_bytes: int = 4 << 20
    staging_bytes: int = 16 << 20
    tape: dict[str, Any] = field(default_factory=dict)
    """More of the pool `tape`: scratch, scratch_low, verify."""
    disk: dict[str, Any] = field(default_factory=dict)
    """More of the pools `online` and `nearline`: scrub."""
    same_uid: str = "keep both"
    pools: tuple[Any, ...] = ()
    """More pools, as the configuration has them."""
    library: Callable[[Path], dict[str, Any]] | None = None
    """Driver and options, from the home folder, of a library that is not the simulated one."""


@dataclass
class Got:
    """What a retrieve gave so far."""

    files: dict[str, bytes] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    """SOP Instance UID -> why it cannot be had."""
    waiting: int = 0


class Wait:
    """An open retrieve, kept by a test."""

    def __init__(self, retrieval: Retrieval) -> None:
        self.retrieval = retrieval
        self.got = Got()

    def look(self) -> Got:
        """Take what can be had now."""
        while (found := self.retrieval.next(0)) is not None:
            uid = found.instance.sop_instance_uid
            if isinstance(found, Unobtainable):
                self.got.lost[uid] = found.reason
            else:
                assert isinstance(found, Readable)
                part10 = _content(found)
                same = hashlib.sha256(part10).digest() == found.instance.digest
                assert same, f"4: other bytes are served for {uid}"
                self.got.files[uid] = part10
        self.got.waiting = self.retrieval.remaining
        return self.got

    def close(self) -> None:
        self.retrieval.close()


def _content(found: Any) -> bytes:
    """The whole file of a :class:`Readable`, closed."""
    if hasattr(found, "part10"):
        return bytes(found.part10)
    try:
        return bytes(found.content.whole())
    finally:
        found.content.close()


def dataset(size: int, seed: int) -> bytes:
    """Bytes that differ with the seed; what they mean is nobody's business here."""
    block = hashlib.sha256(str(seed).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def header(study: int, number: int, series: int = 1) -> Header:
    texts = dict.fromkeys(
        (
            *("patient_issuer", "patient_birth_date", "patient_sex", "study_date", "study_time", "study_id"),
            *("study_description", "accession", "referring_physician", "series_description", "series_date"),
            *("series_time", "body_part", "institution", "station", "charset"),
        ),
        "",
    )
    return Header(
        **texts,
        patient_id=f"P{study}",
        patient_name=f"Patient^{study}",
        study_uid=study_uid(study),
        series_uid=f"{study_uid(study)}.{series}",
        series_number=series,
        modality="CT",
        sop_instance_uid=f"{study_uid(study)}.{series}.{number}",
        sop_class_uid=CT_IMAGE,
        instance_number=number,
    )


def study_uid(study: int) -> str:
    return f"{ROOT}.{study}"


class World:
    """One life of one archive's daemon."""

    def __init__(
        self,
        home: Path,
        url: str,
        clock: ManualClock | None = None,
        *,
        policies: str = ROAD,
        shape: Shape | None = None,
        acknowledged: dict[str, bytes] | None = None,
        handless: bool = False,
    ) -> None:
        self.home, self.url = home, url
        self.clock = clock or ManualClock()
        self.shape = shape or Shape()
        self.handless = handless
        self.policy_text = policies
        self.acknowledged = acknowledged if acknowledged is not None else {}
        """SOP Instance UID -> SHA-256 of the Part 10 file, of every store that succeeded."""
        self.fuse = Fuse()
        self.delivered: list[tuple[str, str]] = []
        self.reported: list[Result] = []
        self.notified: list[tuple[str, Notification]] = []
        self.subscribers: list[str] = []
        self.wait_for: WaitFor = "received"
        self.commit_seconds_max = 7 * 86400.0
        self.destinations_down: set[str] = set()
        self._build()

    def _build(self) -> None:
        home = self.home
        home.mkdir(exist_ok=True)
        config = self.config = _config(home, self.url, self.shape)
        engine = self._open_engine()
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _relax)
        # Many short lives compile the same statements: they share them.
        engine = engine.execution_options(
            compiled_cache=_STATEMENTS.setdefault(engine.dialect.name, LRUCache(2000))
        )
        self.catalog = TappedCatalog(engine, self.clock)
        self.catalog.fuse = self.fuse
        self.bell = Bell()
        opened = open_pools(config, self.catalog)
        self.library = cast(SimulatedLibrary, opened.libraries["library"])
        tapped = TappedLibrary(self.library, self.fuse)
        self.tapped = tapped
        library: Any = tapped if not self.handless else _handless(tapped)
        disks = {
            name: replace(pool, store=TappedStore(pool.store, self.fuse))
            for name, pool in opened.disks.items()
        }
        self.pools = Pools(disks, opened.tapes, {"library": cast(Library, library)})
        self.staging = Staging(config.staging.path, config.staging.size_max_bytes)
        self.reader = Reader(self.catalog, self.pools, self.staging)
        self.recall = Recall(self.catalog, self.staging, self.reader, self.bell)
        self.drives = Drives()
        self.custody = Custody(self.catalog, self.pools, self.drives, self.bell)
        self.operators = Operators(self.catalog, self.pools, self.custody, self.drives, self.bell, Manners())
        self.policies = Policies(
            self.catalog, self.pools, self.bell, home / "policies", self._load(self.policy_text)
        )
        self.migrate = Migrate(
            self.catalog, self.pools, self.staging, self.reader, self.recall, self.policies.goals_of
        )
        self.seal = Seal(self.catalog, self.pools.ingest, QUIET_SECONDS)
        self.ingest = Ingest(self.catalog, self.pools.ingest, config.dicom.same_uid)
        self.retrievals = Retrievals(self.catalog, self.reader, self.recall, self.staging, self.bell)
        self.deliveries = Deliveries(self.catalog, self.bell)
        self.volumes = Volumes(self.catalog, self.pools, self.custody, self.bell, self.policies.goals_of)
        self.scan = Scan(self.catalog, self.pools, self.custody, self.migrate, self.bell)
        self.repack = Repack(self.catalog, self.pools, self.bell, self.policies.goals_of)
        self.use = DriveUse(self.catalog, self.pools)
        self.commitments = Commitments(
            self.catalog,
            self.reader,
            self.bell,
            self.policies.goals_of,
            is_storage_class,
            partial(is_full, self.pools),
        )
        self.announcements = Announcements(
            self.catalog, self.bell, self.reader.steady_reach, lambda: self.subscribers
        )
        self.anchoring = Anchoring(self.catalog, self.pools, "HSM", timedelta(hours=6), home / "anchors.txt")
        self.scrubs = Scrubs(self.catalog, self.pools, self.bell)
        self.repairs = Repairs(self.catalog, self.pools, self.policies.goals_of, self.bell)
        self.session = DriveSession(
            self.catalog,
            self.pools,
            self.custody,
            self.volumes,
            self.use,
            self.recall,
            self.migrate,
            self.bell,
            self.anchoring,
            self.scrubs,
        )
        joined = {
            "catalog": self.catalog,
            "pools": self.pools,
            "staging": self.staging,
            "reader": self.reader,
            "drives": self.drives,
            "seal": self.seal,
            "migrate": self.migrate,
            "session": self.session,
            "deliver": self._deliver,
            "report": self._report,
            "bell": self.bell,
            "cold": ColdRecalls(self.catalog, self.pools, self.recall, self.bell),
            "notify": self._notify,
            "resting": tuple,
        }
        joints: Any = {each.name: joined[each.name] for each in fields(Joints)}
        self.workers = Workers(Joints(**joints), launch=self._inline)
        self._start()

    def _open_engine(self) -> Engine:
        return open_engine(self.url)

    def _start(self) -> None:
        with self.catalog.write() as session:
            queue.give_back_all_active(session, self.clock.now(), "start")
        self.custody.inventory()

    def _load(self, text: str) -> PolicySet:
        return load_texts({"test.yaml": text}, self.pools.infos)

    def _inline(self, _name: str, session: Callable[[], None]) -> None:
        session()

    def _deliver(self, order: Order, _stop: threading.Event) -> None:
        left = self.deliveries.order(order)
        if left.destination in self.destinations_down:
            raise Retryable(f"{left.destination} is down")
        who = f"delivery to {left.destination}"
        wait = Wait(self.retrievals.open(left.instances, who, Priority.ROUTINE, comes_back=True))
        try:
            got = wait.look()
            sent = list(got.files)
            self.delivered += [(left.destination, uid) for uid in sent]
        finally:
            wait.close()
        self.deliveries.delivered(order.pk, sent)
        if got.waiting:
            raise Retryable("waits for its recall")

    def _notify(self, order: Order, _stop: threading.Event) -> None:
        title = str(order.detail["ae"])
        for each in self.announcements.notifications(order):
            if title in self.destinations_down:
                raise Retryable(f"{title} is down")
            self.notified.append((title, each))
            self.announcements.sent(order, each)

    def _report(self, order: Order, _stop: threading.Event) -> None:
        result = self.commitments.result(order, self.wait_for, self.commit_seconds_max)
        if result.waits_for:
            raise Postponed(result.waits_for)
        if result.calling in self.destinations_down:
            raise Retryable(f"{result.calling} is down")
        self.reported.append(result)

    # What the world outside does.

    def store(
        self, study: int, count: int = 2, *, first: int = 1, size: int = 20_000, series: int = 1
    ) -> None:
        """Instances come in and are acknowledged."""
        for number in range(first, first + count):
            self.store_one(header(study, number, series), dataset(size, study * 1000 + series * 100 + number))

    def store_one(self, head: Header, data: bytes) -> StoreOutcome:
        outcome = self.ingest.store(head, EXPLICIT_LITTLE, data, "CT1")
        with self.catalog.read() as session:
            row = session.execute(
                select(Instance.digest)
                .where(Instance.uid == head.sop_instance_uid)
                .order_by(Instance.version.desc())
                .limit(1)
            ).scalar_one()
        self.acknowledged[head.sop_instance_uid] = row
        return outcome

    def retrieve(
        self, study: int, who: str = "C-MOVE from WS1", priority: Priority = Priority.ROUTINE
    ) -> Wait:
        """Open a retrieve of a study; the test looks at it and closes it."""
        return Wait(self.retrievals.open(self.instances(study), who, priority))

    def instances(self, study: int) -> list[InstanceRef]:
        with self.catalog.read() as session:
            return retrievable.select_instances(session, Selection(study_uids=(study_uid(study),)))

    def fault(self, operation: str, error: str, **more: Any) -> None:
        """Script a fault of the library."""
        self.library.faults.add(Fault(operation, error, **more))

    def heal(self) -> None:
        self.library.faults.clear()

    # What the daemon does.

    def steps(self) -> bool:
        """One step of each kind of worker; whether any found work."""
        busy = self.workers.disk_step()
        busy = self.workers.verify_step() or busy
        busy = self.workers.drive_step() or busy
        return self.workers.delivery_step() or busy

    def settle(self) -> None:
        """Run until nothing can go on at this time."""
        for _ in range(STEPS_MAX):
            rings = self.bell.rings
            if not self.steps() and self.bell.rings == rings:
                return
        raise AssertionError(f"never settles: {self.requests()}")

    def later(self, seconds: float = 700.0) -> None:
        """Let time pass, longer than any pause between attempts unless told, and run."""
        self.clock.advance(seconds)
        self.settle()

    def seal_all(self) -> None:
        """Every study has been quiet and is sealed."""
        self.clock.advance(QUIET_SECONDS)
        self.seal.enqueue_quiet()
        self.settle()

    def run_policies(self) -> dict[str, Any]:
        report = self.policies.run(None, dry_run=False, by="test")
        self.settle()
        return report

    def follow(self, rounds: int = 8) -> None:
        """Seal, and run the policies until they ask for nothing more."""
        self.seal_all()
        for _ in range(rounds):
            report = self.run_policies()
            self.later(4000)
            if not any(run["requests"] for run in report["runs"]):
                return

    def use_policies(self, text: str) -> None:
        self.policy_text = text
        self.policies.replace(self.home / "policies", self._load(text))

    def rebuild(self, **changes: Any) -> World:
        """The daemon of this world is dead; a new one starts on what it left."""
        self.catalog.engine.dispose()
        # A dead process does nothing any more, and its locks go with its descriptors.
        self.ingest._settling._owed.clear()
        for file in self.ingest._slots._made:
            file.keep()
        self.ingest._slots._made.clear()
        options: dict[str, Any] = {
            "policies": self.policy_text,
            "shape": self.shape,
            "acknowledged": self.acknowledged,
            "handless": self.handless,
        }
        return type(self)(self.home, self.url, self.clock, **(options | changes))

    def close(self) -> None:
        self.ingest.close()
        self.catalog.engine.dispose()

    # What is the case.

    def copies(self, study: int | None = None) -> dict[tuple[str, str], str]:
        """(package key's end, volume) -> state, of all copies."""
        query = select(Package.key, Volume.name, Copy.state).select_from(Copy)
        query = query.join(Package, Package.pk == Copy.package_pk).join(Volume, Volume.pk == Copy.volume_pk)
        if study is not None:
            query = query.join(Study, Study.pk == Package.study_pk).where(Study.uid == study_uid(study))
        with self.catalog.read() as session:
            return {(_short(key), name): state for key, name, state in session.execute(query)}

    def on_tape(self, study: int) -> list[str]:
        """Barcodes of cartridges with a verified copy of the study."""
        return sorted(
            volume
            for (_, volume), state in self.copies(study).items()
            if volume not in self.pools.disks and state == "verified"
        )

    def requests(self, **where: Any) -> list[Request]:
        query = select(Request).order_by(Request.pk)
        for name, value in where.items():
            query = query.where(getattr(Request, name) == value)
        with self.catalog.read() as session:
            found = list(session.scalars(query))
            session.expunge_all()
        return found

    def volume(self, barcode: str) -> Volume:
        with self.catalog.read() as session:
            found = session.scalars(select(Volume).where(Volume.name == barcode)).one()
            session.expunge_all()
        return found

    def prompts(self) -> list[str]:
        """Barcodes that an operator is asked for."""
        with self.catalog.read() as session:
            return sorted(
                session.scalars(
                    select(Volume.name)
                    .join(MountRequest, MountRequest.volume_pk == Volume.pk)
                    .where(MountRequest.state == "open")
                )
            )

    def history(self, subject: str) -> list[tuple[str, dict[str, Any]]]:
        with self.catalog.read() as session:
            return [(entry.verb, dict(entry.detail)) for entry in journal.history(session, subject)]

    def online_file(self, study: int, number: int, series: int = 1) -> Path:
        head = header(study, number, series)
        return self.home / "online" / instance_path(head.study_uid, head.series_uid, head.sop_instance_uid, 0)

    def tar_of(self, study: int, number: int = 1) -> str:
        """The locator of a package in a `packages` layout."""
        with self.catalog.read() as session:
            return session.scalars(
                select(Copy.locator)
                .join(Package, Package.pk == Copy.package_pk)
                .join(Study, Study.pk == Package.study_pk)
                .where(Study.uid == study_uid(study), Package.number == number, Copy.locator.like("%.tar"))
                .limit(1)
            ).one()

    def now(self) -> datetime:
        return self.clock.now()

    def check(self) -> None:
        """What must hold at any moment between two steps."""
        with self.catalog.read() as session:
            assert [str(problem) for problem in chaincheck.verify(session)] == []
            assert check.check(session) == []
            active = list(session.scalars(select(Request.key).where(Request.state == "active")))
        assert active == [], "active, and nobody works on it"

    def assert_readable(self, study: int) -> None:
        """The study comes back whole, byte for byte."""
        wait = self.retrieve(study)
        try:
            for _ in range(6):
                self.settle()
                got = wait.look()
                if not got.waiting:
                    break
                self.clock.advance(700)
            wanted = {
                uid: digest
                for uid, digest in self.acknowledged.items()
                if uid.startswith(study_uid(study) + ".")
            }
            assert got.lost == {}
            assert {uid: hashlib.sha256(data).digest() for uid, data in got.files.items()} == wanted
        finally:
            wait.close()


def _short(key: str) -> str:
    """``7.p0001`` of a package's key: study number and package number."""
    return key.removeprefix(f"{ROOT}.").removesuffix(".tar")


def _relax(connection: Any, _record: Any) -> None:
    """As :func:`tests.sim.conftest._no_fsync`."""
    connection.execute("PRAGMA synchronous = OFF")


def _handless(tapped: TappedLibrary) -> Any:
    from tests.sim.taps import Handless

    return Handless(tapped)


def _config(home: Path, url: str, shape: Shape) -> Config:
    def disk(name: str, tier: str, layout: str) -> dict[str, Any]:
        options = {"path": str(home / name)}
        return {"name": name, "tier": tier, "layout": layout, "options": options, **shape.disk}

    return Config.model_validate(
        {
            "home": home,
            "source": home / "hsm.yaml",
            "catalog": {"url": url},
            "dicom": {"same_uid": shape.same_uid},
            "pools": [
                disk("online", "online", "files"),
                disk("nearline", "nearline", "packages"),
                {"name": "tape", "tier": "offline", "library": "library", **shape.tape},
                *shape.pools,
            ],
            "libraries": [
                {
                    "name": "library",
                    "driver": "simulated",
                    "options": {
                        "folder": str(home / "library"),
                        "slots": shape.slots,
                        "mail_slots": shape.mail_slots,
                        "drives": shape.drives,
                        "cartridges": shape.cartridges,
                        "capacity_bytes": shape.capacity_bytes,
                        "time_factor": 0,
                    },
                    **(shape.library(home) if shape.library else {}),
                }
            ],
            "staging": {"path": str(home / "staging"), "size_max_bytes": shape.staging_bytes},
            "policies": str(home / "policies"),
            "api": {"socket": "/tmp/unused.sock"},
        }
    )


Studies = Sequence[int]
