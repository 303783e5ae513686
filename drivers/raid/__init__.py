"""The driver family ``raid``: a file system on a RAID array, over Fibre Channel or local.

The pool is known by its file system's UUID and the sentinel file in its folder, never by its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers import options as opt
from drivers.base import Family, Store
from drivers.errors import Permanent


def _open(options: Mapping[str, Any]) -> Store:
    from drivers.raid.store import RaidStore

    path, fs_uuid = opt.text(options, "path"), opt.text(options, "fs_uuid")
    if not path or not fs_uuid:
        raise Permanent(
            "driver raid: options path and fs_uuid (`lsblk -o NAME,UUID,MOUNTPOINT` shows it) are needed"
        )
    clean = options.get("clean", True)
    if not isinstance(clean, bool):
        raise Permanent(f"driver raid: option clean: expected true or false, found {clean!r}")
    reserve, identity = opt.size(options, "reserve_bytes") or 0, opt.text(options, "expect_uuid")
    return RaidStore(path, fs_uuid, reserve, identity, clean)


FAMILY = Family(
    name="raid",
    options=frozenset({"path", "fs_uuid", "reserve_bytes", "expect_uuid", "clean"}),
    open_store=_open,
    required=frozenset({"path", "fs_uuid"}),
    path_option="path",
)
