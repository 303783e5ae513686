"""The configuration of where studies are kept: pools, volumes, libraries, packages, the staging area."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hsm.config.fields import Folder, Name, Seconds, Section, Site, Size, one_or_more, read_back_words
from hsm.config.stagingrules import STAGING_BYTES
from hsm.fixity import Scrub
from hsm.model import Layout, ReadBack, Tier


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
