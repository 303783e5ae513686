"""Looks at a RAID path whenever the kernel tells of a device, and every so often in any case: a message may
be lost, and error counters send none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pyudev

from drivers.base import Notice
from drivers.raid.state import Snapshot, changes

SUBSYSTEMS = ("block", "scsi", "fc_host", "fc_remote_ports", "bdi")
POLL_SECONDS = 30.0
SETTLE_SECONDS = 0.2
"""After the first message of a burst: a link that goes down is dozens of them."""


class Watch:
    """Compares a look at where the file system ``wanted`` belongs with the one before.

    A thread of its own once :meth:`start` was called.

    ``poll`` is the longest time between two looks, in seconds.
    """

    def __init__(
        self,
        look: Callable[[], Snapshot],
        wanted: str,
        tell: Callable[[Notice], None],
        poll: float = POLL_SECONDS,
    ) -> None:
        self._look, self._wanted, self._tell, self._poll = look, wanted, tell, poll
        self._seen = look()
        self._stop, self._rung = threading.Event(), threading.Event()
        self._observer: pyudev.MonitorObserver | None = None
        self._thread = threading.Thread(target=self._run, name="raid-watch", daemon=True)

    def start(self) -> None:
        """Listen to the kernel's own messages, which come where udev does not run, too.

        :raises OSError: the kernel's messages cannot be had; then nothing was started.
        """
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        self._observer = pyudev.MonitorObserver(monitor, callback=lambda _: self._rung.set())
        self._observer.start()
        self._thread.start()

    def close(self) -> None:
        """End it; returns when both threads have ended or after a few seconds."""
        self._stop.set()
        self._rung.set()
        if self._observer is not None:
            self._observer.send_stop()
            self._observer.join(5)
        if self._thread.is_alive():
            self._thread.join(5)

    def once(self) -> None:
        """Look now and tell what changed."""
        before, self._seen = self._seen, self._look()
        for notice in changes(before, self._seen, self._wanted):
            self._tell(notice)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._rung.wait(self._poll):
                self._stop.wait(SETTLE_SECONDS)
            self._rung.clear()
            if not self._stop.is_set():
                with suppress(OSError):  # out of descriptors, say: the next look tells what this one would
                    self.once()
