"""The configuration's shape: frozen pydantic models, nothing unknown let through.

A field's ``description`` is what an error report says is expected there.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from hsm.config.access import ApiConfig as ApiConfig
from hsm.config.audit import AuditConfig
from hsm.config.deletion import DeletionConfig
from hsm.config.doors import (
    LISTENERS_MAX,
    NETWORKS_MAX,
    Address,
    Door,
    ListenerConfig,
    LockoutConfig,
    Origin,
    doors_of,
)
from hsm.config.doors import PeerTlsConfig as PeerTlsConfig
from hsm.config.doors import TlsConfig as TlsConfig
from hsm.config.fields import (
    EVERY_RIGHT,
    AeTitle,
    Folder,
    Host,
    Name,
    Seconds,
    Section,
    Site,
    Size,
    Subject,
    UserIdentity,
    UserName,
    check_passcode,
    check_url,
    one_or_more,
    read_back_words,
    tls_or_not,
)
from hsm.config.fields import RIGHTS as RIGHTS
from hsm.config.fields import Right as Right
from hsm.config.fields import check_ae_title as check_ae_title
from hsm.config.operators import OperatorConfig
from hsm.config.rules import cross_errors, resolved
from hsm.config.stagingrules import DATASET_BYTES, STAGING_BYTES
from hsm.fixity import Scrub
from hsm.model import Layout, ReadBack, Tier


class ArchiveConfig(Section):
    ae_title: AeTitle = Field(default="HSM", description="an AE title")


class BackupConfig(Section):
    """Backups of the catalog that nobody has to ask for."""

    pool: Name = Field(description="a pool's name")
    every: Seconds = Field(default=86400.0, ge=60, description="a duration of a minute at least")
    keep: int = Field(
        default=7, ge=1, le=10_000, strict=True, description="a whole number: so many of them stay"
    )


class CatalogConfig(Section):
    backup: BackupConfig | None = Field(default=None, description="a mapping: pool, every, keep")
    url: Annotated[str, BeforeValidator(check_url)] = Field(description="a database URL", repr=False)


class UserConfig(Section):
    """Somebody who may say who he is, PS3.7 section D.3.3.7. Without a passcode the name is enough."""

    name: UserName = Field(description="a user's name")
    passcode: Annotated[str, BeforeValidator(check_passcode)] | None = Field(
        default=None, repr=False, description="a passcode as `hsm config passcode` prints it"
    )


class SendConfig(Section):
    """How much one peer is sent at the same time, by all C-MOVEs and deliveries together."""

    associations_max: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="a whole number from 1 to 1000"
    )
    instances_per_second: float | None = Field(default=None, gt=0, description="a number above 0")
    bytes_per_second: Size | None = Field(default=None, ge=1, description='a size: "20 MiB" a second')


class AeConfig(Section):
    """A peer: who it is, where it listens, and what it may do."""

    ae_title: AeTitle = Field(description="an AE title")
    host: Host = Field(description="a host name or an IP address")
    port: int = Field(ge=1, le=65535, strict=True, description="a TCP port from 1 to 65535")
    may: tuple[Right, ...] = Field(default=RIGHTS, description=f"a list of rights: {', '.join(EVERY_RIGHT)}")
    move_to: tuple[AeTitle, ...] | None = Field(
        default=None, description="a list of AE titles to which it may have instances moved; null: any of aes"
    )
    addresses: tuple[Origin, ...] = Field(
        default=(),
        max_length=NETWORKS_MAX,
        description="a list of the addresses, networks and host names that it comes from; empty: any",
    )
    deliver_later: bool = Field(
        default=True,
        strict=True,
        description="true or false: a C-MOVE to it is finished when the caller has gone away",
    )
    deliver_when_down: bool = Field(
        default=False,
        strict=True,
        description="true or false: so is one that found it down; its caller is told that it failed, and why",
    )
    send: SendConfig = Field(
        default=SendConfig(),
        description="a mapping: associations_max, instances_per_second, bytes_per_second",
    )
    notify: tuple[Subject, ...] = Field(
        default=(), description='a list of what it is told of by itself: "availability"'
    )
    tls: Annotated[PeerTlsConfig | None, BeforeValidator(tls_or_not)] = Field(
        default=None,
        description="true, false, or a mapping (ca, certificate, key, ...): whether it is sent to over TLS",
    )
    only_tls: bool = Field(default=False, strict=True, description="true or false: it must come over TLS")
    certificate_names: tuple[str, ...] = Field(
        default=(), description="a list of names, one of which its certificate must have"
    )
    user_identity: UserIdentity | None = Field(default=None, description="ignored, optional or required")
    users: tuple[UserName, ...] = Field(
        default=(), description="a list of names of dicom.users who may come with this AE title"
    )


class RetrieveConfig(Section):
    pending_seconds: Seconds = Field(
        default=5.0, description="a duration: how often a waiting retrieve says Pending"
    )
    hold_seconds_max: Seconds = Field(
        default=7200.0, description="a duration: how long a retrieve is held at most"
    )
    held_max: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="a whole number from 1 to 1000: so many retrieves may wait at the same time "
        "(half of max_associations where it is not given)",
    )


class CommitmentConfig(Section):
    """Storage Commitment, PS3.4 annex J."""

    wait_for: Literal["received", "copies"] = Field(
        default="received",
        description='"received" (answer when an instance is safe in the archive) or "copies" (when all '
        "copies that policy demands are verified)",
    )
    seconds_max: Seconds = Field(
        default=7 * 86400.0, gt=0, description="a duration: how long an answer waits for copies at most"
    )


class DicomConfig(Section):
    listen: Host = Field(default="127.0.0.1", description="an IP address or a host name to listen on")
    port: int = Field(
        default=11112, ge=0, le=65535, strict=True, description="a TCP port from 0 (any free one) to 65535"
    )
    receivers: int = Field(default=1, ge=1, le=32, strict=True, description="a whole number from 1 to 32")
    check_called_ae: bool = Field(default=True, strict=True, description="true or false")
    max_associations: int = Field(
        default=50, ge=1, le=1000, strict=True, description="a whole number from 1 to 1000"
    )
    max_pdu_bytes: Size = Field(default=131072, ge=4096, le=1048576, description="a size from 4 KiB to 1 MiB")
    acse_timeout_seconds: Seconds = Field(default=30.0, gt=0, description="a duration above 0")
    dimse_timeout_seconds: Seconds = Field(default=60.0, gt=0, description="a duration above 0")
    network_timeout_seconds: Seconds = Field(default=600.0, gt=0, description="a duration above 0")
    max_dataset_bytes: Size = Field(default=DATASET_BYTES, ge=1, description="a size above 0")
    same_uid: Literal["reject", "keep first", "keep both"] = Field(
        default="keep both", description='"reject", "keep first" or "keep both"'
    )
    unknown_aes: tuple[Right, ...] = Field(
        default=RIGHTS, description=f"a list of rights: {', '.join(EVERY_RIGHT)}"
    )
    unknown_move_to: tuple[AeTitle, ...] | None = Field(
        default=None, description="a list of AE titles to which they may have instances moved; null: any"
    )
    aes: tuple[AeConfig, ...] = Field(
        default=(), description="a list of peers, each with ae_title, host and port"
    )
    tls: TlsConfig | None = Field(default=None, description="a mapping: port, certificate, key, ca, ...")
    listeners: tuple[ListenerConfig, ...] = Field(
        default=(), max_length=LISTENERS_MAX, description="a list of listeners, each with name and port"
    )
    source_address: Address | None = Field(
        default=None, description="an IP address of this machine, or null: where what we open comes from"
    )
    lockout: LockoutConfig = Field(
        default=LockoutConfig(), description="a mapping: failures, within_seconds, lasts_seconds, ..."
    )
    user_identity: UserIdentity = Field(default="ignored", description="ignored, optional or required")
    users: tuple[UserConfig, ...] = Field(default=(), description="a list of users, each with a name")
    retrieve: RetrieveConfig = Field(
        default=RetrieveConfig(), description="a mapping: pending_seconds, hold_seconds_max, held_max"
    )
    commitment: CommitmentConfig = Field(
        default=CommitmentConfig(), description="a mapping: wait_for, seconds_max"
    )

    @property
    def doors(self) -> tuple[Door, ...]:
        """What listens where."""
        return doors_of(self)


class ScrubConfig(Section):
    """Reading back what was stored long ago: by the age of each copy's last verification."""

    every: Seconds = Field(
        ge=3600, description="a duration of at least 1 hour: so long after it was verified a copy is again"
    )
    bytes_per_second: Size | None = Field(default=None, ge=1, description='a size: "50 MB" a second')
    drives: int = Field(
        default=1, ge=1, le=1000, strict=True, description="a whole number: so many of the library's drives"
    )
    at_once: int = Field(
        default=100,
        ge=1,
        le=10_000,
        strict=True,
        description="a whole number from 1 to 10000: copies that are queued at a time",
    )
    shelf: Literal["report", "ask"] = Field(
        default="report",
        description='"report" or "ask": whether a person is asked for cartridges on a shelf that are due',
    )

    def value(self) -> Scrub:
        return Scrub(
            timedelta(seconds=self.every),
            self.bytes_per_second,
            self.drives,
            self.at_once,
            self.shelf == "ask",
        )


