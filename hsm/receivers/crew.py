"""The daemon's side: starts the receivers, watches them, and serves what they pass on."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hsm.clock import Clock
from hsm.config import Config
from hsm.dicom.server import DicomServer
from hsm.errors import ConfigError
from hsm.log import get_logger
from hsm.receivers.channel import Channel, Message, put_in_file
from hsm.receivers.desk import CONNECTION, DAEMON, Desk, pass_on, taken
from hsm.receivers.tally import Tally

log = get_logger(__name__)

START_SECONDS: Final = 60.0
PORT_SECONDS: Final = 3.0
"""Receivers of a daemon that was killed let go of the port within this time."""
TICK_SECONDS: Final = 0.1
BACK_OFF_SECONDS: Final = 0.25
BACK_OFF_SECONDS_MAX: Final = 30.0
SOUND_SECONDS: Final = 60.0
"""A receiver that lived as long is started again at once when it ends."""
STOP_SLACK_SECONDS: Final = 5.0
_NOT_FOR_RECEIVERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


@dataclass
class _Member:
    """One receiver, or its vacant place."""

    slot: int
    process: subprocess.Popen[bytes] | None = None
    channel: Channel | None = None
    ready: bool = False
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    """When a vacant place is filled again, by the monotonic clock."""


class Receivers:
    """The DICOM ports of the daemon, served by as many processes as ``dicom.receivers`` says.

    With one it is the daemon's own, and this only hands on.
    """

    def __init__(self, config: Config, server: DicomServer, environ: Mapping[str, str], clock: Clock) -> None:
        self._config = config
        self._server = server
        self._environ = {name: text for name, text in environ.items() if name not in _NOT_FOR_RECEIVERS}
        self._clock = clock
        self._members = [_Member(1 + number) for number in range(config.dicom.receivers)]
        self._tally: Tally | None = None
        self._reserved: dict[str, socket.socket] = {}
        """By the name of a door: bound, and not listened at here."""
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._settled = threading.Event()
        """All receivers are there, or one of them did not come to that."""
        self._stopping = False
        self._deadline = 0.0

    def start(self) -> None:
        """Serve the port.

        :raises OSError: it cannot be had.
        :raises ConfigError: a receiver does not start.
        """
        if len(self._members) == 1:
            self._server.start()
            return
        doors = self._config.dicom.doors
        try:
            for door in doors:
                self._reserved[door.name] = self._reserve(door.listen, door.port)
        except OSError:
            self._release()
            raise
        self._tally = Tally.create(len(self._members), len(doors))
        self._server.start(Desk(self._tally, DAEMON, None))
        self._thread = threading.Thread(target=self._run, name="receivers", daemon=True)
        self._thread.start()
        self._settled.wait(START_SECONDS)
        for member in self._members:
            if not member.ready:
                raise ConfigError(f"receiver {member.slot} does not start; the log says why")

    @property
    def associations(self) -> int:
        """Associations that stand now, in all processes."""
        return self._server.associations if self._tally is None else self._tally.standing

    @property
    def ports(self) -> dict[str, int]:
        """The TCP ports, by the names of their doors."""
        if self._tally is None:
            return self._server.ports
        return {name: int(each.getsockname()[1]) for name, each in self._reserved.items()}

    def facts(self) -> list[dict[str, Any]]:
        """The receiving processes; empty where there are none beside the daemon."""
        tally = self._tally
        if tally is None:
            return []
        with self._lock:
            return [
                {
                    "receiver": member.slot,
                    "pid": member.process.pid if member.process is not None else None,
                    "ready": member.ready,
                    "associations": tally.standing_at(member.slot),
                }
                for member in self._members
            ]

    def reload(self, config: Config) -> None:
        """Use another configuration from the next association on, in all processes."""
        self._server.reload(config.dicom)
        with self._lock:
            # A receiver that is started again later has what the others have.
            self._config = self._config.model_copy(update={"dicom": config.dicom, "log": config.log})
            for member in self._members:
                if member.channel is not None:
                    self._tell(member.channel, "reload")

    def stop(self, grace_seconds: float) -> None:
        """Let all processes finish what is being stored or sent; they have ended when this returns."""
        with self._lock:
            self._stopping = True
            self._deadline = self._clock.monotonic() + grace_seconds + STOP_SLACK_SECONDS
            for member in self._members:
                if member.channel is not None:
                    with contextlib.suppress(OSError):  # it has ended already
                        member.channel.send("stop")
        self._server.stop(grace_seconds)
        if self._thread is not None:
            self._thread.join()
        self._release()
        self._tally = None

    # Starting and ending of processes; with the lock held.

    def _release(self) -> None:
        for each in self._reserved.values():
            each.close()
        self._reserved.clear()

    def _reserve(self, listen: str, port: int) -> socket.socket:
        """The port, bound and not listened at, so that it is ours whatever becomes of the receivers.

        :raises OSError: somebody listens there.
        """
        family, _, _, _, address = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM)[0]
        deadline = self._clock.monotonic() + PORT_SECONDS
        while True:
            try:
                # SO_REUSEPORT would let us share the port with another archive of the same user.
                with _bound(family, address, share=False):
                    pass
                return _bound(family, address, share=True)
            except OSError:
                if self._clock.monotonic() >= deadline:
                    raise
                self._clock.wait(threading.Event(), TICK_SECONDS)

    def _spawn(self, member: _Member) -> None:
        assert self._tally is not None
        ours, theirs = Channel.pair()
        with theirs:
            # Not a fork: other threads of ours may hold locks just now.
            member.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hsm.receivers.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=self._environ,
            )
        member.channel, member.ready, member.started = ours, False, self._clock.monotonic()
        self._tell(
            ours,
            "begin",
            self._tally.file,
            slot=member.slot,
            ports=self.ports,
        )

    def _tell(self, channel: Channel, kind: str, *files: int, **values: Any) -> None:
        """A message with the configuration. One that is not taken is seen when the receiver ends."""
        config = put_in_file(self._config.model_dump_json().encode())
        try:
            channel.send(kind, [config, *files], **values)
        except OSError as error:
            log.warning("a receiver does not listen to %r: %s", kind, error)
        finally:
            os.close(config)

    def _ended(self, member: _Member) -> None:
        """It is gone, or at least its channel is."""
        assert self._tally is not None and member.process is not None and member.channel is not None
        if member.process.poll() is None:
            member.process.kill()
        status = member.process.wait()
        member.channel.close()
        lived = self._clock.monotonic() - member.started
        member.process = member.channel = None
        member.ready = False
        self._settled.set()
        self._tally.mark_gone(member.slot)
        if self._stopping:
            return
        member.failures = 0 if lived >= SOUND_SECONDS else member.failures + 1
        pause = min(BACK_OFF_SECONDS * 2**member.failures / 2, BACK_OFF_SECONDS_MAX)
        member.due = self._clock.monotonic() + pause
        log.error("receiver %d ended with status %d; it is started again in %g s", member.slot, status, pause)

    # The thread.

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopping and self._all_gone():
                    return
                if not self._stopping:
                    self._fill_places()
                waiting = [member for member in self._members if member.channel is not None]
            with selectors.DefaultSelector() as selector:
                for member in waiting:
                    assert member.channel is not None
                    selector.register(member.channel, selectors.EVENT_READ, member)
                for key, _ in selector.select(TICK_SECONDS):
                    self._listen(key.data)
            self._server.tell()

    def _all_gone(self) -> bool:
        """Whether every receiver has ended; those that should have and did not are killed."""
        for member in self._members:
            if member.process is not None and self._clock.monotonic() >= self._deadline:
                log.warning("receiver %d does not end; it is killed", member.slot)
                self._ended(member)
        return not any(member.process for member in self._members)

    def _fill_places(self) -> None:
        for member in self._members:
            if member.process is None and self._clock.monotonic() >= member.due:
                try:
                    self._spawn(member)
                except OSError as error:
                    log.error("receiver %d cannot be started: %s", member.slot, error)
                    member.due = self._clock.monotonic() + BACK_OFF_SECONDS_MAX

    def _listen(self, member: _Member) -> None:
        assert member.channel is not None
        try:
            message = member.channel.receive()
        except OSError as error:
            log.error("receiver %d: %s", member.slot, error)
            message = None
        if message is None:
            with self._lock:
                self._ended(member)
        elif message.kind == "ready":
            member.ready = True
            if all(each.ready for each in self._members):
                self._settled.set()
        elif message.kind == CONNECTION:
            self._serve(message)

    def _serve(self, message: Message) -> None:
        """Serve a connection that a receiver passed on, or pass it to another, if that one is there."""
        try:
            client, visit = taken(message)
        except OSError as error:
            log.info("a connection was gone before it was taken: %s", error)
            return
        to = int(message.values["to"])
        member = self._members[to - 1] if to != DAEMON else None
        if member is not None and member.channel is not None and member.ready:
            try:
                with client:
                    pass_on(member.channel, client.fileno(), to, visit)
            except OSError as error:
                log.warning("receiver %d did not take a connection: %s", to, error)
            return
        self._server.take(client, visit)


def _bound(family: int, address: Any, share: bool) -> socket.socket:
    """:raises OSError: the address is taken, or not ours."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
