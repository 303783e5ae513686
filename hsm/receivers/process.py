"""One receiver: ``python -m hsm.receivers.process DESCRIPTOR``, started by the daemon only.

It answers Verification and Storage, and needs of the daemon nothing but its channel. It ends at once
when the daemon is gone: what it had not acknowledged will be sent again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from sqlalchemy.exc import SQLAlchemyError

from hsm import log as logs
from hsm.catalog.engine import Catalog, open_engine
from hsm.commitment import Item
from hsm.config import Config
from hsm.dicom.search import Response
from hsm.dicom.server import DicomServer
from hsm.dicom.underway import Retrieval
from hsm.errors import ConfigError, DriverError, HsmError, Permanent
from hsm.garbage import calm_collector
from hsm.ingest import Ingest
from hsm.model import InstanceRef, Priority
from hsm.opening import open_ingest
from hsm.receivers.channel import Channel, Message, take_from_file
from hsm.receivers.desk import CONNECTION, Desk, taken
from hsm.receivers.tally import Tally
from hsm.refusals import Refusals
from hsm.startup import open_clock

log = logs.get_logger(__name__)

STOP_GRACE_SECONDS: Final = 20.0
EXIT_FAILED: Final = 1
EXIT_ORPHAN: Final = 3
Ports = Mapping[str, int]
"""By the names of the doors."""


class NotHere:
    """Stands for the services that only the daemon has. Connections that want them are passed on
    before they are negotiated, so nobody is to come here."""

    def select(
        self, identifier: bytes, transfer_syntax: str, abstract_syntax: str, *, sees_rejected: bool = False
    ) -> list[InstanceRef]:
        _refuse()

    def find(self, event: Any) -> Iterator[Response]:
        _refuse()

    def open(self, instances: Sequence[InstanceRef], who: str, priority: Priority, ae: str = "") -> Retrieval:
        _refuse()

    def begin(self, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]) -> int:
        _refuse()

    def finish(self, key: int, *, failed: int, comment: str) -> None:
        _refuse()

    def cancel(self, key: int) -> None:
        _refuse()

    def hand_over(self, key: int, undelivered: Sequence[str]) -> None:
        _refuse()

    def answered(self, key: int, sop_instance_uid: str) -> None:
        _refuse()

    def delivered(self, key: int, sop_instance_uids: Sequence[str]) -> None:
        _refuse()

    def ask(self, calling: str, transaction_uid: str, items: Sequence[Item]) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise Permanent("a receiver answers C-STORE and C-ECHO only")


class Receiver:
    """What a receiver has: a catalog, the ingest pool, and a server at the shared port."""

    def __init__(self, config: Config, channel: Channel, tally: Tally, slot: int, ports: Ports) -> None:
        """:raises ConfigError, DriverError, SQLAlchemyError: something cannot be opened."""
        clock = open_clock(config)
        self._channel = channel
        self._catalog = Catalog(open_engine(config.catalog.url), clock)
        self._ingest = Ingest(
            self._catalog, open_ingest(config, self._catalog), config.dicom.same_uid, config.deletion.trash
        )
        self._ingest.start()
        self._refusals = Refusals(self._catalog, clock)
        elsewhere = NotHere()
        self._server = DicomServer(
            config.dicom,
            config.archive.ae_title,
            self._ingest,
            elsewhere.select,
            elsewhere.find,
            elsewhere,
            elsewhere,
            elsewhere,
            clock,
            refused=self._refusals.note,
        )
        self._refusals.start()
        self._server.start(Desk(tally, slot, channel), ports)

    def serve(self, asked: int) -> None:
        """Until the daemon says so or ``asked`` becomes readable; never returns when it is gone."""
        calm_collector()
        self._channel.send("ready")
        while True:
            readable, _, _ = select.select([self._channel.fileno(), asked], [], [])
            if asked in readable:
                return
            message = receive(self._channel)
            if message.kind == "stop":
                return
            if message.kind == "reload":
                self._reload(read_config(message.files[0]))
            elif message.kind == CONNECTION:
                self._take(message)

    def stop(self) -> None:
        """Finish what is being stored. If the daemon dies meanwhile, that is over too."""
        threading.Thread(target=_end_with_the_daemon, args=(self._channel,), daemon=True).start()
        self._server.stop(STOP_GRACE_SECONDS)
        self._refusals.stop()
        self._ingest.close()
        self._catalog.close()

    def _reload(self, config: Config) -> None:
        try:
            self._server.reload(config.dicom)
        except ConfigError as error:  # the daemon found it good a moment ago
            log.error("the old configuration stays in force here: %s", error)
            return
        self._ingest.same_uid = config.dicom.same_uid
        self._ingest.trash_seconds = config.deletion.trash
        logs.set_level(config.log.level)

    def _take(self, message: Message) -> None:
        try:
            client, visit = taken(message)
        except OSError as error:
            log.info("a connection was gone before it was taken: %s", error)
        else:
            self._server.take(client, visit)


def receive(channel: Channel) -> Message:
    """The next message; ends the process if there is nobody left to send one."""
    while True:
        with contextlib.suppress(TimeoutError):
            message = channel.receive()
            if message is None:
                # Without ceremony: what waits for a lock or a disk would keep an orphan at the port.
                os._exit(EXIT_ORPHAN)
            return message


def _end_with_the_daemon(channel: Channel) -> None:
    while True:
        for file in receive(channel).files:
            os.close(file)


def read_config(file: int) -> Config:
    return Config.model_validate(json.loads(take_from_file(file)))


def main(arguments: Sequence[str]) -> int:
    """:returns: the exit status."""
    channel = Channel.at(int(arguments[0]))
    os.set_inheritable(channel.fileno(), False)
    seen, rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(_number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(rung, b"!")

    signal.signal(signal.SIGTERM, note)
    # A terminal's Ctrl-C and hang-up go to all; the daemon says what follows from them.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    message = receive(channel)
    config = read_config(message.files[0])
    slot, ports = int(message.values["slot"]), message.values["ports"]
    logs.set_up(config.log.level, config.log.format)
    try:
        receiver = Receiver(config, channel, Tally(message.files[1], slot, len(ports)), slot, ports)
    except (HsmError, DriverError, SQLAlchemyError, OSError) as error:
        log.error("receiver %d cannot start: %s", slot, error)
        return EXIT_FAILED
    try:
        receiver.serve(seen)
    finally:
        receiver.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
