"""Storage commitment over the wire: N-ACTION from a peer, N-EVENT-REPORT to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]
from wire_fakes import CT, quick_config

from hsm.clock import SystemClock
from hsm.commitment import Committed, Failed, Failure, Item, Medium, Result
from hsm.dicom.commit import PUSH_MODEL_INSTANCE, Reporter
from hsm.errors import Permanent, Retryable
from hsm.recall import Postponed

MODALITY = {"ae_title": "CT1", "host": "127.0.0.1", "port": 104}
ITEMS = (Item(CT, "1.2.3.1"), Item(CT, "1.2.3.2"))


def request(*items: Item, transaction: str = "2.25.7") -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = transaction
    dataset.ReferencedSOPSequence = []
    for item in items:
        referenced = Dataset()
        referenced.ReferencedSOPClassUID = item.sop_class_uid
        referenced.ReferencedSOPInstanceUID = item.sop_instance_uid
        dataset.ReferencedSOPSequence.append(referenced)
    return dataset


def n_action(
    port: int, dataset: Dataset, calling: str = "CT1", action: int = 1, instance: str = PUSH_MODEL_INSTANCE
) -> Dataset:
    ae = AE(calling)
    ae.add_requested_context(StorageCommitmentPushModel)
    assoc = ae.associate("127.0.0.1", port, ae_title="HSM")
    assert assoc.is_established
    status, _ = assoc.send_n_action(dataset, action, StorageCommitmentPushModel, instance)
    assoc.release()
    return status


def test_a_request_is_recorded_before_it_is_answered(start_server: Any) -> None:
    running = start_server(aes=[MODALITY])
    status = n_action(running.server.port, request(*ITEMS))
    assert status.Status == 0x0000
    assert running.commitments.asked == [("CT1", "2.25.7", list(ITEMS))]


def test_a_request_that_cannot_be_recorded_is_not_answered_with_success(start_server: Any) -> None:
    running = start_server(aes=[MODALITY])
    running.commitments.error = RuntimeError("the database is away")
    assert n_action(running.server.port, request(*ITEMS)).Status == 0x0110


def without(keyword: str) -> Dataset:
    dataset = request(*ITEMS)
    delattr(dataset, keyword)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "more", "status", "comment"),
    [
        (without("TransactionUID"), {}, 0x0115, "Transaction UID"),
        (without("ReferencedSOPSequence"), {}, 0x0115, "Referenced SOP Sequence"),
        (request(), {}, 0x0115, "missing or empty"),
        (request(Item(CT, "")), {}, 0x0115, "item 1"),
        (request(*ITEMS), {"action": 2}, 0x0123, "action 2"),
        (request(*ITEMS), {"instance": "1.2.3"}, 0x0112, PUSH_MODEL_INSTANCE),
        (request(*ITEMS), {"calling": "NOBODY"}, 0x0124, "not configured"),
    ],
)
def test_a_request_without_its_form_is_refused_with_what_is_wrong(
    start_server: Any, dataset: Dataset, more: dict[str, Any], status: int, comment: str
) -> None:
    running = start_server(aes=[MODALITY])
    answer = n_action(running.server.port, dataset, **more)
    assert answer.Status == status
    assert comment in answer.ErrorComment
    assert running.commitments.asked == []


def test_who_may_not_ask_for_commitment_is_refused(start_server: Any) -> None:
    running = start_server(aes=[MODALITY | {"may": ["echo", "store"]}])
    assert n_action(running.server.port, request(*ITEMS)).Status == 0x0124
    assert running.commitments.asked == []


class Modality:
    """A peer that takes reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.status = 0x0000
        ae = AE("CT1")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server: Any = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        self.port = int(self._server.server_address[1])

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.status, None

    def stop(self) -> None:
        """Once is enough."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None


@pytest.fixture
def modality() -> Iterator[Modality]:
    running = Modality()
    yield running
    running.stop()


class Known:
    """Commitments with a result at hand."""

    def __init__(self, result: Result) -> None:
        self.value = result
        self.settings: tuple[str, float] | None = None

    def result(self, _order: Any, wait_for: Any, seconds_max: float) -> Result:
        self.settings = (wait_for, seconds_max)
        return self.value


def report(port: int, result: Result, **changes: Any) -> Known:
    known = Known(result)
    peers = [{"ae_title": "CT1", "host": "127.0.0.1", "port": port}]
    config = quick_config(**({"aes": peers} | changes))
    order: Any = None
    Reporter(config, "HSM", SystemClock(), known)(order, threading.Event())
    return known


def test_a_report_names_what_is_committed_what_is_not_why_and_where_it_lies(modality: Modality) -> None:
    medium = Medium("HSM001L8", "5f0c0a3e-0000-4000-8000-000000000001")
    result = Result(
        "CT1",
        "2.25.7",
        (Committed(ITEMS[0], medium),),
        (Failed(ITEMS[1], Failure.NO_SUCH_OBJECT),),
    )
    report(modality.port, result)
    ((event, dataset),) = modality.reports
    assert event == 2
    assert dataset.TransactionUID == "2.25.7"
    assert dataset.RetrieveAETitle == "HSM"
    (committed,) = dataset.ReferencedSOPSequence
    assert committed.ReferencedSOPInstanceUID == "1.2.3.1"
    assert committed.StorageMediaFileSetID == "HSM001L8"
    assert committed.StorageMediaFileSetUID == f"2.25.{int('5f0c0a3e000040008000000000000001', 16)}"
    (failed,) = dataset.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.2", 0x0112)


def test_a_report_without_failures_says_so_by_its_event_type(modality: Modality) -> None:
    known = report(
        modality.port,
        Result("CT1", "2.25.7", tuple(map(Committed, ITEMS))),
        commitment={"wait_for": "copies", "seconds_max": "2 h"},
    )
    ((event, dataset),) = modality.reports
    assert event == 1 and "FailedSOPSequence" not in dataset
    assert known.settings == ("copies", 7200.0)


def test_a_peer_that_is_down_or_refuses_is_told_again_later(modality: Modality) -> None:
    result = Result("CT1", "2.25.7", tuple(map(Committed, ITEMS)))
    modality.status = 0x0110
    with pytest.raises(Retryable, match=r"CT1 at 127.0.0.1:\d+ refused the report with 0110"):
        report(modality.port, result)
    modality.stop()
    with pytest.raises(Retryable, match="CT1 at"):
        report(modality.port, result)


def test_what_waits_is_postponed_and_a_peer_that_is_gone_for_good_fails() -> None:
    with pytest.raises(Postponed, match=r"waits for copies: 1\.2\.3\.1: 1 verified in tape"):
        report(9, Result("CT1", "2.25.7", waits_for="1.2.3.1: 1 verified in tape, has 0"))
    with pytest.raises(Permanent, match="CT1 is not among the configured AEs"):
        report(9, Result("CT1", "2.25.7"), aes=[])
