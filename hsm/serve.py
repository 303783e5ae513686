"""The daemon's process: started, told by signals to stop or to reload, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hsm import log as logs
from hsm.clock import SystemClock
from hsm.config import load
from hsm.daemon import Daemon
from hsm.errors import ConfigError, HsmError
from hsm.garbage import calm_collector
from hsm.notify import Notifier
from hsm.startup import keep_to_itself, open_clock

log = logs.get_logger(__name__)


def run(
    config_path: Path | None,
    environ: Mapping[str, str],
    on_ready: Callable[[dict[str, Any]], None],
) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT; SIGHUP reloads.

    :raises ConfigError: the configuration, the machine or another daemon forbids the start.
    """
    keep_to_itself()
    asked = _Asked()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, asked.note)
    config = load(config_path, environ)
    logs.set_up(config.log.level, config.log.format)
    notifier = Notifier(environ, SystemClock())
    daemon = Daemon(config, environ, open_clock(config))
    try:
        daemon.start()
        calm_collector()
        notifier.ready(f"listening on {daemon.status()['listen']['dicom']}")
        on_ready(daemon.status())
        while not asked.stop:
            asked.wait((notifier.watchdog_seconds or 20.0) / 2)
            notifier.watchdog()
            if asked.take_reload():
                notifier.reloading()
                try:
                    daemon.reload()
                except (ConfigError, HsmError) as error:
                    log.error("reload refused, the old configuration stays in force:\n%s", error)
                notifier.ready()
    finally:
        notifier.stopping()
        log.info("stopping")
        daemon.stop()
        log.info("stopped")


class _Asked:
    """What signals have asked for; set in handlers, read in the main loop.

    Handlers run between any two steps of the main thread, also while it holds a lock: they only set
    flags and write a byte into a pipe, never take a lock as :class:`threading.Event` does.
    """

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        self._seen, self._rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self.stop = True
        with contextlib.suppress(BlockingIOError):  # full: it will be seen anyway
            os.write(self._rung, b"!")

    def wait(self, seconds: float) -> None:
        """Until a signal comes or the time is over."""
        select.select([self._seen], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._seen, 4096)

    def take_reload(self) -> bool:
        asked, self._reload = self._reload, False
        return asked
