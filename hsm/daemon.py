"""The daemon: the only place that builds things and joins them."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from hsm import log as logs
from hsm.anchoring import Anchoring
from hsm.announce import Announcements
from hsm.api.control import ControlApi
from hsm.api.services import Services
from hsm.audit import Audit
from hsm.audit.nightly import Nightly
from hsm.catalog import history, instances, journal, queue, queuelooks, restored
from hsm.catalog.access import AccessLog, Note
from hsm.catalog.history import Recorder
from hsm.catalog.views import PoolFact
from hsm.clock import Clock, FastClock, unhurried
from hsm.clockwatch import ClockWatch
from hsm.coldrecall import ColdRecalls
from hsm.commitment import Commitments
from hsm.config import Config, accepting, differences_needing_restart, kept_dicom, load
from hsm.custody import Custody, Drives
from hsm.delivery import Deliveries
from hsm.deliverylog import DeliveryLog
from hsm.dicom.availability import Announcer
from hsm.dicom.commit import Reporter
from hsm.dicom.contexts import is_storage_class
from hsm.dicom.deliver import Deliverer
from hsm.dicom.find import Queried, handle_find
from hsm.dicom.header import read_header
from hsm.dicom.lookup import CatalogSelect
from hsm.dicom.outbound import Outbound
from hsm.dicom.server import DicomServer
from hsm.drain import Drains
from hsm.driveuse import DriveUse
from hsm.errors import ConfigError, DriverError, HsmError
from hsm.eta import Etas
from hsm.export.jobs import Exports
from hsm.fullness import is_full
from hsm.ingest import Ingest
from hsm.markingtapes import MarkingTapes
from hsm.mediawatch import MediaWatch
from hsm.migrate import Migrate
from hsm.model import Layout
from hsm.opening import open_pools
from hsm.operators import Damage, Manners, Movements, Operators, Reminders
from hsm.operators.damage import compose_backup
from hsm.policyrun import Policies
from hsm.poolbackup import Failing, Plan, PoolBackups
from hsm.pooldesk import PoolDesk
from hsm.poolwatch import PoolWatch
from hsm.prefetch import Prefetches
from hsm.queueacts import QueueActs
from hsm.reader import Reader
from hsm.rebuild import Drills
from hsm.recall import Recall
from hsm.recalldesk import RecallDesk
from hsm.receivers import Receivers
from hsm.recovery import missing_files, recover
from hsm.refusals import Refusals
from hsm.repack import Repack
from hsm.repair import Repairs
from hsm.retrieval import Retrievals
from hsm.roleswatch import RolesWatch
from hsm.scan import Scan
from hsm.schedule import Scheduler
from hsm.scrub import Scrubs
from hsm.seal import Seal
from hsm.sessions import DriveSession
from hsm.staging import Staging
from hsm.startup import lock_home, open_catalog
from hsm.trail import Trail
from hsm.trash import Trash
from hsm.volumes import Volumes
from hsm.wake import Bell
from hsm.workers import Joints, Workers
from policies import PolicySet, Schedule

log = logs.get_logger(__name__)

REMIND_SECONDS = 15.0
"""Between two looks at prompts that nobody has answered."""
WATCH_SECONDS = 30.0
"""Between two looks at what policies have asked for: failures, windows, what other nodes activated."""
ANNOUNCE_SECONDS = 5.0
"""Between two looks at what peers are to be told of availability."""
REPACK_SECONDS = 30.0
"""Between two looks at cartridges that are repacked."""
SCRUB_SECONDS = 60.0
"""Between two looks for copies that were last read back long ago."""
DAMAGE_SECONDS = 60.0
"""Between two tries to tell people of damaged copies."""
REPAIR_SECONDS = 15.0
"""Between two looks at damaged copies."""
HISTORY_SECONDS = 10.0
"""Between two times that noted accesses are written."""
UPKEEP_SECONDS = 3600.0
"""Between two looks for accesses that are old enough to be counted by day, or forgotten."""
ANCHOR_SECONDS = 60.0
MARK_TAPES_SECONDS = 600.0
"""Between two looks whether pools and the file outside are due for an anchor, and the summary for a mail."""
SETTLE_SECONDS = 10.0
"""Between two tries to write down what the catalog could not take."""
STOP_GRACE_SECONDS = 20.0
QUERY_BYTES_MAX = 4096
"""A longer identifier is not kept."""
ACTOR = "hsm"


class Daemon:
    """One archive in one process: built, started, reloaded and stopped as a whole."""

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock) -> None:
        self.config = config
        self._environ = environ
        self._clock = clock
        self._started_at: datetime | None = None
        self._missing: list[str] = []
        self._serves = False
        self._lock = lock_home(config.home)
        self._reloading = threading.Lock()
        try:
            self._build()
        except BaseException:
            if hasattr(self, "catalog"):
                self.catalog.close()
            os.close(self._lock)
            raise

    def _build(self) -> None:
        config, clock = self.config, self._clock
        self.bell = Bell(clock.machine_seconds) if isinstance(clock, FastClock) else Bell()
        self.catalog = open_catalog(config, clock)
        pools = self.pools = open_pools(config, self.catalog)
        self.refusals = Refusals(self.catalog, clock)
        self.poolwatch = PoolWatch(self.catalog, pools, self.bell)
        self.policies = Policies(
            self.catalog,
            pools,
            self.bell,
            config.policies,
            PolicySet(),
            worker=f"{socket.gethostname()}:{config.home}",
        )
        self._begin_policies(config)
        self.history = Recorder(self.catalog)
        self.accesses = AccessLog(self.catalog)
        version = importlib.metadata.version("hsm-archive")
        self.trail = Trail(self.catalog, config.audit, config.archive.ae_title, config.home, version)
        self._build_verbs()
        self._build_dicom()
        self.scheduler = Scheduler(self._clock)
        self.policies.on_change = lambda: self._schedule(self.config)
        self.audit = self._audit()
        self.nightly = Nightly(self.catalog, self.audit, self._problems, config.archive.ae_title)
        self.api = ControlApi(self._services(), config.api, clock, self.refusals.note, self.accesses.note)
        self.roles_watch = RolesWatch(self.catalog, f"{socket.gethostname()}:{config.home}")

    def _build_verbs(self) -> None:
        """What is done with instances, copies and volumes, and who does it."""
        config, catalog, pools, bell = self.config, self.catalog, self.pools, self.bell
        goals_of = self.policies.goals_of
        staging = Staging(
            config.staging.path, config.staging.size_max_bytes, config.staging.free_min_bytes, self._clock
        )
        reader = Reader(catalog, pools, staging)
        recall = self.recall = Recall(catalog, staging, reader, bell)
        anchors = config.audit.anchors
        self.anchoring = Anchoring(
            catalog, pools, config.archive.ae_title, timedelta(seconds=anchors.every), anchors.file
        )
        drives = Drives()
        self.custody = Custody(catalog, pools, drives, bell)
        manners = Manners.of(config.operator, config.dicom.retrieve.hold_seconds_max)
        self.operators = Operators(catalog, pools, self.custody, drives, bell, manners)
        self.movements = Movements(catalog, pools, self.custody, bell)
        self.reminders = Reminders(catalog, self.operators, config.operator, config.archive.ae_title, bell)
        migrate = Migrate(catalog, pools, staging, reader, recall, goals_of)
        self.scrubs = Scrubs(catalog, pools, bell)
        self.damage = Damage(
            config.operator,
            config.archive.ae_title,
            self._clock,
            catalog=catalog,
            node=f"{socket.gethostname()}:{config.home}",
        )
        self.repairs = Repairs(catalog, pools, goals_of, bell, self.damage.tell)
        self.drains = Drains(catalog, pools, goals_of, bell)
        self.pool_desk = PoolDesk(config, catalog, pools, self.drains)
        self.volumes = Volumes(catalog, pools, self.custody, bell, goals_of)
        self.scan = Scan(catalog, pools, self.custody, migrate, bell)
        self.repack = Repack(catalog, pools, bell, goals_of)
        asked = config.catalog.backup
        self.backups = PoolBackups(
            catalog,
            pools,
            self.custody,
            self.volumes.label_in,
            config.home,
            Plan(asked.pool, timedelta(seconds=asked.every), asked.keep) if asked is not None else None,
            self._tell_backup,
        )
        late = timedelta(seconds=config.audit.anchors.every)
        self.marking_tapes = MarkingTapes(catalog, pools, self.custody, self.anchoring, late)
        self.drills = Drills(catalog, pools, self.custody, read_header, config.home)
        off_after = {each.name: each.drive_off_after for each in config.libraries}
        self.drive_use = DriveUse(catalog, pools, off_after)
        self.media_watch = MediaWatch(catalog, pools)
        self.clock_watch = ClockWatch(catalog)
        self.seal = Seal(catalog, pools.ingest, config.seal.quiet_seconds, config.seal.package_bytes_max)
        self.ingest = Ingest(catalog, pools.ingest, config.dicom.same_uid, config.deletion.trash)
        self.trash = Trash(catalog, staging, bell, config.deletion)
        self.prefetches = Prefetches(catalog, recall)
        self._build_peers(staging, reader, recall)
        self._build_workers(staging, reader, recall, migrate, drives)
        self.etas = Etas(catalog, self.workers.planning)
        self.retrievals.forecast = self.etas.waiting_for

    def _build_peers(self, staging: Staging, reader: Reader, recall: Recall) -> None:
        """What peers are sent and told, now and later."""
        config, catalog, pools, bell = self.config, self.catalog, self.pools, self.bell
        noted = self.accesses if config.audit.retrieves else None
        self.retrievals = Retrievals(catalog, reader, recall, staging, bell, self.history, pools.tiers, noted)
        title, folder = config.archive.ae_title, config.staging.path.parent / "exports"
        self.exports = Exports(catalog, self.retrievals, title, folder)
        self.deliveries = Deliveries(catalog, bell, DeliveryLog(config.staging.path.parent / "deliveries"))
        outbound = self.outbound = Outbound(self._clock)
        self.deliverer = Deliverer(
            config.dicom, title, self._clock, self.retrievals, self.deliveries, outbound
        )
        full = partial(is_full, pools)
        self.commitments = Commitments(catalog, reader, bell, self.policies.goals_of, is_storage_class, full)
        self.reporter = Reporter(config.dicom, title, self._clock, self.commitments, outbound)
        self.announcer = Announcer(config.dicom, title, outbound)
        self.announcements = Announcements(catalog, bell, reader.steady_reach, self.announcer.subscribers)

    def _build_workers(
        self, staging: Staging, reader: Reader, recall: Recall, migrate: Migrate, drives: Drives
    ) -> None:
        """The threads, and what they do."""
        config, catalog, pools, bell = self.config, self.catalog, self.pools, self.bell
        self.workers = Workers(
            Joints(
                catalog,
                pools,
                staging,
                reader,
                drives,
                self.seal,
                migrate,
                DriveSession(
                    catalog,
                    pools,
                    self.custody,
                    self.volumes,
                    self.drive_use,
                    recall,
                    migrate,
                    bell,
                    self.anchoring,
                    self.scrubs,
                ),
                self.deliverer,
                self.reporter,
                bell,
                ColdRecalls(catalog, pools, recall, bell),
                partial(self.announcer, self.announcements),
                self.outbound.resting,
            ),
            reserved={each.name: each.drives_reserved_for_recall for each in config.libraries},
        )

    def _build_dicom(self) -> None:
        config = self.config
        find = partial(
            handle_find,
            catalog=self.catalog,
            ae_title=config.archive.ae_title,
            reach=self.retrievals.reader.reach,
            found=self.history.found,
            queried=self._note_query if config.audit.notes_queries else None,
        )
        self.dicom = DicomServer(
            config.dicom,
            config.archive.ae_title,
            self.ingest,
            CatalogSelect(self.catalog),
            find,
            self.retrievals,
            self.deliveries,
            self.commitments,
            self._clock,
            self.outbound,
            self.refusals.note,
        )
        self.receivers = Receivers(config, self.dicom, self._environ, unhurried(self._clock))

    def _begin_policies(self, config: Config) -> None:
        """What was in force goes on to be; on a new archive the folder's policies come into force."""
        versions = self.policies.versions
        versions.default = Schedule(every_seconds=config.schedule.policies_seconds)
        number, loaded = versions.begin(ACTOR)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        self.policies.replace(config.policies, loaded, number)

    def _services(self) -> Services:
        return Services(
            catalog=self.catalog,
            pools=self._pool_facts,
            reach=self.retrievals.reader.reach,
            custody=self.custody,
            prefetches=self.prefetches,
            trash=self.trash,
            recall=RecallDesk(self.catalog, self.recall, self.etas),
            policies=self.policies,
            queue=QueueActs(self.catalog, self.bell),
            volumes=self.volumes,
            drives=self.drive_use,
            repack=self.repack,
            scan=self.scan,
            daemon=self,
            exports=self.exports,
            storage=self.pool_desk,
            backups=self.backups,
            drills=self.drills,
            operators=self.operators,
            movements=self.movements,
            audit=self.audit,
            turns=self.workers.planning.turns,
        )

    def _audit(self) -> Audit:
        config = self.config
        file = config.audit.file.path if config.audit.file is not None else None
        title = config.archive.ae_title
        return Audit(self.catalog, self.pools, self.policies, self.custody, title, self.bell, file)

    def start(self) -> None:
        """Take over what the last daemon left, then serve.

        :raises ConfigError: a port or socket is taken, or the catalog does not answer.
        """
        self._started_at = self._clock.now()
        try:
            with self.catalog.write() as session:
                left = queue.give_back_all_active(session, self._clock.now(), ACTOR)
        except SQLAlchemyError as error:
            raise ConfigError(f"catalog: {getattr(error, 'orig', error)}") from error
        if left:
            log.info("%d requests of the last daemon are queued again", left)
        self.deliveries.begin_again()
        self.announcements.round()  # what happens from now on is told
        self._recover()
        self.ingest.start()
        self._inventory()
        self.poolwatch.start()
        self.workers.start()
        self.refusals.start()
        try:
            self.receivers.start()
        except OSError as error:
            where = " or ".join(f"{door.listen} port {door.port}" for door in self.config.dicom.doors)
            raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
        self._schedule(self.config)
        self.scheduler.start()
        self.trail.start()
        self._note_life("started")
        self._watch_roles()
        self.api.start()

    def stop(self) -> None:
        """Finish or hand back what is in flight, and leave every volume with its index written.

        Also after a start that failed in mid-way. Nobody new comes in first; the workers stop after the
        associations, which may wait for them; the lock goes last. A step that fails does not keep the
        others from being done.
        """
        with contextlib.ExitStack() as last_first:
            last_first.callback(os.close, self._lock)
            last_first.callback(self.catalog.close)
            last_first.callback(self.trail.stop)
            last_first.callback(self._note_life, "stopped")
            last_first.callback(self._write_history)
            last_first.callback(self.custody.unmount_all)
            last_first.callback(self.workers.stop)
            last_first.callback(self.poolwatch.stop)
            last_first.callback(self.exports.stop, STOP_GRACE_SECONDS)
            last_first.callback(self.ingest.close)
            last_first.callback(self.refusals.stop)
            last_first.callback(self.receivers.stop, STOP_GRACE_SECONDS)
            last_first.callback(self.scheduler.stop)
            last_first.callback(self.api.stop)

    def reload(self) -> dict[str, Any]:
        """Read configuration and policies again and take over what can be changed while running.

        :raises ConfigError: something in them is wrong; everything stays as it was.
        """
        with self._reloading:
            new = load(self.config.source, self._environ)
            later = differences_needing_restart(self.config, new)
            new = new.model_copy(update={"dicom": kept_dicom(self.config.dicom, new.dicom)})
            for door in new.dicom.doors:
                if door.tls is not None:
                    accepting(door.tls)
            self.api.check(new.api)
            self._reload_policies(new)
            self.receivers.reload(new)
            self.deliverer.reload(new.dicom)
            self.reporter.reload(new.dicom)
            self.announcer.reload(new.dicom)
            self.trash.config = new.deletion
            self.reminders.config = self.damage.config = new.operator
            self.operators.manners = Manners.of(new.operator, new.dicom.retrieve.hold_seconds_max)
            self.seal.quiet_seconds = new.seal.quiet_seconds
            self.seal.package_bytes_max = new.seal.package_bytes_max
            self.ingest.same_uid = new.dicom.same_uid
            self.ingest.trash_seconds = new.deletion.trash
            logs.set_level(new.log.level)
            self._schedule(new)
            # What needs a restart stays as it is, so that the next reload names it again.
            old = self.config
            kept: dict[str, Any] = {name: getattr(old, name) for name in _FIXED}
            kept["api"] = self.api.reload(new.api)
            kept["audit"] = old.audit.model_copy(update={"summary": new.audit.summary})
            kept["log"] = new.log.model_copy(update={"format": old.log.format})
            self.config = new.model_copy(update=kept)
            self._watch_roles()
        for text in later:
            log.warning("in force only after a restart: %s", text)
        count = len(self.policies.set.policies)
        log.info("configuration and %d policies are in force", count)
        return {"policies": count, "needs_restart": later}

    def _reload_policies(self, new: Config) -> None:
        """Look at the folder again. What is in force stays in force until somebody activates the folder's
        policies; only where nothing was ever activated they come into force now.

        :raises ConfigError: something in the folder is wrong.
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

    def status(self) -> dict[str, Any]:
        """What listens where, and what is wrong just now."""
        config = self.config
        return {
            "version": importlib.metadata.version("hsm-archive"),
            "started_at": self._started_at,
            "pid": os.getpid(),
            "home": str(config.home),
            "config": str(config.source),
            "associations": self.receivers.associations,
            "receivers": self.receivers.facts(),
            "listen": {
                "ae_title": config.archive.ae_title,
                **self._doors(),
                "api": str(config.api.socket),
                "api_tls": self.api.address,
            },
            "drives": self._drive_facts(),
            "problems": self._problems(),
        }

    def _doors(self) -> dict[str, Any]:
        """The DICOM listeners; the first without TLS and the first with it by themselves."""
        ports = self.receivers.ports
        doors = [
            {
                "name": door.name,
                "address": f"{door.listen}:{ports.get(door.name, door.port)}",
                "tls": door.tls is not None,
                "may": sorted(door.may),
            }
            for door in self.config.dicom.doors
        ]
        plain = next((door["address"] for door in doors if not door["tls"]), None)
        tls = next((door["address"] for door in doors if door["tls"]), None)
        return {"dicom": plain or tls, "dicom_tls": tls, "doors": doors}

    def _pool_facts(self) -> list[PoolFact]:
        disks = {p.name: PoolFact(p.name, p.tier, p.layout.value) for p in self.pools.disks.values()}
        return list(disks.values()) + [
            PoolFact(p.name, p.tier, Layout.PACKAGES.value, p.library, p.scratch, p.scratch_low)
            for p in self.pools.tapes.values()
        ]

    def _drive_facts(self) -> list[dict[str, Any]]:
        found = []
        off = self.drive_use.out_of_service()
        for name, library in self.pools.libraries.items():
            try:
                found += [
                    {
                        "library": name,
                        "drive": drive.address,
                        "barcode": drive.barcode,
                        "in_service": (name, drive.address) not in off,
                    }
                    for drive in library.inventory().drives()
                ]
            except DriverError as error:
                log.warning("library %s: %s", name, error)
        return found

    def _recover(self) -> None:
        """Look at what a crash left in the online pool, before anybody stores or seals."""
        service = self.pools.ingest.service
        if service is not None and not service.opened:
            log.error("pool %s is out of service: %s", self.pools.ingest.name, service.condition.reason)
            service.on_open = self._recover_later
            return
        try:
            recover(self.pools.ingest, self.ingest, read_header)
        except (DriverError, HsmError) as error:
            log.error(
                "what was being received when the last daemon ended stays for the next start: %s", error
            )
        self._missing = missing_files(self.catalog, self.pools.ingest)

    def _recover_later(self) -> None:
        """The ingest pool was away when the daemon started, and is there now."""
        try:
            self._recover()
        except Exception:  # the probe's thread has nobody to tell
            log.exception("recovery of %s: unexpected", self.pools.ingest.name)

    def _problems(self) -> list[str]:
        problems = self.pools.problems()
        with self.catalog.read() as session:
            failed = queuelooks.failed_total(session)
            damaged = instances.damaged_unsealed(session)
            if restored.is_owed(session):
                problems.append(f"nothing is sealed, copied, released or labelled: {restored.OWED}")
        if self._missing:
            problems.append(
                f"{len(self._missing)} unsealed instances had no file at start, first {self._missing[0]}: "
                "send them again, or restore the file system"
            )
        if damaged:
            problems.append(
                f"{len(damaged)} instances in no package yet are damaged on {self.pools.ingest.name}, first "
                f"{damaged[0]}: send them again, or restore the file system"
            )
        problems += self.repairs.problems()
        problems += self.damage.problems()
        problems += self.trash.problems()
        problems += self.scrubs.problems()
        problems += self.media_watch.problems()
        problems += self.reminders.problems()
        problems += self.policies.problems()
        problems += self.anchoring.problems()
        problems += self.backups.problems()
        problems += self.trail.problems()
        problems += self.nightly.problems()
        problems += self.dicom.problems()
        problems += self.api.problems(self._clock.now())
        if failed:
            problems.append(f"{failed} requests have failed: hsm queue ls --state failed")
        return problems

    def _schedule(self, config: Config) -> None:
        """(Re)place the periodic routines; one that is gone is removed."""
        wanted: dict[str, tuple[Schedule, Callable[[], object]]] = {
            "seal": (Schedule(every_seconds=config.schedule.seal_seconds), self._seal_round),
            "inventory": (Schedule(every_seconds=config.schedule.inventory_seconds), self._inventory),
            "deliveries": (Schedule(every_seconds=SETTLE_SECONDS), self.deliveries.settle),
        }
        wanted["reminders"] = (Schedule(every_seconds=REMIND_SECONDS), self.reminders.round)
        wanted["clock"] = (Schedule(every_seconds=WATCH_SECONDS), self._clock_round)
        wanted["prefetches"] = (Schedule(every_seconds=WATCH_SECONDS), self.prefetches.round)
        wanted["drains"] = (Schedule(every_seconds=WATCH_SECONDS), self.drains.round)
        wanted["announcements"] = (Schedule(every_seconds=ANNOUNCE_SECONDS), self.announcements.round)
        wanted["scrub"] = (Schedule(every_seconds=SCRUB_SECONDS), self.scrubs.round)
        wanted["damage"] = (Schedule(every_seconds=DAMAGE_SECONDS), self.damage.round)
        wanted["repairs"] = (Schedule(every_seconds=REPAIR_SECONDS), self.repairs.round)
        wanted["repack"] = (Schedule(every_seconds=REPACK_SECONDS), self.repack.round)
        wanted["trash"] = (Schedule(every_seconds=WATCH_SECONDS), self.trash.round)
        wanted["history"] = (Schedule(every_seconds=HISTORY_SECONDS), self._write_history)
        wanted["history upkeep"] = (Schedule(every_seconds=UPKEEP_SECONDS), self._keep_history_small)
        wanted["summary"] = (Schedule(every_seconds=ANCHOR_SECONDS), self._summarise)
        wanted["roles"] = (Schedule(every_seconds=ANCHOR_SECONDS), self._watch_roles)
        wanted["anchors"] = (Schedule(every_seconds=ANCHOR_SECONDS), self.anchoring.round)
        wanted["marks on tape"] = (Schedule(every_seconds=MARK_TAPES_SECONDS), self.marking_tapes.round)
        wanted["catalog backup"] = (Schedule(every_seconds=WATCH_SECONDS), self.backups.round)
        wanted["policy watch"] = (Schedule(every_seconds=WATCH_SECONDS), self._watch_policies)
        for policy in self.policies.set.policies:
            name = policy.name
            wanted[f"policy {name}"] = (policy.schedule, partial(self._policy_round, name))
        self.scheduler.replace(wanted)

    def _seal_round(self) -> None:
        if self.seal.enqueue_quiet():
            self.bell.ring()

    def _clock_round(self) -> None:
        if self.clock_watch.round():
            self.policies.watch()  # what waits for a window of its policy waits for that one again
            self.bell.ring()

    def _summarise(self) -> None:
        self.nightly.round(self.config.audit.summary, self.config.operator.channels)

    def _tell_backup(self, told: Failing) -> None:
        name = self.config.archive.ae_title
        message = compose_backup(told.pool, told.why, told.last, told.now, name)
        self.damage.say(message, urgent=bool(told.why))

    def _watch_roles(self) -> None:
        """Who may do what, put on record where it changed."""
        try:
            self.roles_watch.round(self.config.api, self.api.doors.tokens)
        except SQLAlchemyError as error:
            log.warning("changed roles wait to be journalled: %s", getattr(error, "orig", error))

    def _note_query(self, asked: Queried) -> None:
        detail: dict[str, Any] = {
            "sop_class": asked.sop_class,
            "level": asked.level,
            "keys": list(asked.keys),
        }
        detail |= {"matches": asked.matches, "transfer_syntax": asked.transfer_syntax}
        if self.config.audit.patient_data and len(asked.identifier) <= QUERY_BYTES_MAX:
            detail["identifier"] = base64.b64encode(asked.identifier).decode()
        self.accesses.note(Note(self._clock.now(), f"ae:{asked.ae}", "queried", "query", asked.level, detail))

    def _note_life(self, verb: str) -> None:
        """That the archive's daemon comes or goes; only one that served goes."""
        if verb == "stopped" and not self._serves:
            return
        self._serves = verb == "started"
        title, detail = self.config.archive.ae_title, {"host": socket.gethostname(), "process": os.getpid()}
        try:
            with self.catalog.write() as session:
                journal.append(session, self._clock.now(), ACTOR, verb, "archive", title, detail)
        except SQLAlchemyError as error:
            log.warning(
                "the journal does not know that the daemon %s: %s", verb, getattr(error, "orig", error)
            )

    def _write_history(self) -> None:
        try:
            self.history.flush()
            self.accesses.flush()
        except SQLAlchemyError as error:
            log.warning("the access history waits: %s", getattr(error, "orig", error))

    def _keep_history_small(self) -> None:
        now, keep = self._clock.now(), self.config.history
        history.compact(self.catalog, now - timedelta(seconds=keep.detail_seconds))
        history.forget(self.catalog, now - timedelta(seconds=keep.keep_seconds))

    def _policy_round(self, name: str) -> None:
        policy = next((each for each in self.policies.set.policies if each.name == name), None)
        if policy is not None and policy.schedule.is_open(self._clock.now()):
            self.policies.run(name, dry_run=False, by="schedule")

    def _watch_policies(self) -> None:
        self.policies.follow()
        self.policies.watch()

    def _inventory(self) -> None:
        """A library that does not answer is a problem of its own, not of the archive."""
        for name in self.pools.libraries:
            try:
                self.custody.inventory(name)
            except (DriverError, HsmError) as error:
                log.error("library %s: %s", name, error)
        self.media_watch.look()


_FIXED = ("archive", "catalog", "pools", "libraries", "staging", "clock", "home")
