"""What the command line does with all media and without a daemon: make a catalog from them, or compare.

Each function returns a :class:`~hsm.offline.Report` and raises nothing that a mistake in a file or a broken
medium can cause. Drives and folders are used as the daemon would: it must be stopped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from drivers.base import VolumeLabel
from hsm import config
from hsm.backupsource import BackupAt as BackupAt
from hsm.backupsource import fetch_from_pool
from hsm.catalog import backup, rebuilding, restored, upgrade
from hsm.catalog.engine import Catalog, OneWriter, open_engine
from hsm.catalog.media import VolumeRef
from hsm.claims import Drives
from hsm.clock import SystemClock
from hsm.custody import Custody
from hsm.dicom.header import read_header
from hsm.errors import DriverError, HsmError, NotFound, Refused
from hsm.offline import Report, at_rest, backup_facts
from hsm.opening import open_pools
from hsm.poolbackup import PoolBackups
from hsm.pools import Pools
from hsm.rebuild import Drills, MediaCheck, Progress, Rebuild, Standing
from hsm.rebuild import Report as Found
from hsm.rebuild.values import UNKNOWABLE
from hsm.startup import lock_home
from hsm.wake import Bell

SHOWN_MAX = 20
"""Of each sort of trouble, how many sentences."""

PAUSE_SECONDS = 1.0
"""Between two looks for what is cold, at least."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read, and how."""

    names: tuple[str, ...] = ()
    """Pools and volumes; none is all."""
    verify: bool = False
    into: str = ""
    """Another database than the configured one."""
    by: str = "rebuild"
    with_deleted: bool = False
    """Bring back what media say was deleted."""
    wait_seconds: float = 0.0
    """Up to how long what is cold is waited for."""
    drives_max: int | None = None
    """As many cartridges are read at the same time; None: as there are drives."""


