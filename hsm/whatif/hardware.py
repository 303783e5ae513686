"""The site that a configuration describes, as far as it does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hsm.config import Config
from hsm.config.storage import LibraryConfig, PoolConfig
from hsm.config.units import parse_size
from hsm.whatif.source import WhatIfError
from policies.whatif.site import Kind, Library, Pool, Site
from policies.whatif.tape import LTO8, DriveModel

_RATES = {"online": (900e6, 700e6, 0.005), "nearline": (250e6, 200e6, 0.05), "offline": (100e6, 100e6, 0.1)}
"""Reading and writing in bytes a second, seconds to the first byte: of disks of each tier."""


def site_of(config: Config) -> Site:
    """Pools and libraries as configured, with usual rates.

    :raises WhatIfError: the capacity of a pool is not known here.
    """
    libraries = tuple(_library(each) for each in config.libraries)
    pools = tuple(_pool(each) for each in config.pools)
    try:
        return Site(
            pools,
            libraries,
            staging_bytes=config.staging.size_max_bytes,
            quiet_seconds=config.seal.quiet_seconds,
        )
    except ValueError as error:
        raise WhatIfError(f"{config.source}: {error}; describe the hardware with --site FILE") from error


def _pool(pool: PoolConfig) -> Pool:
    if pool.library is not None:
        return Pool(pool.name, Kind.TAPE, pool.tier.value, pool.site, library=pool.library)
    read, write, latency = _RATES[pool.tier.value]
    kind = Kind.OBJECT if pool.driver == "s3" else Kind.DISK
    return Pool(
        pool.name,
        kind,
        pool.tier.value,
        pool.site,
        capacity=max(1, _capacity(pool) - pool.reserve_bytes),
        read_bytes_per_second=read,
        write_bytes_per_second=write,
        latency_seconds=latency,
    )


def _capacity(pool: PoolConfig) -> int:
    """Bytes of all its volumes."""
    return sum(_volume_capacity(pool, options) for _, options in pool.option_sets())


def _volume_capacity(pool: PoolConfig, options: dict[str, Any]) -> int:
    """Bytes of one volume's file system, or as its options say."""
    given = _size(options.get("capacity_bytes")) or _size(options.get("quota_bytes"))
    if given:
        return given
    path = options.get("path") if pool.driver != "sftp" else None
    try:
        folder = Path(str(path)) if path else None
        while folder is not None and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if folder is not None:
            return shutil.disk_usage(folder).total
    except OSError as error:
        raise WhatIfError(f"pool {pool.name}: {error}; describe the hardware with --site FILE") from error
    raise WhatIfError(
        f"it is not known how large pool {pool.name} is: describe the hardware with --site FILE"
    )


def _library(library: LibraryConfig) -> Library:
    options = library.options
    drives = _count(options.get("drives"), 2)
    size = _size(options.get("capacity_bytes"))
    drive = LTO8 if not size else _sized(size)
    cartridges = options.get("cartridges")
    return Library(
        library.name,
        drive,
        drives=drives,
        slots=max(drives, _count(options.get("slots"), 24)),
        cartridges=_count(cartridges, 0) or None,
    )


def _sized(size: int) -> DriveModel:
    return DriveModel(name="LTO-8", volume_bytes=size)


def _count(value: Any, default: int) -> int:
    if isinstance(value, (list, tuple)):
        return len(value)
    return value if isinstance(value, int) and value > 0 else default


def _size(value: Any) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(parse_size(value)) if isinstance(value, str) else 0
    except ValueError:
        return 0
