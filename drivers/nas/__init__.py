"""Storage on an NFS or SMB mount (`driver: nas`), in helper processes that can be given up on.

``worker`` is such a process, ``frames`` what goes through its pipes, ``segment`` the
memory that gets come through, ``helpers`` starts, lends and
buries them, ``store`` is the Store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivers import options as opt
from drivers.base import Family
from drivers.errors import Permanent

if TYPE_CHECKING:
    from drivers.nas.store import NasStore

OPTIONS = frozenset(
    {"path", "expect_uuid", "reserve_bytes", "timeout_seconds", "probe_seconds", "helpers", "stuck_max"}
)


def open_nas(options: Mapping[str, Any]) -> NasStore:
    """A store that looks at its folder at the first call. :raises Permanent: an option is unusable."""
    from drivers.nas.helpers import Helpers, Limits
    from drivers.nas.store import NasStore, Settings

    path = opt.text(options, "path")
    if path is None:
        raise Permanent("driver nas: option path is missing")
    settings = Settings(
        path,
        opt.text(options, "expect_uuid"),
        opt.size(options, "reserve_bytes") or 0,
        opt.factor(options, "timeout_seconds", 30.0),
        opt.factor(options, "probe_seconds", 5.0),
    )
    limits = Limits(opt.count(options, "helpers", 2) or 8, opt.count(options, "stuck_max", 1) or 4)
    return NasStore(settings, Helpers(limits))


def _check(options: Mapping[str, Any]) -> None:
    open_nas(options)  # nothing is started or looked at before the first call


# No path_option: with one the daemon would open files below the path itself, and hang with the server.
FAMILY = Family(
    name="nas",
    options=OPTIONS,
    required=frozenset({"path"}),
    open_store=open_nas,
    check=_check,
    kind="nas",
)
