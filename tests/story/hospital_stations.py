"""The workstations of the hospital: they ask by C-MOVE, some of them lose patience, and all of them receive.

What a request is, and when it is owed a delivery, is decided here:

- A C-MOVE is one request, known by the AE title that asked and its Message ID: sub-operations carry both
  (PS3.7 section 9.3.1). Asking again is a request of its own and is delivered on its own.
- It is owed once the archive was heard on it: a Pending or a final response that promises delivery. It is
  also fulfilled by a success, which must come after every instance.
- A workstation that was left without any answer (its patience or the daemon ended first) does not know
  whether the archive ever read its request. It asks again; of the unheard one nothing is expected, and if
  the archive delivers all the same, it does so once.
- A request that ends with a failure is asked again later, as a person would.
"""

from __future__ import annotations

import itertools
import random
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from tests.story.archive import dataset_digest
from tests.story.hospital import Hospital, title
from tests.story.hospital_script import DCMTK_STATIONS, WORKSTATIONS, Ask
from tests.story.hospital_studies import MadeStudy, digest

SYNTAX = "1.2.840.10008.1.2.1"
LOST_SECONDS = 30.0
"""Of the machine's: without a word for so long, an association is lost."""
TRIES_MAX = 40
AGAIN_SECONDS = (60.0, 900.0)
"""Between a request that came to nothing and the next try."""
PROMISED = "delivered later"


