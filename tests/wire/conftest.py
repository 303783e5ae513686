"""A DICOM server on a free port with in-memory parts behind it, and a destination for C-MOVE."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from wire_fakes import FakeArchive, FakeCommitments, FakeDeliveries, FakeIngest, FakeRetrievals, quick_config
from wire_tls import Authority
from wire_world import Receiver, Running, StartServer, eventually

from hsm.clock import Clock, SystemClock
from hsm.config import DicomConfig
from hsm.dicom.server import DicomServer


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers; each is stopped at the end, and must leave no thread behind."""
    before = set(threading.enumerate())
    running: list[Running] = []

    def start(clock: Clock | None = None, config: DicomConfig | None = None, **changes: Any) -> Running:
        ingest = FakeIngest()
        archive, retrievals, deliveries = FakeArchive(ingest), FakeRetrievals(ingest), FakeDeliveries()
        commitments = FakeCommitments()
        server = DicomServer(
            config or quick_config(**changes),
            "HSM",
            ingest,
            archive.select,
            archive.find,
            retrievals,
            deliveries,
            commitments,
            clock or SystemClock(),
        )
        server.start()
        running.append(Running(server, ingest, archive, retrievals, deliveries, commitments))
        return running[-1]

    yield start
    for each in running:
        each.server.stop(0.0)
    eventually(lambda: not set(threading.enumerate()) - before)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA of the tests' own, with certificates for the archive and for a peer."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def archive(start_server: StartServer) -> Running:
    return start_server()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()
