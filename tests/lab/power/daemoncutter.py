"""Runs inside: what is left of an archive after a power cut, and its daemon at work until the next one.

``python tests/lab/power/daemoncutter.py FOLDER SEED [--last] [--ltfs]``; ``FOLDER`` outlives the machine and
holds the archive's home, ``acknowledged``, the studies whose storescu ended well, and ``report``, what was
found. With ``--ltfs`` a real LTFS writes the cartridges.

Each time: the copies that the catalog calls verified are read with the driver alone; a daemon is started
and must finish by itself what was begun; then more studies are sent and the power is cut while they are
being written. The last time every study is retrieved instead.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from robotarchive import (
    PATIENCE_SECONDS,
    TAPE_ONLY,
    ask_catalog,
    broken_promises,
    expected,
    needs_ltfs,
    on_tape,
    retrieved,
    robot_archive,
    settled,
    store,
    write_study,
)

from tests.story.archive import Archive, until

STUDIES_EACH = int(os.environ.get("HSM_LAB_STUDIES_EACH", "6"))
PIXEL_BYTES = 700_000
CUT_SECONDS = (0.0, 2.5)
"""After the first package of this time is under way."""


def acknowledged(folder: Path) -> list[int]:
    """Whole lines only: a cut may have come while one was written."""
    path = folder / "acknowledged"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [int(line) for line in lines if line.endswith("\n")]


def report(folder: Path, found: dict[str, object]) -> None:
    new = folder / "report.new"
    new.write_text(json.dumps(found))
    os.sync()
    new.rename(folder / "report")
    os.sync()


def cut_power() -> None:
    Path("/proc/sys/kernel/sysrq").write_text("1")
    Path("/proc/sysrq-trigger").write_text("c")


def send_more(archive: Archive, folder: Path, numbers: range) -> None:
    sources = Path("/tmp/sources")
    sources.mkdir()
    paths = [path for number in numbers for path in write_study(sources, number, PIXEL_BYTES)]
    store(archive, paths)
    with (folder / "acknowledged").open("a") as journal:
        journal.writelines(f"{number}\n" for number in numbers)
        journal.flush()
        os.fsync(journal.fileno())


def a_copy_is_under_way(home: Path) -> bool:
    return bool(ask_catalog(home, "SELECT 1 FROM request WHERE kind = 'copy' AND state = 'active' LIMIT 1"))


def everything_back(archive: Archive, numbers: list[int]) -> list[str]:
    """SOP Instance UIDs that are missing or come back otherwise than they were sent."""
    sources = Path("/tmp/all-sources")
    sources.mkdir()
    wanted = expected([path for number in numbers for path in write_study(sources, number, PIXEL_BYTES)])
    back = retrieved(archive, numbers, Path("/tmp/back"))
    return sorted(uid for uid, digest in wanted.items() if back.get(uid) != digest)


def main() -> None:
    folder, seed, last = Path(sys.argv[1]), int(sys.argv[2]), "--last" in sys.argv
    form = "ltfs" if "--ltfs" in sys.argv else "plain"
    assert form == "plain" or not needs_ltfs(), needs_ltfs()
    home, numbers = folder / "home", acknowledged(folder)
    found: dict[str, object] = {"acknowledged": len(numbers)}
    if (home / "catalog.db").exists():
        found["broken"] = broken_promises(home, form)
        found["verified before"] = sum(on_tape(home).values())
    archive = robot_archive(home, TAPE_ONLY, form)
    begun = time.monotonic()
    archive.start()
    until(lambda: settled(archive, len(numbers), 1), "it finishes by itself", PATIENCE_SECONDS)
    found |= {"finished after": round(time.monotonic() - begun, 1), "verified": sum(on_tape(home).values())}
    if last:
        found["changed"] = everything_back(archive, numbers)
        assert archive.stop() == 0, archive.log()
        found["broken"] = broken_promises(home, form)
        report(folder, found)
        return
    report(folder, found)
    chance = random.Random(seed)
    first = max(numbers, default=-1) + 1
    send_more(archive, folder, range(first, first + STUDIES_EACH))
    until(lambda: a_copy_is_under_way(home), "the first package goes on tape", PATIENCE_SECONDS)
    time.sleep(chance.uniform(*CUT_SECONDS))
    cut_power()


if __name__ == "__main__":
    main()
