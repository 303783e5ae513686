"""Runs inside: check what the last power cut left, then write until the power is cut again.

``python tests/lab/power/cutter.py FOLDER SEED [--last]``; ``FOLDER`` outlives the machine and holds:
``flushed``, the numbers of packages that a returned flush covers, and ``report``, what was found.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from halls import open_library

from drivers.base import Store, VolumeLabel
from drivers.tape.library import TapeLibrary

LABEL = VolumeLabel("PAC001L6", "uuid-of-PAC001L6", "tape-a")
PACKAGE_BYTES = (1_000, 600_000)
CUT_SECONDS = (0.2, 3.0)
FLUSH_EVERY = 3


def package(number: int) -> bytes:
    chance = random.Random(number)
    return chance.randbytes(chance.randrange(*PACKAGE_BYTES))


def flushed_before(folder: Path) -> set[int]:
    """Whole lines only: a cut may have come while one was written."""
    path = folder / "flushed"
    if not path.exists():
        return set()
    return {int(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")}


def mounted(library: TapeLibrary, folder: Path) -> Store:
    drive = library.inventory().drives()[0].address
    if not (folder / "labelled").exists():
        library.label(LABEL, drive)
        (folder / "labelled").touch()
        os.sync()
    return library.mount(LABEL, drive)


def check(store: Store, flushed: set[int]) -> dict[str, list[int]]:
    """Every promise, in numbers of packages that break it."""
    listed = {int(stat.key) for stat in store.list()}
    wrong = [number for number in sorted(listed) if b"".join(store.get(f"{number}")) != package(number)]
    return {"listed": sorted(listed), "lost": sorted(flushed - listed), "wrong": wrong}


def cut_power_after(seconds: float) -> None:
    time.sleep(seconds)
    Path("/proc/sys/kernel/sysrq").write_text("1")
    Path("/proc/sysrq-trigger").write_text("c")


def write_on(store: Store, first: int, folder: Path) -> None:
    """Until the power is cut."""
    with (folder / "flushed").open("a") as journal:
        waiting: list[int] = []
        number = first
        while True:
            data = package(number)
            store.put(f"{number}", io.BytesIO(data), len(data), hashlib.sha256(data).digest())
            waiting.append(number)
            number += 1
            if len(waiting) == FLUSH_EVERY:
                store.flush()
                journal.writelines(f"{each}\n" for each in waiting)
                journal.flush()
                os.fsync(journal.fileno())
                waiting.clear()


def main() -> None:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    store = mounted(open_library(), folder)
    flushed = flushed_before(folder)
    report = check(store, flushed)
    new = folder / "report.new"
    new.write_text(json.dumps(report))
    os.sync()
    new.rename(folder / "report")
    os.sync()
    if "--last" in sys.argv:
        return
    chance = random.Random(seed)
    cut = threading.Thread(target=cut_power_after, args=(chance.uniform(*CUT_SECONDS),), daemon=True)
    cut.start()
    write_on(store, max([*report["listed"], *flushed, -1]) + 1, folder)


if __name__ == "__main__":
    main()
