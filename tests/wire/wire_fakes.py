"""In-memory stand-ins for what the DICOM server is joined to, and small pieces of DICOM to feed it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom.data
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from hsm.commitment import Item
from hsm.config import DicomConfig
from hsm.dicom.header import read_header
from hsm.errors import BadInput
from hsm.ingest import StoreOutcome
from hsm.model import Header, InstanceRef, Priority
from hsm.part10 import file_head
from hsm.ranges import Held
from hsm.retrieval import Readable, Unobtainable

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
CHARSET_FILES = Path(pydicom.data.__file__).parent / "charset_files"


@dataclass(frozen=True)
class Stored:
    header: Header
    transfer_syntax: str
    dataset: bytes
    source: str

    @property
    def part10(self) -> bytes:
        head = file_head(self.header.sop_class_uid, self.header.sop_instance_uid, self.transfer_syntax)
        return head + self.dataset


class FakeIngest:
    """Keeps what it is given; ``before`` may raise or wait."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.before: Callable[[Header], None] = lambda header: None
        self.begun = 0
        self.closed = 0
        """Arrivals that began and were let go again; the two are equal when nothing is under way."""
        self._lock = threading.Lock()

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> FakeArrival:
        self.begun += 1
        return FakeArrival(self, transfer_syntax_uid)

    def store(
        self, header: Header, transfer_syntax_uid: str, dataset: bytes | memoryview, source_ae: str
    ) -> StoreOutcome:
        self.before(header)
        with self._lock:
            known = header.sop_instance_uid in self.stored
            self.stored[header.sop_instance_uid] = Stored(
                header, transfer_syntax_uid, bytes(dataset), source_ae
            )
        return StoreOutcome.DUPLICATE if known else StoreOutcome.STORED


class FakeArrival:
    """Gathers an instance for a :class:`FakeIngest`."""

    def __init__(self, ingest: FakeIngest, transfer_syntax_uid: str) -> None:
        self._ingest = ingest
        self._syntax = transfer_syntax_uid
        self._bytes = bytearray()

    def write(self, parts: Sequence[memoryview]) -> None:
        for part in parts:
            self._bytes += part

    @contextlib.contextmanager
    def dataset(self) -> Iterator[memoryview]:
        yield memoryview(bytes(self._bytes))

    def keep(self, header: Header, source_ae: str) -> StoreOutcome:
        return self._ingest.store(header, self._syntax, bytes(self._bytes), source_ae)

    def close(self) -> None:
        self._ingest.closed += 1


class FakeArchive:
    """Selects among the instances of a :class:`FakeIngest` by unique keys."""

    def __init__(self, ingest: FakeIngest) -> None:
        self.ingest = ingest
        self.select_fails: Exception | None = None

    def select(self, identifier: bytes, transfer_syntax: str, abstract_syntax: str) -> list[InstanceRef]:
        if self.select_fails is not None:
            raise self.select_fails
        keys = decoded(identifier, transfer_syntax)
        stored = list(self.ingest.stored.values())
        return [
            reference(each, pk)
            for pk, each in enumerate(stored, start=1)
            if _listed(keys, "StudyInstanceUID", each.header.study_uid)
            and _listed(keys, "SeriesInstanceUID", each.header.series_uid)
            and _listed(keys, "SOPInstanceUID", each.header.sop_instance_uid)
        ]

    def find(self, event: Any) -> Generator[tuple[int, Dataset | None], None, None]:
        """Every instance's study, one by one."""
        for each in list(self.ingest.stored.values()):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            answer = Dataset()
            answer.QueryRetrieveLevel = "STUDY"
            answer.StudyInstanceUID = each.header.study_uid
            yield 0xFF00, answer


def _listed(keys: Dataset, keyword: str, value: str) -> bool:
    wanted = keys.get(keyword) or ""
    return not wanted or value in ([wanted] if isinstance(wanted, str) else list(wanted))


