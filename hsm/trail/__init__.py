"""The journal streamed out of the archive: to a file, and as DICOM audit messages to a syslog server."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from hsm.catalog import access
from hsm.catalog.engine import Catalog
from hsm.config.audit import AuditConfig, SyslogConfig
from hsm.tls import client_context
from hsm.trail.file import FileSink
from hsm.trail.line import Line
from hsm.trail.shipper import Shipper, Standing
from hsm.trail.sink import Sink
from hsm.trail.syslog import Origin
from hsm.trail.syslogsink import SyslogSink
from hsm.trail.translate import About, Translator
from hsm.trail.turn import Turn

__all__ = ["Standing", "Trail"]


class Trail:
    """All streams of one archive."""

    def __init__(self, catalog: Catalog, config: AuditConfig, archive: str, home: Path, version: str) -> None:
        """
        :param archive: its AE title.
        :param home: the data folder: how far the syslog server is stands below it.
        """
        sinks: list[Sink] = []
        if config.file is not None:
            sinks.append(FileSink(config.file.path, config.file.bytes_max, config.file.keep))
        if config.syslog is not None:
            sinks.append(_syslog(catalog, config, config.syslog, archive, home, version))
        self.shippers = [Shipper(catalog, sink) for sink in sinks]

    def start(self) -> None:
        for each in self.shippers:
            each.start()

    def stop(self) -> None:
        for each in self.shippers:
            each.stop()

    def problems(self) -> list[str]:
        return [problem for each in self.shippers for problem in each.problems()]

    def standing(self) -> list[Standing]:
        return [each.standing() for each in self.shippers]


def _syslog(
    catalog: Catalog, config: AuditConfig, syslog: SyslogConfig, archive: str, home: Path, version: str
) -> SyslogSink:
    def look_up(uid: str) -> About | None:
        with catalog.read() as session:
            found = access.about(session, uid)
        return None if found is None else About(*found)

    def context():  # type: ignore[no-untyped-def]
        return client_context(syslog.certificate, syslog.key, syslog.ca, syslog.check_host, syslog.profile)

    host, process = socket.gethostname(), str(os.getpid())
    translator = Translator(archive, process, look_up, config.patient_data, config.site)
    name = f"the syslog server {syslog.host} port {syslog.port}"
    udp = syslog.transport == "udp"
    line = Line(
        syslog.host, syslog.port, syslog.seconds_max, context if syslog.transport == "tls" else None, udp=udp
    )
    origin = Origin(syslog.facility, host, "hsm", process, version)
    cursor = home / "audit" / f"syslog-{syslog.host}-{syslog.port}.json"
    every = syslog.send == "every record"
    # SQLite has one node, whose file says how far it is.
    several = catalog.engine.dialect.name == "postgresql"
    turn = Turn(catalog, f"{syslog.host}:{syslog.port}", time.monotonic) if several else None
    return SyslogSink(name, line, origin, translator, cursor, time.monotonic, every_record=every, turn=turn)