def rebuild_catalog(
    config_path: Path | None,
    environ: Mapping[str, str],
    wanted: Wanted,
    tell: Tell,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Make a catalog from what lies on the media. Killed and run again, it goes on.

    Refused while a daemon answers, and where the catalog holds anything that no rebuild has put there.
    """

    def first(catalog: Catalog) -> None:
        with catalog.write() as session:
            if not rebuilding.require_empty(session):
                rebuilding.begin(session, catalog.clock.now(), wanted.by, wanted.names or ["everything"])

    def act(_config: config.Config, catalog: Catalog, pools: Pools, custody: Custody) -> Found:
        work = Rebuild(
            catalog,
            pools,
            custody,
            read_header,
            verify=wanted.verify,
            with_deleted=wanted.with_deleted,
            drives_max=wanted.drives_max,
            tell=lambda standing: tell(sentence(standing)),
            actor=wanted.by,
        )
        return _thawed(work, wanted, tell, sleep)

    return _with_media(config_path, environ, wanted.into, first, act, _rebuilt)


def _thawed(work: Rebuild, wanted: Wanted, tell: Tell, sleep: Callable[[float], None]) -> Found:
    """What lies on the media, and what is cold once it is there, as long as that is waited for."""
    found, left = work.run(wanted.names), wanted.wait_seconds
    while left > 0 and (cold := [each for each in found.volumes if each.waiting]):
        pause = min(max(PAUSE_SECONDS, *(each.ask_again_seconds for each in cold)), left)
        names = ", ".join(each.volume for each in cold)
        tell(f"{names}: {sum(len(each.waiting) for each in cold)} cold objects are on their way")
        sleep(pause)
        left -= pause
        again = work.run([each.volume for each in cold])
        fresh = {each.volume: each for each in again.volumes}
        again.differs = list(dict.fromkeys([*found.differs, *again.differs]))
        again.volumes = [fresh.get(each.volume, each) for each in found.volumes]
        found = again
    return found


def compare_with_media(
    config_path: Path | None,
    environ: Mapping[str, str],
    wanted: Wanted,
    without: Sequence[str],
    tell: Tell,
) -> Report:
    """Compare the catalog with what lies on the media, and take in what it has forgotten. Killed and run
    again, it goes on.

    :param without: volumes that nobody can bring.
    """

    def act(_config: config.Config, catalog: Catalog, pools: Pools, custody: Custody) -> Found:
        work = MediaCheck(
            catalog,
            pools,
            custody,
            read_header,
            verify=wanted.verify,
            drives_max=wanted.drives_max,
            tell=lambda standing: tell(sentence(standing)),
            actor=wanted.by,
        )
        work.begin(wanted.names)
        work.without(without)
        return work.run(wanted.names)

    return _with_media(config_path, environ, wanted.into, _nothing, act, _compared)


def backup_into_pool(
    config_path: Path | None, environ: Mapping[str, str], pool: str, keep: int, by: str
) -> Report:
    """Write a backup of the catalog into a pool and read it back, where no daemon could."""

    def act(found: config.Config, catalog: Catalog, pools: Pools, custody: Custody) -> dict[str, Any]:
        return PoolBackups(catalog, pools, custody, _no_label, found.home).write(pool, by, keep)

    return _with_media(config_path, environ, "", _nothing, act, _told)


def drill(config_path: Path | None, environ: Mapping[str, str], sample: int, pool: str, by: str) -> Report:
    """Try a rebuild with some volumes, where no daemon could."""

    def act(found: config.Config, catalog: Catalog, pools: Pools, custody: Custody) -> dict[str, Any]:
        return Drills(catalog, pools, custody, read_header, found.home).drill(sample, pool, by)

    return _with_media(config_path, environ, "", _nothing, act, _told)


def restore_from_pool(
    config_path: Path | None, environ: Mapping[str, str], source: BackupAt, by: str, tell: Tell
) -> Report:
    """Put a backup that lies in a pool back into the configured catalog, which must be empty.

    :param source: where to look; the youngest that is found.
    """
    found = at_rest(config_path, environ)
    if isinstance(found, Report):
        return found
    try:
        with _alone(found) as catalog, tempfile.TemporaryFile(dir=found.home) as file:
            where, digest = fetch_from_pool(found, source, file, tell)
            file.seek(0)
            summary = backup.restore(catalog, file, by)
            facts = (f"{where}, SHA-256 {digest}", *backup_facts(summary), restored.OWED)
            return Report(catalog.engine.url.render_as_string(hide_password=True), facts=facts)
    except (Refused, NotFound) as error:
        return Report("catalog", (str(error),), refused=True)
    except (HsmError, DriverError, SQLAlchemyError, OSError) as error:
        return Report("catalog", (str(getattr(error, "orig", error)),))


def _nothing(_catalog: Catalog) -> None:
    pass


def _no_label(volume: VolumeRef, _pool: str, _library: str, _drive: int, _by: str) -> VolumeLabel:
    raise Refused(f"{volume.name} carries no label yet, and only the daemon labels volumes")


def _told(subject: str, found: dict[str, Any]) -> Report:
    return Report(subject, detail=found)


T = TypeVar("T")


def _with_media(
    config_path: Path | None,
    environ: Mapping[str, str],
    into: str,
    first: Callable[[Catalog], None],
    act: Callable[[config.Config, Catalog, Pools, Custody], T],
    report: Callable[[str, T], Report],
) -> Report:
    """Do something with every pool and drive of the configuration, which nobody else uses meanwhile.

    :param first: done with the catalog before any storage is opened.
    """
    found = at_rest(config_path, environ, into)
    if isinstance(found, Report):
        return found
    subject = "catalog"
    try:
        with _alone(found) as catalog:
            subject = catalog.engine.url.render_as_string(hide_password=True)
            first(catalog)
            with _media(found, catalog) as (pools, custody):
                return report(subject, act(found, catalog, pools, custody))
    except (Refused, NotFound) as error:
        return Report(subject, (str(error),), refused=True)
    except (HsmError, DriverError, SQLAlchemyError, OSError) as error:
        return Report(subject, (str(getattr(error, "orig", error)),))


@contextlib.contextmanager
def _alone(found: config.Config) -> Iterator[Catalog]:
    """The catalog, with the data folder locked; its tables are made where there are none."""
    lock = lock_home(found.home)
    try:
        engine = open_engine(found.catalog.url)
        try:
            if engine.url.database and engine.dialect.name == "sqlite":
                Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
            if upgrade.current_revision(engine) is None:
                upgrade.upgrade(engine)
            upgrade.require_head(engine)
            yield OneWriter(engine, SystemClock())
        finally:
            engine.dispose()
    finally:
        os.close(lock)


@contextlib.contextmanager
def _media(found: config.Config, catalog: Catalog) -> Iterator[tuple[Pools, Custody]]:
    pools = open_pools(found, catalog)
    custody = Custody(catalog, pools, Drives(), Bell())
    try:
        yield pools, custody
    finally:
        custody.unmount_all()


def sentence(standing: Standing) -> str:
    """How far it is, for a person."""
    said = "; ".join(_of_volume(each) for each in standing.under_way)
    if standing.left_seconds is None or (len(standing.under_way) == 1 and not standing.waiting):
        return said
    more = f" and {standing.waiting} more" if standing.waiting else ""
    return f"{said}; these{more}: about {_duration(standing.left_seconds)}"


def _of_volume(progress: Progress) -> str:
    where = f"{progress.volume} ({progress.number} of {progress.volumes} volumes)"
    if not progress.packages and progress.expected is None and progress.left_seconds is None:
        return f"{where}: nothing of it seen yet"
    of = f" of {progress.expected}" if progress.expected is not None else ""
    left = progress.left_seconds
    # A volume that does not say how much lies on it may share its file system with others.
    about = "about" if progress.expected is not None else "at most"
    when = "" if left is None else f", {about} {_duration(left)} left for this volume"
    return f"{where}: {progress.packages}{of} packages{when}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _rebuilt(subject: str, found: Found) -> Report:
    facts = [*_volumes(found), ", ".join(f"{count} {name}" for name, count in found.totals.items())]
    facts += [f"journal before: {each}" for volume in found.volumes for each in volume.anchors][:SHOWN_MAX]
    return _report(subject, found, facts, UNKNOWABLE)


def _compared(subject: str, found: Found) -> Report:
    facts = [*_volumes(found), ", ".join(f"{count} {name}" for name, count in found.totals.items())]
    if found.lifted:
        facts.append("catalog and media are compared as a whole")
    report = _report(subject, found, facts, ())
    errors = [
        f"{each.volume}: {len(each.missing)} packages are not there, and their copies are suspect now: "
        + ", ".join(each.missing[:SHOWN_MAX])
        for each in found.volumes
        if each.missing
    ]
    if found.left:
        errors.append(
            f"not compared: {', '.join(found.left[:SHOWN_MAX])}: bring them and run this again, or leave "
            "them out (nothing on them counts then, until they are scanned): --without VOLUME"
        )
    return replace(report, errors=(*report.errors, *errors))


def _volumes(found: Found) -> Iterator[str]:
    for each in found.volumes:
        if each.skipped and not each.instances:
            yield f"{each.volume}: read before"
            continue
        done = [f"{each.packages} packages", f"{each.copies} further copies", f"{each.verified} read back"]
        done += [f"{each.instances} instances of no package"] if each.instances else []
        done += [f"{each.known} known before"] if each.known else []
        done += [f"what was said of {each.marked} studies"] if each.marked else []
        yield f"{each.volume}: {', '.join(done)}; {_duration(each.seconds)}"


def _report(subject: str, found: Found, facts: Sequence[str], notes: Sequence[str]) -> Report:
    errors = [f"{each.volume}: {each.failed}" for each in found.volumes if each.failed]
    errors += [
        f"{each.volume}: {len(each.waiting)} packages are cold and were asked for; run this again when they "
        "are there"
        for each in found.volumes
        if each.waiting
    ]
    shown = found.differs[:SHOWN_MAX]
    if len(found.differs) > len(shown):
        shown = [*shown, f"and {len(found.differs) - len(shown)} more: --json, or the journal has them"]
    errors += [f"left alone, not in the catalog: {each}" for each in shown]
    warnings = [
        f"{each.volume} has backups of a catalog, which know more than media do; restore one and then "
        f"`hsm catalog check --media` is the better start: {', '.join(sorted(each.backups)[-3:])}"
        for each in found.volumes
        if each.backups
    ]
    detail: dict[str, Any] = found.record()
    gone = found.deleted[:SHOWN_MAX]
    if len(found.deleted) > len(gone):
        gone = [*gone, f"and {len(found.deleted) - len(gone)} more studies: --json"]
    return Report(subject, tuple(errors), (*warnings, *gone, *notes), tuple(facts), detail=detail)
