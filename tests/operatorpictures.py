"""Pictures of ``hsm operator watch`` for the documentation: a made-up night, on real pseudo terminals.

``python -m tests.operatorpictures docs/pictures`` writes them anew; with ``play`` instead of a folder it is
the screen itself, on the terminal it is started on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cli.watch.app import Watch
from cli.watch.terminal import Look, environment_at_start, look
from tests.realterminal import ENTER, F4, TAB, Terminal
from tests.terminalpicture import save

Record = dict[str, Any]

MINUTE = timedelta(minutes=1)
# Barcode, priority, shelf, site, minutes since, minutes left, who waits, who walks, other copies.
WANTED: tuple[tuple[Any, ...], ...] = (
    ("MV0412L8", "stat", "B3-04", "", 12, 108, ("C-MOVE from ER_WS2 to ER_WS2", "C-GET from NEURO1"), "", ()),
    ("MV0117L8", "stat", "A1-17", "", 3, 117, ("C-MOVE from ICU_WS1 to ICU_WS1",), "bob (as operator)", ()),
    ("MV0388L8", "routine", "B3-11", "", 96, 24, ("C-MOVE from RAD5 to RAD5", "recall by dr.weber",
     "C-MOVE from RAD7 to RAD7"), "", (("MV1388L8", "vault 2", "north", 14400),)),
    ("MV0290L8", "routine", "A2-09", "", 41, 79, ("C-MOVE from RAD1 to RAD1",), "", ()),
    ("MV0533L8", "routine", "C1-02", "north", 130, None, ("delivery to TUMOURBOARD",), "", ()),
    ("MV0501L8", "prefetch", "C4-01", "", 220, None, ("priors for tomorrow's list",), "", ()),
    ("MV0077L7", "migration", "A1-07", "", 700, None, ("repack of LTO-7",), "", ()),
)  # fmt: skip
WRONG = "MV0413L8 (tape-a, full) is not wanted now: it belongs on shelf B3-05. Wanted: MV0412L8 (shelf B3-04)"


class Night:
    """Answers as a daemon's client would."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prompts(self, limit: int = 50, **_: object) -> list[Record]:
        now = datetime.now(UTC)
        return [_prompt(number, row, now) for number, row in enumerate(WANTED, start=1)][:limit]

    def picklist(self) -> Record:
        found = self.prompts()
        walks = ((found[1], found[0], found[2]), (found[3], found[4]))
        return {
            "walks": [
                {
                    "number": number,
                    "stops": [
                        {"site": each["site"], "shelf": each["stands"], "items": [each]} for each in walk
                    ],
                }
                for number, walk in enumerate(walks, start=1)
            ]
        }

    def status(self) -> Record:
        drives = [
            {"library": "lib1", "drive": 0, "barcode": "MV0044L8"},
            {"library": "lib1", "drive": 1, "barcode": None},
        ]
        return {
            "daemon": {"listen": {"ae_title": "ARCHIVE"}, "drives": drives},
            "mounts_open": len(WANTED),
        }

    def volumes(self, **_: object) -> list[Record]:
        return [{"name": "MV0410L8", "library": "lib1", "element": 103, "shelf": "B3-02", "pool": "tape-a"}]

    def queue(self, **_: object) -> list[Record]:
        return []

    def movements(self) -> list[Record]:
        return [
            {"barcode": "MV0321L8", "open": True, "kind": "export", "state": "left", "from": "lib1 slot 12",
             "to": "shelf 2-14 at vault", "left_by": "bob (as operator)", "planned_by": "carol"},
        ]  # fmt: skip

    def operator_scan(self, barcode: str) -> Record:
        return {"barcode": barcode, "verdict": "not wanted", "text": WRONG}


def _prompt(number: int, row: tuple[Any, ...], now: datetime) -> Record:
    barcode, priority, shelf, site, since, left, waiters, walker, others = row
    asked = now - since * MINUTE
    at = f" at {site}" if site else ""
    return {
        "id": number, "barcode": barcode, "state": "open", "pool": "tape-a", "library": "lib1",
        "where": f"shelf {shelf}{at}", "stands": shelf, "site": site, "priority": priority,
        "created_at": asked.isoformat(), "waiting_seconds": since * 60, "acked_by": walker,
        "acked_at": (now - 2 * MINUTE).isoformat() if walker else None, "note": "",
        "into": f"mail slot {100 + number}" if number < 4 else "",
        "deadline": (now + left * MINUTE).isoformat() if left else None,
        "requests": len(waiters), "bytes": 2_400_000_000 * number,
        "waiters": [{"who": who, "since": asked.isoformat()} for who in waiters],
        "alternatives": [
            {"barcode": code, "where": f"shelf {place} at {there}", "seconds": seconds}
            for code, place, there, seconds in others
        ],
    }  # fmt: skip


def _watch(terminal: Look) -> Watch:
    return Watch(lambda name: Night, terminal, name="anna")  # type: ignore[arg-type,return-value]


def photograph(folder: Path) -> None:
    """Write every picture into ``folder``."""
    xterm = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    _picture(folder / "operator-80x24.png", (80, 24), xterm)
    _picture(folder / "operator-200x50.png", (200, 50), xterm)
    _picture(folder / "operator-pick-list.png", (80, 24), xterm, TAB)
    _picture(folder / "operator-question.png", (80, 24), xterm, F4)
    _picture(folder / "operator-wrong.png", (80, 24), xterm, "MV0413L8" + ENTER)
    _picture(folder / "operator-vt100.png", (80, 24), {"TERM": "vt100", "LANG": "C"})
    for size in ((80, 24), (200, 50)):
        name = f"operator-{size[0]}x{size[1]}.svg"
        (folder / name).write_text(asyncio.run(_svg(size)))


def _picture(path: Path, size: tuple[int, int], environment: Mapping[str, str], keys: str = "") -> None:
    command = [sys.executable, "-m", "tests.operatorpictures", "play"]
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())} | environment
    with Terminal(command, given, *size) as terminal:
        terminal.until(lambda shown: "volumes wanted" in shown, "the screen")
        terminal.type(keys)
        quiet = time.monotonic() + 1.0
        while time.monotonic() < quiet:
            terminal.read()
        save(terminal.emulator, path)


async def _svg(size: tuple[int, int]) -> str:
    app = _watch(Look())
    async with app.run_test(size=size) as pilot:
        while app.state.picture is None:
            await pilot.pause(0.05)
        return app.export_screenshot(title="hsm operator watch")


if __name__ == "__main__":
    if sys.argv[1] == "play":
        _watch(look(environment_at_start())).run(mouse=False)
    else:
        photograph(Path(sys.argv[1]))
