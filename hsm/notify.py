"""Telling systemd how the daemon is: the sd_notify protocol, sd_notify(3).

Messages are datagrams to the socket that ``$NOTIFY_SOCKET`` names. Without it (a terminal, a
container) every method does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from hsm.clock import Clock
from hsm.log import get_logger, neutral

log = get_logger(__name__)

SEND_SECONDS_MAX = 1.0
"""systemd reads its socket at once; a daemon must not hang on one that nobody reads."""


class Notifier:
    """Sends state changes to the service manager. A message that cannot be sent is logged and lost."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address else None
        """How often systemd expects :meth:`watchdog`; None when it does not. Send at half of it."""

    @property
    def enabled(self) -> bool:
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Start or reload is finished."""
        self._send("READY=1", status)

    def stopping(self, status: str = "") -> None:
        """Shutdown has begun."""
        self._send("STOPPING=1", status)

    def reloading(self) -> None:
        """Configuration is being re-read; :meth:`ready` must follow, whether it was accepted or refused."""
        # sd_notify(3) wants CLOCK_MONOTONIC in microseconds, which time.monotonic() is on Linux.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1_000_000)}")

    def watchdog(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("", text)

    def extend_timeout(self, seconds: float) -> None:
        """Start, reload or stop needs ``seconds`` more from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, state: str, status: str = "") -> None:
        if not self._address:
            return
        lines = [line for line in (state, f"STATUS={neutral(status)}" if status else "") if line]
        # A leading @ names a socket in the abstract namespace, unix(7).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_SECONDS_MAX)
                sender.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)
        except (OSError, ValueError) as error:
            log.warning("cannot notify the service manager at %s: %s", self._address, error)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): WATCHDOG_USEC, if WATCHDOG_PID is absent or ours."""
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isascii() or not microseconds.isdigit() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000