class VolumeConfig(Section):
    """One of several volumes of a pool that need no drive."""

    name: Name = Field(description="a name")
    options: dict[str, Any] = Field(default={}, description="a mapping: what differs from the pool's options")


class PoolConfig(Section):
    """A named set of volumes of one kind: one file system, share or bucket, several of them, or the
    cartridges of one library."""

    name: Name = Field(description="a name")
    tier: Tier = Field(description="online, nearline or offline")
    layout: Layout = Field(default=Layout.PACKAGES, description="files or packages")
    driver: str = Field(default="folder", strict=True, description="a driver's name")
    options: dict[str, Any] = Field(default={}, description="a mapping: the driver's options")
    library: Name | None = Field(default=None, description="a library's name")
    site: Site = Field(
        default="", description="the name of the place where its volumes stand: pools there burn together"
    )
    reserve_bytes: Size = Field(default=0, description="a size: room that is never filled")
    scratch: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = Field(
        default=("*",),
        description='a pattern or a list of patterns ("HSM*") of the barcodes that may become its volumes',
    )
    scratch_low: int = Field(
        default=0,
        ge=0,
        le=100_000,
        strict=True,
        description="a whole number: with fewer blank cartridges left for it `hsm status` warns",
    )
    verify: Annotated[ReadBack, BeforeValidator(read_back_words)] = Field(
        default=ReadBack(),
        description='"every", "sample N%" or "other-drive": when what was written to its tapes is read back',
    )
    scrub: ScrubConfig | None = Field(
        default=None, description="a mapping: every, bytes_per_second, drives, at_once, shelf"
    )
    volumes: tuple[VolumeConfig, ...] = Field(
        default=(), description="a list of volumes, each with name and options"
    )

    def option_sets(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of each volume that needs no drive; one without ``volumes`` is called as the
        pool is."""
        if not self.volumes:
            return [(self.name, self.options)]
        return [(each.name, {**self.options, **each.options}) for each in self.volumes]


class LibraryConfig(Section):
    """A changer with drives; its drives and cartridges are found by inventory."""

    name: Name = Field(description="a name")
    driver: str = Field(strict=True, description="a driver's name")
    options: dict[str, Any] = Field(default={}, description="a mapping: the driver's options")
    drive_off_after: int = Field(
        default=3,
        ge=1,
        le=1000,
        strict=True,
        description="a whole number: with so many cartridges a drive fails before it goes out of service",
    )
    drives_reserved_for_recall: int = Field(
        default=0,
        ge=0,
        le=1000,
        strict=True,
        description="a whole number: so many drives do no work that nobody waits for (one always may)",
    )


class SealConfig(Section):
    quiet_seconds: Seconds = Field(
        default=60.0, description="a duration: how long a study is quiet before it is sealed"
    )
    package_bytes_max: Size | None = Field(
        default=None,
        ge=2**20,
        description="a size of at least 1 MiB: a study that makes more is sealed into several packages",
    )


class StagingConfig(Section):
    path: Folder = Field(description="a folder")
    size_max_bytes: Size = Field(default=STAGING_BYTES, ge=2**20, description="a size of at least 1 MiB")
    free_min_bytes: Size = Field(
        default=2**30, ge=0, description="a size: of its file system, so much is left to others"
    )


class HistoryConfig(Section):
    """Who retrieved what: what `hsm policy simulate` replays, and the fact ``accesses``."""

    detail_seconds: Seconds = Field(
        default=90 * 86400.0,
        ge=86400,
        description="a duration of at least 1 day: how long each retrieve is kept by itself, and not by day",
    )
    keep_seconds: Seconds = Field(
        default=3 * 366 * 86400.0,
        ge=86400,
        description="a duration of at least 1 day: how long retrieves and query hits are kept at all",
    )


class ScheduleConfig(Section):
    seal_seconds: Seconds = Field(default=10.0, gt=0, description="a duration above 0")
    policies_seconds: Seconds = Field(default=60.0, gt=0, description="a duration above 0")
    inventory_seconds: Seconds = Field(default=300.0, gt=0, description="a duration above 0")


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["auto", "human", "json"] = Field(default="auto", description="auto, human or json")


class ClockConfig(Section):
    """A clock that goes faster than the machine's: a day in minutes, for simulations."""

    speed: float = Field(
        default=1.0, ge=1, le=1000, strict=True, description="a number from 1 (the machine's clock) to 1000"
    )
    since: AwareDatetime | None = Field(
        default=None, description="a time with its zone: the machine's, when this clock shows `shows`"
    )
    shows: AwareDatetime | None = Field(
        default=None, description="a time with its zone: what this clock shows at `since`; `since` itself"
    )


class Config(Section):
    """The whole configuration, with every path absolute.

    May be built from a mapping like the file's with ``home`` and ``source`` added; :func:`hsm.config.load`
    does it with lines in its errors.
    """

    home: Path = Field(description="a folder")
    """The data folder, absolute ($HSM_HOME)."""
    source: Path = Field(description="a file")
    """The file it was read from; relative paths in it are relative to its folder."""
    archive: ArchiveConfig = Field(default=ArchiveConfig(), description="a mapping: ae_title")
    catalog: CatalogConfig = Field(description="a mapping: url")
    dicom: DicomConfig = Field(default=DicomConfig(), description="a mapping of DICOM settings")
    pools: tuple[PoolConfig, ...] = Field(description="a list of pools, one of them with tier: online")
    libraries: tuple[LibraryConfig, ...] = Field(default=(), description="a list of libraries")
    seal: SealConfig = Field(default=SealConfig(), description="a mapping: quiet_seconds")
    staging: StagingConfig = Field(description="a mapping: path, size_max_bytes, free_min_bytes")
    policies: Folder = Field(description="the path of a folder with policies")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="a mapping of intervals")
    history: HistoryConfig = Field(
        default=HistoryConfig(), description="a mapping: detail_seconds, keep_seconds"
    )
    deletion: DeletionConfig = Field(
        default=DeletionConfig(), description="a mapping: trash, late, forget_patient"
    )
    operator: OperatorConfig = Field(
        default=OperatorConfig(),
        description="a mapping: how operators are asked and told",
    )
    audit: AuditConfig = Field(
        default=AuditConfig(), description="a mapping: where the journal is anchored and streamed to"
    )
    log: LogConfig = Field(default=LogConfig(), description="a mapping: level, format")
    api: ApiConfig = Field(description="a mapping: socket, roles, tcp, two_person")
    clock: ClockConfig = Field(
        default=ClockConfig(), description="a mapping: speed, since, shows; for simulations only"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        return resolved(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check_whole(self) -> Config:
        problems = cross_errors(self.model_dump(mode="json"))
        if problems:
            raise PydanticCustomError("cross", "{text}", {"text": "; ".join(text for _, text in problems)})
        return self

    def pool(self, name: str) -> PoolConfig:
        """:raises KeyError: no such pool."""
        return next((p for p in self.pools if p.name == name), None) or _missing("pool", name)

    def library(self, name: str) -> LibraryConfig:
        """:raises KeyError: no such library."""
        return next((x for x in self.libraries if x.name == name), None) or _missing("library", name)


def _missing(noun: str, name: str) -> Any:
    raise KeyError(f"the configuration has no {noun} {name!r}")
