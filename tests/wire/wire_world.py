"""A server under test with what it is joined to, and a destination for C-MOVE."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer
from wire_fakes import FakeArchive, FakeCommitments, FakeDeliveries, FakeIngest, FakeRetrievals
from wire_peers import Raw

from hsm.dicom.server import DicomServer


@dataclass
class Running:
    """A server under test and what it is joined to."""

    server: DicomServer
    ingest: FakeIngest
    archive: FakeArchive
    retrievals: FakeRetrievals
    deliveries: FakeDeliveries
    commitments: FakeCommitments
    context: ssl.SSLContext | None = None
    """For a peer that comes over TLS."""

    def dial(self, timeout: float = 10.0) -> Raw:
        """A connection to the server, over TLS if there is a context for it."""
        return Raw(self.port if self.context is None else self.server.tls_port, timeout, self.context)

    @property
    def port(self) -> int:
        return self.server.port


StartServer = Callable[..., Running]


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; fail when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


class Receiver:
    """A storage SCP that keeps dataset bytes as they came."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, bytes]] = []
        """SOP Instance UID, transfer syntax, dataset."""
        self.requests: list[Any] = []
        self.status = 0x0000
        self.associations = 0
        self.before: Callable[[], None] = lambda: None
        self.ae = AE("DEST")
        self.ae.network_timeout = 20
        self._server: Any = None

    def start(self, contexts: list[tuple[str, list[str]]], tls: ssl.SSLContext | None = None) -> int:
        for abstract, transfers in contexts:
            self.ae.add_supported_context(abstract, transfers)
        self.ae.add_supported_context(Verification)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ESTABLISHED, self._established)]
        self._server = self.ae.make_server(
            ("127.0.0.1", 0), evt_handlers=handlers, server_class=ThreadedAssociationServer, ssl_context=tls
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        if self._server is None:
            return
        for assoc in self._server.active_associations:
            assoc.abort()
        BaseServer.shutdown(self._server)
        self._server.server_close()
        self._thread.join()

    def _established(self, event: Any) -> None:
        self.associations += 1

    def _store(self, event: Any) -> int:
        self.before()
        self.requests.append(event.request)
        self.received.append(
            (
                str(event.request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                event.request.DataSet.getvalue(),
            )
        )
        return self.status