def decoded(identifier: bytes, transfer_syntax: str) -> Dataset:
    syntax = UID(transfer_syntax)
    return decode(io.BytesIO(identifier), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)


def reference(stored: Stored, pk: int) -> InstanceRef:
    part10 = stored.part10
    return InstanceRef(
        pk=pk,
        sop_instance_uid=stored.header.sop_instance_uid,
        sop_class_uid=stored.header.sop_class_uid,
        transfer_syntax_uid=stored.transfer_syntax,
        version=0,
        size=len(part10),
        digest=hashlib.sha256(part10).digest(),
        study_uid=stored.header.study_uid,
        series_uid=stored.header.series_uid,
        package_pk=None,
        offset=None,
    )


class FakeRetrieval:
    """Hands out what is not held back at once, the rest when it is let go or found lost."""

    def __init__(self, owner: FakeRetrievals, instances: Sequence[InstanceRef]) -> None:
        self._owner = owner
        self._left = list(instances)
        self.closed = False

    @property
    def remaining(self) -> int:
        return len(self._left)

    def next(self, timeout_seconds: float) -> Readable | Unobtainable | None:
        owner = self._owner
        with owner.condition:
            found = self._look()
            if found is None and self._left and timeout_seconds:  # to look ahead is not to wait
                owner.waits += 1
                owner.condition.notify_all()
                if owner.on_wait is not None:
                    owner.on_wait(timeout_seconds)
                else:
                    owner.condition.wait(timeout_seconds)
                found = self._look()
            return found

    def _look(self) -> Readable | Unobtainable | None:
        for instance in self._left:
            uid = instance.sop_instance_uid
            if uid in self._owner.lost:
                self._left.remove(instance)
                return Unobtainable(instance, self._owner.lost[uid])
            if uid not in self._owner.held:
                self._left.remove(instance)
                return Readable(instance, Held(self._owner.ingest.stored[uid].part10))
        return None

    def waiting_for(self) -> str:
        return "cartridge HSM003L8 is on shelf B3"

    def close(self) -> None:
        self.closed = True


class FakeRetrievals:
    """Opens :class:`FakeRetrieval`; ``held`` UIDs are not readable yet, ``lost`` ones never."""

    def __init__(self, ingest: FakeIngest) -> None:
        self.ingest = ingest
        self.condition = threading.Condition()
        self.held: set[str] = set()
        self.lost: dict[str, str] = {}
        self.waits = 0
        self.on_wait: Callable[[float], None] | None = None
        self.opened: list[FakeRetrieval] = []
        self.asked: list[tuple[str, Priority]] = []
        self.open_fails: Exception | None = None

    def open(
        self,
        instances: Sequence[InstanceRef],
        who: str,
        priority: Priority,
        ae: str = "",
        *,
        comes_back: bool = False,
    ) -> FakeRetrieval:
        if self.open_fails is not None:
            raise self.open_fails
        retrieval = FakeRetrieval(self, instances)
        self.opened.append(retrieval)
        self.asked.append((who, priority))
        return retrieval

    def let_go(self, *uids: str) -> None:
        """Make held instances readable; all of them if none is named."""
        with self.condition:
            self.held -= set(uids) or set(self.held)
            self.condition.notify_all()

    def until_waiting(self, seconds: float = 10.0) -> None:
        """Return when a retrieve has found nothing readable since this was called."""
        with self.condition:
            before = self.waits
            assert self.condition.wait_for(lambda: self.waits > before, seconds), "no retrieve waits"


