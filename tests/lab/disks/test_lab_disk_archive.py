"""The whole archive with a pool on real NFS, whose server is cut off, down, frozen, full and renumbered.

A migration is under way. Nobody lends a hand, and what modalities send meanwhile is taken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nfsserver
import pytest
from nfsserver import NfsServer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from robotarchive import PATIENCE_SECONDS, expected, retrieved, store, write_study

from tests.story.archive import Archive, configured, running, until

STUDIES_EACH = int(os.environ.get("HSM_LAB_STUDIES_EACH", "10"))
"""Sent before each trouble."""
PIXEL_BYTES = 60_000
CONFIG = configured(
    """\
  - {{name: nas, tier: nearline, driver: nas,
     options: {{path: "{nas}", timeout_seconds: 8, probe_seconds: 5}}}}
""",
    pending=1,
    round_=1,
    inventory=5,
)
ROAD = """\
policy: road
priority: 1
copies: {nas: 1}
rules:
  - {name: to nas, copy to: nas, when: copies(nas) = 0}
  - {name: free online, release from: online, when: copies(nas) >= 1}
schedule: every 1 second
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NfsServer]:
    made = NfsServer(tmp_path, mebibytes=64)
    yield made
    made.close()


def problems(archive: Archive) -> str:
    return " ".join(archive.ask(lambda client: client.status())["daemon"]["problems"])


def told(archive: Archive, point: Path) -> bool:
    """Whether the status says what is wrong with the mount, or the queue that there is no room on it."""
    if str(point) in problems(archive):
        return True
    shown = archive.command("queue", "ls", "--json").stdout
    return "are free" in shown or "No space" in shown


def only_on_nas(archive: Archive, studies: int) -> bool:
    """Every study has its one copy there, and nothing is under way."""
    shown = archive.ask(lambda client: client.status())
    copies = {row["name"]: row["copies"] for row in shown["pools"] if row["copies"]}
    return copies == {"nas": {"verified": studies}} and not shown["queue"]


def troubles(server: NfsServer) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    ballast = server.served / "ballast"

    def fill() -> None:
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], check=False, capture_output=True)

    return {
        "the wire is cut": (nfsserver.cut_the_wire, nfsserver.mend_the_wire),
        "the server is shut down": (nfsserver.stop_threads, nfsserver.start_threads),
        "its disk hangs": (server.freeze, server.thaw),
        "it is full": (fill, ballast.unlink),
        "it is another one": (server.export_as_another, server.export_as_before),
    }


@pytest.mark.parametrize(
    "names",
    [
        ("the wire is cut", "the server is shut down", "its disk hangs"),
        ("it is full", "it is another one"),
    ],
    ids=["it hangs", "it refuses"],
)
def test_an_nfs_server_in_trouble_delays_a_migration_and_costs_nothing_else(
    tmp_path: Path, server: NfsServer, names: tuple[str, ...]
) -> None:
    home, sources = tmp_path / "home", tmp_path / "sources"
    sources.mkdir()
    settings = {"quiet": 1, "hold": 300, "nas": str(server.seen)}
    archive = Archive(home, f"sqlite:///{home / 'catalog.db'}", ROAD, CONFIG, **settings)
    sent: list[Path] = []
    studies = 0

    def modality(count: int) -> None:
        nonlocal studies
        fresh = [
            path
            for number in range(studies, studies + count)
            for path in write_study(sources, number, PIXEL_BYTES)
        ]
        store(archive, fresh)
        sent.extend(fresh)
        studies += count

    with running(archive):
        for name in names:
            fail, mend = troubles(server)[name]
            modality(STUDIES_EACH)
            fail()
            try:
                until(lambda: told(archive, server.point), f"{name}: it is told", PATIENCE_SECONDS)
                began = time.monotonic()
                modality(2)
                print(
                    f"{name}: told; stored meanwhile in {time.monotonic() - began:.1f} s: {problems(archive)}"
                )
            finally:
                mend()
            began = time.monotonic()
            until(lambda: only_on_nas(archive, studies), f"{name}: all is where it belongs", PATIENCE_SECONDS)
            print(f"{name}: all there {time.monotonic() - began:.1f} s after its end")
            assert not problems(archive)
        assert retrieved(archive, range(studies), tmp_path / "received") == expected(sent)
        checked = archive.command("catalog", "check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
    left = {name for name in server.files() if not name.startswith(".hsm-pool")}
    assert len(left) == studies, "each package once, and nothing half-done"
