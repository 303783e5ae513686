"""The order in which an archive comes to life, and in which it ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import journal, queue
from hsm.clock import Clock
from hsm.config import Config
from hsm.daemon import status
from hsm.daemon.foundation import ACTOR
from hsm.daemon.parts import Parts
from hsm.daemon.reload import reload
from hsm.daemon.routines import Routines
from hsm.errors import ConfigError
from hsm.log import get_logger
from hsm.startup import lock_home, open_catalog

log = get_logger(__name__)

STOP_GRACE_SECONDS = 20.0


class Daemon:
    """One archive in one process: built, started, reloaded and stopped as a whole.

    :raises ConfigError: the configuration, the machine or another daemon forbids it.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], clock: Clock) -> None:
        self._environ = environ
        self._clock = clock
        self._started_at: datetime | None = None
        self._serves = False
        self._reloading = threading.Lock()
        with contextlib.ExitStack() as undone:
            self._lock = lock_home(config.home)
            undone.callback(os.close, self._lock)
            self.catalog = open_catalog(config, clock)
            undone.callback(self.catalog.close)
            self.parts = Parts(config, environ, clock, self.catalog, self)
            self.routines = Routines(self.parts)
            undone.pop_all()

    def start(self) -> None:
        """Take over what the last daemon left, then serve.

        :raises ConfigError: a port or socket is taken, or the catalog does not answer.
        """
        base, packages, peers = self.parts.base, self.parts.packages, self.parts.peers
        self._started_at = self._clock.now()
        self._take_over_requests()
        peers.deliveries.begin_again()
        peers.announcements.round()  # what happens from now on is told
        packages.recovery.begin()
        packages.ingest.start()
        self.routines.inventory()
        base.poolwatch.start()
        self.parts.work.workers.start()
        base.refusals.start()
        try:
            peers.receivers.start()
        except OSError as error:
            doors = base.config.dicom.doors
            where = " or ".join(f"{door.listen} port {door.port}" for door in doors)
            raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
        self.routines.start()
        base.trail.start()
        self._note_life("started")
        self.routines.watch_roles()
        self.parts.control.api.start()

    def stop(self) -> None:
        """Finish or hand back what is in flight, and leave every volume with its index written.

        Also after a start that failed in mid-way. Nobody new comes in first; the workers stop after the
        associations, which may wait for them; the lock goes last. A step that fails does not keep the
        others from being done.
        """
        base, packages, peers = self.parts.base, self.parts.packages, self.parts.peers
        with contextlib.ExitStack() as last_first:
            last_first.callback(os.close, self._lock)
            last_first.callback(self.catalog.close)
            last_first.callback(base.trail.stop)
            last_first.callback(self._note_life, "stopped")
            last_first.callback(self.routines.write_history)
            last_first.callback(self.parts.media.custody.unmount_all)
            last_first.callback(self.parts.work.workers.stop)
            last_first.callback(base.poolwatch.stop)
            last_first.callback(peers.exports.stop, STOP_GRACE_SECONDS)
            last_first.callback(packages.ingest.close)
            last_first.callback(base.refusals.stop)
            last_first.callback(peers.receivers.stop, STOP_GRACE_SECONDS)
            last_first.callback(self.routines.stop)
            last_first.callback(self.parts.control.api.stop)

    def reload(self) -> dict[str, Any]:
        """Read configuration and policies again and take over what can be changed while running.

        :raises ConfigError: something in them is wrong; everything stays as it was.
        """
        with self._reloading:
            told = reload(self.parts, self._environ)
            self.routines.renew()
            self.routines.watch_roles()
        return told

    def status(self) -> dict[str, Any]:
        """What listens where, and what is wrong just now."""
        return status.status(self.parts, self._started_at)

    def problems(self) -> list[str]:
        """What is wrong just now, by itself."""
        return status.problems(self.parts)

    def _take_over_requests(self) -> None:
        """Nobody works on what was active when the last daemon ended: it is queued again."""
        try:
            with self.catalog.write() as session:
                left = queue.give_back_all_active(session, self._clock.now(), ACTOR)
        except SQLAlchemyError as error:
            raise ConfigError(f"catalog: {getattr(error, 'orig', error)}") from error
        if left:
            log.info("%d requests of the last daemon are queued again", left)

    def _note_life(self, verb: str) -> None:
        """That the archive's daemon comes or goes; only one that served goes."""
        if verb == "stopped" and not self._serves:
            return
        self._serves = verb == "started"
        title, detail = self.parts.base.title, {"host": socket.gethostname(), "process": os.getpid()}
        try:
            with self.catalog.write() as session:
                journal.append(session, self._clock.now(), ACTOR, verb, "archive", title, detail)
        except SQLAlchemyError as error:
            log.warning(
                "the journal does not know that the daemon %s: %s", verb, getattr(error, "orig", error)
            )
