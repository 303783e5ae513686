"""The configuration's shape: frozen pydantic models, nothing unknown let through.

Its larger parts are in modules of their own beside this one. A field's ``description`` is what an error
report says is expected there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from hsm.config.access import ApiConfig
from hsm.config.audit import AuditConfig
from hsm.config.deletion import DeletionConfig
from hsm.config.dicom import DicomConfig
from hsm.config.fields import AeTitle, Folder, Name, Seconds, Section, check_url
from hsm.config.operators import OperatorConfig
from hsm.config.rules import cross_errors, resolved
from hsm.config.storage import LibraryConfig, PoolConfig, SealConfig, StagingConfig


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
