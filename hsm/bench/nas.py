"""What the nas driver's helper processes cost: the folder driver on the same folder in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivers.folder import FolderStore
from drivers.nas.helpers import Helpers, Limits
from drivers.nas.store import NasStore, Settings
from hsm.bench.frame import Report, interleaved
from hsm.bench.moving import made_up, report, through


def run(size: int, rounds: int, folder: Path, say: Callable[[str], None]) -> Report:
    """Measure in ``folder``; on a mount, to measure that mount.

    :param size: bytes of the object.
    """
    pool = folder / "pool"
    pool.mkdir()
    helped, plain = NasStore(Settings(str(pool)), Helpers(Limits())), FolderStore(pool)
    try:
        given = made_up(folder / "object", size)
        say(f"one object of {size >> 20} MiB, {rounds} rounds")
        times = interleaved(
            {
                "nas": lambda n: through(helped, given, f"nas-{n}"),
                "folder": lambda n: through(plain, given, f"folder-{n}"),
            },
            rounds,
        )
    finally:
        helped.close()
    return report("nas", times, given, {"rounds": rounds, "folder": str(folder)}, ())