@dataclass
class FakeDeliveries:
    """Writes down what it is told."""

    begun: list[tuple[str, str, int, list[str]]] = field(default_factory=list)
    finished: list[tuple[int, int, str]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    handed_over: list[tuple[int, list[str]]] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    settled: threading.Event = field(default_factory=threading.Event)

    def begin(self, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]) -> int:
        self.begun.append((destination, calling, message_id, [each.sop_instance_uid for each in instances]))
        return len(self.begun)

    def finish(self, key: int, *, failed: int, comment: str) -> None:
        self.finished.append((key, failed, comment))
        self.settled.set()

    def cancel(self, key: int) -> None:
        self.cancelled.append(key)
        self.settled.set()

    def hand_over(self, key: int, undelivered: Sequence[str]) -> None:
        self.handed_over.append((key, list(undelivered)))
        self.settled.set()

    def answered(self, key: int, sop_instance_uid: str) -> None:
        self.answers.append(sop_instance_uid)

    def delivered(self, key: int, sop_instance_uids: Sequence[str]) -> None:
        self.progress.extend(sop_instance_uids)


@dataclass
class FakeCommitments:
    """Writes down what it is asked."""

    asked: list[tuple[str, str, list[Item]]] = field(default_factory=list)
    error: Exception | None = None

    def ask(self, calling: str, transaction_uid: str, items: Sequence[Item]) -> None:
        if self.error is not None:
            raise self.error
        self.asked.append((calling, transaction_uid, list(items)))


def part10_parts(path: Path) -> tuple[str, bytes]:
    """Transfer syntax and dataset bytes of a Part 10 file."""
    raw = path.read_bytes()
    group_length = struct.unpack("<L", raw[140:144])[0]
    return str(read_file_meta_info(path).TransferSyntaxUID), raw[144 + group_length :]


def element(group: int, number: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian."""
    value += (b" " if vr not in ("UI", "OB", "OW", "UN") else b"\0") * (len(value) % 2)
    if vr in ("OB", "OW", "UN"):
        return struct.pack("<HH2sHL", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def small_dataset(
    sop_instance: str, study: str = "1.2.3", series: str = "1.2.3.4", sop_class: str = CT, pixels: int = 64
) -> bytes:
    """A minimal instance in Explicit VR Little Endian."""
    return b"".join(
        (
            element(0x0008, 0x0016, "UI", sop_class.encode()),
            element(0x0008, 0x0018, "UI", sop_instance.encode()),
            element(0x0008, 0x0060, "CS", b"CT"),
            element(0x0010, 0x0010, "PN", b"Doe^Jane"),
            element(0x0010, 0x0020, "LO", b"4711"),
            element(0x0020, 0x000D, "UI", study.encode()),
            element(0x0020, 0x000E, "UI", series.encode()),
            element(0x7FE0, 0x0010, "OW", bytes(i % 251 for i in range(pixels))),
        )
    )


def stored(dataset: bytes, transfer_syntax: str = EXPLICIT) -> Stored:
    return Stored(read_header(dataset, transfer_syntax), transfer_syntax, dataset, "TEST")


def quick_config(**changes: Any) -> DicomConfig:
    """Port 0 and short time-outs."""
    settings: dict[str, Any] = {
        "listen": "127.0.0.1",
        "port": 0,
        "acse_timeout_seconds": 5.0,
        "dimse_timeout_seconds": 5.0,
        "network_timeout_seconds": 20.0,
        "retrieve": {"pending_seconds": 5.0, "hold_seconds_max": 60.0},
    }
    return DicomConfig.model_validate(settings | changes)


def readable_files() -> list[Path]:
    """pydicom's bundled files that are whole instances of a study, in every transfer syntax."""
    found = []
    for path in sorted([*TEST_FILES.glob("*.dcm"), *CHARSET_FILES.glob("*.dcm")]):
        if path.read_bytes()[128:132] != b"DICM":
            continue
        try:
            syntax, dataset = part10_parts(path)
            read_header(dataset, syntax)
        except (BadInput, AttributeError):
            continue
        found.append(path)
    return found


FILES = readable_files()


def kinds_of(paths: list[Path]) -> list[tuple[str, list[str]]]:
    """One presentation context for each SOP class and transfer syntax of these files."""
    parts = [part10_parts(path) for path in paths]
    kinds = {(read_header(dataset, syntax).sop_class_uid, syntax) for syntax, dataset in parts}
    return [(sop_class, [syntax]) for sop_class, syntax in sorted(kinds)]
