"""An instance of any size arrives and leaves in bounded memory: a daemon in its own process, its resident
memory. `make large` does it with 4 GiB (HSM_LARGE_MIB)."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from hsm.bench import ingest as bench
from hsm.bench.ingest_sender import Sender
from tests.story.archive import CONFIG, KEEP, Archive, needs_dcmtk, running
from tests.wire.large import LargeSender

MIB = 1 << 20
SIZE = int(os.environ.get("HSM_LARGE_MIB", "600")) * MIB
RESIDENT_MAX = 300 * MIB
STUDY = "1.2.826.1"
T = TypeVar("T")

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"),
    pytest.mark.timeout(120 + SIZE // MIB),
]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    # Nothing is sealed meanwhile.
    roomy = CONFIG.replace("size_max_bytes: 256 MiB", "size_max_bytes: 8 GiB")
    assert roomy != CONFIG, "what could not be recalled is not received"
    made = Archive(tmp_path / "home", f"sqlite:///{tmp_path}/catalog.db", KEEP, roomy, quiet=86400)
    with running(made):
        yield made


def peak(archive: Archive, what: str, act: Callable[[], T]) -> tuple[T, int]:
    """What the act returns, and the most memory that the daemon held meanwhile (proc(5), VmHWM)."""
    Path(f"/proc/{archive.pid}/clear_refs").write_text("5")
    started = time.monotonic()
    result = act()
    seconds = time.monotonic() - started
    status = Path(f"/proc/{archive.pid}/status").read_text()
    resident = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    print(f"{SIZE // MIB} MiB {what}: {seconds:.0f} s, {resident // MIB} MiB resident at most")
    return result, resident


@pytest.mark.campaign
def test_a_large_instance_arrives_and_leaves_in_bounded_memory(archive: Archive) -> None:
    sender = LargeSender(archive.port, STUDY)
    digest, resident = peak(archive, "received", lambda: sender.send_large(f"{STUDY}.1.1", SIZE))
    sender.close()
    (stored,) = (archive.home / "online").glob("studies/**/*.dcm")
    with open(stored, "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert 20 * MIB < resident < RESIDENT_MAX
    if needs_dcmtk() is None:
        done, resident = peak(archive, "sent to getscu", lambda: get(archive))
        assert done.returncode == 0, done.stderr
        assert re.search(r"Completed Suboperations *: 1", done.stderr)
        assert resident < RESIDENT_MAX


def get(archive: Archive) -> subprocess.CompletedProcess[str]:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
    return archive.dcmtk("getscu", "-v", "-S", "+xt", "--ignore", *keys, timeout=60 + SIZE // MIB)


def test_the_sender_says_what_the_receiver_refuses(tmp_path: Path) -> None:
    """Or a benchmark would count what was not stored."""
    with bench.ours(tmp_path / "hsm", bench.Settings()) as archive:
        sender = Sender(archive.port, "not.a.uid")
        with pytest.raises(ConnectionError, match="not stored"):
            sender.send(1, 4_000)
        sender._sock.close()