@dataclass(slots=True)
class Request:
    """One C-MOVE and what became of it, as its workstation saw it."""

    station: int
    message_id: int
    study: str
    at: float
    pendings: int = 0
    end: str = "open"
    """success, failed, promised, left (its patience was over), lost (the association was), unreachable."""
    status: int | None = None
    comment: str = ""
    ended: float = 0.0
    wanted_since: float = 0.0
    """When the person first asked."""

    @property
    def heard(self) -> bool:
        return self.pendings > 0 or self.end in ("success", "promised", "failed")

    @property
    def owed(self) -> bool:
        """Whether its workstation may count on getting the study for this very request."""
        return self.end in ("success", "promised") or (self.pendings > 0 and self.end in ("left", "lost"))

    def __str__(self) -> str:
        status = "" if self.status is None else f" {self.status:04X}"
        return (
            f"{title(self.station)} #{self.message_id} {self.study} at {self.at:.0f}: {self.end}{status} "
            f"after {self.ended - self.at:.0f} s, {self.pendings} pending {self.comment}"
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """One instance that a workstation was sent."""

    station: int
    message_id: int
    """Of the C-MOVE that it came for; 0 where the receiver does not tell."""
    uid: str
    digest: str
    at: float


@dataclass(slots=True)
class Stations:
    """All of them, and what they asked and got."""

    hospital: Hospital
    studies: tuple[MadeStudy, ...]
    seed: int
    requests: list[Request] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: {n: itertools.count(1) for n in range(1, WORKSTATIONS + 1)})
    _sockets: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _dcmtk: dict[int, threading.Lock] = field(
        default_factory=lambda: {number: threading.Lock() for number in DCMTK_STATIONS}
    )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Their receivers."""
        servers, processes = [], []
        try:
            for number in range(1, WORKSTATIONS + 1):
                if number in DCMTK_STATIONS:
                    processes.append(self._storescp(number))
                else:
                    servers.append(self._pynetdicom(number))
            yield
        finally:
            for server in servers:
                server.shutdown()
            for process in processes:
                process.kill()
                process.wait()
            for held in self._sockets:
                held.close()
            self._collect()

    def folder(self, station: int) -> Path:
        return self.hospital.home / f"station{station}"

    def _pynetdicom(self, number: int) -> Any:
        ae = AE(title(number))
        for sop_class in (CTImageStorage, MRImageStorage):
            ae.add_supported_context(sop_class, SYNTAX)

        def received(event: evt.Event) -> int:
            request: Any = event.request
            data = request.DataSet.getvalue()
            asked_by = str(request.MoveOriginatorApplicationEntityTitle or "").strip()
            receipt = Receipt(
                number,
                int(request.MoveOriginatorMessageID or 0),
                str(request.AffectedSOPInstanceUID),
                digest(data),
                self.hospital.seconds(),
            )
            with self._lock:
                if asked_by != title(number):
                    self.faults.append(f"{receipt} came on behalf of {asked_by!r}")
                self.receipts.append(receipt)
            return 0

        port = self.hospital.ports[title(number)]
        return ae.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, received), (evt.EVT_CONN_OPEN, self._opened)],
        )

    def _opened(self, event: evt.Event) -> None:
        """pynetdicom forgets to close a socket whose other end is gone: it is closed when the day is over."""
        held = event.assoc.dul.socket
        if held is not None and held.socket is not None:
            with self._lock:
                self._sockets.append(held.socket)

    def _storescp(self, number: int) -> subprocess.Popen[bytes]:
        self.folder(number).mkdir(exist_ok=True)
        port = self.hospital.ports[title(number)]
        line = [
            "storescp",
            "--fork",
            "-aet",
            title(number),
            "-od",
            str(self.folder(number)),
            "+B",
            "+uf",
            str(port),
        ]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _collect(self) -> None:
        """What storescp wrote: it does not tell for which request."""
        for number in DCMTK_STATIONS:
            for path in sorted(self.folder(number).glob("*")):
                data = path.read_bytes()
                uid = re.search(rb"UI..(1\.2\.826\.0\.1\.3680043\.10\.511\.7\.[0-9.]+)\0?", data[132:1000])
                assert uid is not None, path
                self.receipts.append(Receipt(number, 0, uid[1].decode(), dataset_digest(data), 0.0))

    # Asking

    def person(self, ask: Ask) -> None:
        """Somebody who wants a study, and asks until the archive has taken that on."""
        since, rng = ask.at, random.Random(f"{self.seed} {ask}")
        tries, pause = 0, AGAIN_SECONDS[0]
        while tries < TRIES_MAX:
            request = self.move(ask, since)
            if request.owed:
                return
            if request.end == "unreachable":  # the archive is down: a crash counts for nobody's patience
                pause = min(pause * 1.5, AGAIN_SECONDS[1])
            else:
                tries, pause = tries + 1, AGAIN_SECONDS[0]
            self.hospital.sleep(rng.uniform(pause, AGAIN_SECONDS[1]))
        with self._lock:
            self.faults.append(f"{title(ask.station)} gave up asking for study {ask.study}")

    def move(self, ask: Ask, since: float) -> Request:
        """One C-MOVE, to its end."""
        with self._lock:
            request = Request(
                ask.station,
                next(self._ids[ask.station]) if ask.station not in DCMTK_STATIONS else 0,
                self.studies[ask.study].uid,
                self.hospital.seconds(),
                wanted_since=since,
            )
            self.requests.append(request)
        try:
            if ask.station in DCMTK_STATIONS:
                self._movescu(ask, request)
            else:
                self._send_move(ask, request)
        finally:
            request.ended = self.hospital.seconds()
        return request

    def _send_move(self, ask: Ask, request: Request) -> None:
        with socket.socket() as probe:  # pynetdicom leaves its socket open where nobody listens
            if probe.connect_ex(("127.0.0.1", self.hospital.port)):
                request.end = "unreachable"
                return
        ae = AE(title(ask.station))
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
        # A Pending is due every few of the hospital's seconds. Without a limit pynetdicom would wait for
        # ever for a daemon that was killed between two of its looks.
        ae.dimse_timeout = ae.network_timeout = LOST_SECONDS
        association = ae.associate(
            "127.0.0.1",
            self.hospital.port,
            ae_title="HSM",
            evt_handlers=[(evt.EVT_CONN_OPEN, self._opened)],
        )
        if not association.is_established:
            request.end = "unreachable"
            return
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", request.study
        over = threading.Event()
        timer = self._patience(ask, over, association.abort)
        try:
            for status, _ in association.send_c_move(
                identifier,
                title(ask.station),
                StudyRootQueryRetrieveInformationModelMove,
                msg_id=request.message_id,
                priority=ask.priority,
            ):
                code = status.get("Status")
                if code is None:
                    request.end = "left" if over.is_set() else "lost"
                elif code == 0xFF00:
                    request.pendings += 1
                    if request.pendings == 1 and ask.patience is not None:
                        timer.start()
                else:
                    self._finished(request, int(code), str(status.get("ErrorComment", "")))
        except (RuntimeError, ValueError, AttributeError, OSError):
            # pynetdicom's own surprise at an association that is aborted between two of its steps
            request.end = "left" if over.is_set() else "lost"
        finally:
            timer.cancel()
            if association.is_established:
                association.release()
        if request.end == "open":
            request.end = "left" if over.is_set() else "lost"

    def _patience(self, ask: Ask, over: threading.Event, give_up: Callable[[], None]) -> threading.Timer:
        """When it is over, ``over`` is set and the workstation gives up. It is counted from the archive's
        first word: how long this machine takes to get that far is not the hospital's time."""
        assert self.hospital.clock is not None

        def end() -> None:
            over.set()
            give_up()

        seconds = 1e6 if ask.patience is None else ask.patience / self.hospital.clock.speed
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        return timer

    def _finished(self, request: Request, status: int, comment: str) -> None:
        request.status, request.comment = status, comment
        request.end = "success" if status == 0 else "promised" if PROMISED in comment else "failed"

    def _movescu(self, ask: Ask, request: Request) -> None:
        name = title(ask.station)
        command = ["movescu", "-v", "-S", "-aet", name, "-aem", name, "-aec", "HSM"]
        command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={request.study}"]
        with subprocess.Popen(
            [*command, "127.0.0.1", str(self.hospital.port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            over, text = threading.Event(), ""
            timer = self._patience(ask, over, process.kill)
            try:
                for line in process.stdout or ():
                    text += line.decode(errors="replace")
                    if b"(Pending)" in line:
                        request.pendings += 1
                        if request.pendings == 1 and ask.patience is not None:
                            timer.start()
            finally:
                timer.cancel()
        final = re.search(r"Received Final Move Response \(([^)]*)\)", text)
        if final is not None:
            status = 0 if final[1].startswith("Success") else 0xA702
            self._finished(request, status, text if PROMISED in text else "")
        elif "Association Request Failed" in text or ("cannot" in text.lower() and not request.pendings):
            request.end = "unreachable"
        else:
            request.end = "left" if over.is_set() else "lost"
