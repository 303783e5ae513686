"""Looks at a RAID path whenever the kernel tells of a device or of a mount, and every so often in any case: a
message may be lost, and error counters send none."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

import pyudev

from drivers.base import Notice
from drivers.raid.mountinfo import MOUNTINFO
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
        self._stop = threading.Event()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="raid-watch", daemon=True)

    def start(self) -> None:
        """Listen to the kernel's own messages, which come where udev does not run, too.

        :raises OSError: the kernel's messages cannot be had; then nothing was started.
        """
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        for subsystem in SUBSYSTEMS:
            self._monitor.filter_by(subsystem)
        self._monitor.start()
        self._thread.start()

    def close(self) -> None:
        """End it; returns when its thread has ended or after a few seconds."""
        self._stop.set()
        with suppress(OSError):
            os.write(self._wake, b"x")
        if self._thread.ident is not None:
            self._thread.join(5)
        if not self._thread.is_alive():
            os.close(self._wake)
            os.close(self._woken)

    @property
    def seen(self) -> Snapshot:
        """As of the last look."""
        return self._seen

    def once(self) -> None:
        """Look now and tell what changed."""
        before, self._seen = self._seen, self._look()
        for notice in changes(before, self._seen, self._wanted):
            self._tell(notice)

    def _run(self) -> None:
        # proc_pid_mountinfo(5): a change of mounts is an error and priority event of the open file.
        with MOUNTINFO.open("rb") as mounts:
            waiting = select.poll()
            waiting.register(self._monitor.fileno(), select.POLLIN)
            waiting.register(mounts.fileno(), select.POLLPRI | select.POLLERR)
            waiting.register(self._woken, select.POLLIN)
            while not self._stop.is_set():
                if waiting.poll(self._poll * 1000):
                    self._stop.wait(SETTLE_SECONDS)
                    while self._monitor.poll(0) is not None:
                        pass  # what it says does not matter: the look does
                if not self._stop.is_set():
                    with suppress(OSError):  # out of descriptors, say: the next look tells what this would
                        self.once()
