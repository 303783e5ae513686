"""An instance of any size arrives in bounded memory: a daemon in its own process, its resident memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hsm.bench import ingest as bench
from hsm.bench.ingest_sender import Sender

SIZE = 600 << 20
RESIDENT_MAX = 300 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_large_instance_arrives_in_bounded_memory(tmp_path: Path) -> None:
    before = set(bench._processes())
    with bench.ours(tmp_path / "hsm", bench.Settings()) as archive:
        born = {pid for pid, parent in bench._processes().items() if parent == os.getpid()} - before
        assert born
        with bench._memory(born) as peak:
            sender = Sender(archive.port, "1.2.826.1")
            sender.send(1, SIZE)
            sender.close()
        (stored,) = (tmp_path / "hsm" / "online").glob("studies/**/*.dcm")
        assert stored.stat().st_size > SIZE - 10_000
    assert 20 << 20 < peak[0] < RESIDENT_MAX


def test_the_sender_says_what_the_receiver_refuses(tmp_path: Path) -> None:
    """Or a benchmark would count what was not stored."""
    with bench.ours(tmp_path / "hsm", bench.Settings()) as archive:
        sender = Sender(archive.port, "not.a.uid")
        with pytest.raises(ConnectionError, match="not stored"):
            sender.send(1, 4_000)
        sender._sock.close()
