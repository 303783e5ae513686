"""What must be right before the daemon is built: its data folder and its catalog."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from hsm.availability import Room
from hsm.catalog import instances, upgrade
from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import Clock, FastClock, SystemClock
from hsm.config import Config
from hsm.errors import ConfigError
from hsm.log import get_logger
from hsm.window import passes_at_most

log = get_logger(__name__)

OTHERS: Final = 0o027
"""What the group may not (write) and others may not (anything)."""


def keep_to_itself() -> None:
    """What this process and those that it starts leave behind is for its user and group: files are not for
    other logins of the machine (the catalog and the pools name patients), and no core dump has their names.
    A stricter umask stays; who wants a dump raises the limit of the process (prlimit)."""
    os.umask(os.umask(OTHERS) | OTHERS)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def open_clock(config: Config) -> Clock:
    """The machine's clock, or the faster one that a simulation is configured for."""
    settings = config.clock
    if settings.speed == 1 or settings.since is None:
        return SystemClock()
    return FastClock(settings.speed, settings.since, settings.shows)


def lock_home(home: Path) -> int:
    """Lock the data folder for this process; made if it is not there.

    :raises ConfigError: another daemon has it.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(home / "hsm.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"data folder {home}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"data folder {home} is in use by another daemon (pid {owner}); stop it or set HSM_HOME"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def open_catalog(config: Config, clock: Clock) -> Catalog:
    """Open the catalog; an embedded one that does not exist yet is made.

    :raises ConfigError: it cannot be reached, or its tables are not of this version.
    """
    engine = open_engine(config.catalog.url)
    catalog = Catalog(engine, clock)
    try:
        if engine.dialect.name == "sqlite" and upgrade.current_revision(engine) is None:
            upgrade.upgrade(engine)
        upgrade.require_head(engine)
        _tell_too_large(catalog, config)
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        engine.dispose()
        raise ConfigError(f"catalog {where}: {getattr(error, 'orig', error)}") from error
    except ConfigError:
        engine.dispose()
        raise
    return catalog


def _tell_too_large(catalog: Catalog, config: Config) -> None:
    """Warn of instances that only disks can give: the staging area is too small for them.

    None are received; these came when it was larger, or from media.
    """
    area = config.staging.size_max_bytes
    with catalog.read() as session:
        studies, count, largest = instances.too_large(session, Room(area, passes_at_most(area)))
    if count:
        log.warning(
            "%d instances of %d studies cannot be recalled through the staging area of %d bytes, the largest "
            "has %d: without a copy on a disk they are UNAVAILABLE; raise staging.size_max_bytes",
            *(count, studies, area, largest),
        )
