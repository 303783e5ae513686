"""The audit trail: where the journal is anchored and streamed to, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from hsm.config.document import Place
from hsm.config.fields import Folder, Host, Name, Seconds, Section, Size
from hsm.config.operators import Hour, Zone
from hsm.config.towards import TlsTowards


class AnchorsConfig(Section):
    """Heads of the journal that are kept elsewhere. Volumes that are mounted get one with every flush."""

    every: Seconds = Field(
        default=6 * 3600.0,
        ge=60,
        description="a duration of a minute at least: how often pools without drives, and the file, get one, "
        "and how long what was said of studies waits for a cartridge that is written to anyway",
    )
    file: Folder | None = Field(
        default=None, description="the path of a file, best on storage that others administer"
    )


class TrailFileConfig(Section):
    """The journal as JSON lines."""

    path: Folder = Field(description="the path of a file")
    bytes_max: Size = Field(
        default=100 * 2**20, ge=2**20, description="a size of 1 MiB at least: then a further file is begun"
    )
    keep: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        strict=True,
        description="a whole number: so many full files stay; null for all",
    )


class SyslogConfig(TlsTowards):
    """DICOM audit messages to a syslog server, PS3.15 section A.6."""

    host: Host = Field(description="a host name or an IP address")
    port: int = Field(default=6514, ge=1, le=65535, strict=True, description="a port from 1 to 65535")
    transport: Literal["tls", "tcp", "udp"] = Field(default="tls", description='"tls", "tcp" or "udp"')
    facility: int = Field(
        default=10, ge=0, le=23, strict=True, description="a number from 0 to 23 (10: security)"
    )
    send: Literal["audit messages", "every record"] = Field(
        default="audit messages", description='"audit messages", or "every record" (also as JSON)'
    )
    seconds_max: Seconds = Field(
        default=10.0, gt=0, le=60, description="a duration up to 1 minute: how long the server may take"
    )

    @model_validator(mode="after")
    def _check(self) -> SyslogConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected certificate and key together, or neither")
        if self.transport != "tls" and (self.ca or self.certificate):
            raise ValueError(f"expected transport: tls with ca or certificate; found {self.transport}")
        return self


class SummaryConfig(Section):
    """What an admin should read each morning."""

    at: Hour = Field(description='a time of day in quotes, such as "06:00"')
    zone: Zone = Field(default="UTC", description="a time zone such as Europe/Zurich")
    to: Name = Field(description="the name of a channel of operator.channels")


class AuditConfig(Section):
    """The journal outside the database."""

    anchors: AnchorsConfig = Field(default=AnchorsConfig(), description="a mapping: every, file")
    file: TrailFileConfig | None = Field(default=None, description="a mapping: path, bytes_max, keep")
    syslog: SyslogConfig | None = Field(default=None, description="a mapping: host, port, ca, ...")
    patient_data: bool = Field(
        default=False,
        strict=True,
        description="true or false: patients, and what queries asked for, are named in audit messages",
    )
    retrieves: bool = Field(
        default=True, strict=True, description="true or false: each retrieve of a study is in the journal"
    )
    queries: bool | None = Field(
        default=None,
        strict=True,
        description="true or false: each query is in the journal; null: where there is a syslog server",
    )
    site: str = Field(default="", max_length=64, description="a name: the enterprise site of audit messages")
    summary: SummaryConfig | None = Field(default=None, description="a mapping: at, zone, to")

    @property
    def notes_queries(self) -> bool:
        return self.syslog is not None if self.queries is None else self.queries

    @model_validator(mode="after")
    def _check(self) -> AuditConfig:
        if self.syslog is not None and self.syslog.send == "every record" and not self.patient_data:
            raise ValueError(
                'syslog.send: expected "audit messages", or patient_data: true: records of the journal name '
                "patients"
            )
        return self


def audit_files(data: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where files are named in the section as it is written; what has another shape is left out."""
    section = data.get("audit")
    named = (("anchors", ("file",)), ("file", ("path",)), ("syslog", ("ca", "certificate", "key")))
    for name, keys in named:
        options = section.get(name) if isinstance(section, Mapping) else None
        if isinstance(options, dict):
            yield from ((options, key) for key in keys)


def audit_errors(data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """A summary that nobody gets."""
    section, operator = data.get("audit"), data.get("operator")
    summary = section.get("summary") if isinstance(section, Mapping) else None
    channels = operator.get("channels") if isinstance(operator, Mapping) else None
    names = [
        each.get("name")
        for each in (channels if isinstance(channels, list | tuple) else ())
        if isinstance(each, Mapping)
    ]
    to = summary.get("to") if isinstance(summary, Mapping) else None
    if isinstance(to, str) and to not in names:
        known = ", ".join(str(each) for each in names) or "none is configured"
        yield ("audit", "summary", "to"), f"expected the name of a channel ({known}); found {to!r}"
