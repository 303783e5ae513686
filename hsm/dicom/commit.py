"""Storage Commitment Push Model as SCP: its N-ACTION, and the N-EVENT-REPORT that answers it, PS3.4 annex J.

The report goes out on an association of its own, whenever it is ready: modalities release theirs, and copies
may take until the night.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from hsm.catalog.orders import Order
from hsm.clock import Clock
from hsm.commitment import ITEMS_MAX, Item, Result, WaitFor
from hsm.config import DicomConfig
from hsm.dicom.answer import uuid_uid
from hsm.dicom.call import NOT_AUTHORIZED, Call
from hsm.dicom.contexts import COMMITMENT
from hsm.dicom.elements import Element
from hsm.dicom.outbound import Outbound
from hsm.dicom.rights import AeBook
from hsm.dicom.sequences import find_elements, read_items
from hsm.dicom.telling import SUCCESS, WARNINGS, telling
from hsm.errors import NoSpace, Permanent, Retryable
from hsm.log import get_logger
from hsm.model import is_uid
from hsm.recall import Postponed

log = get_logger(__name__)

PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The well-known SOP Instance, PS3.4 section J.3.5."""
REQUEST_COMMITMENT: Final = 1
"""Action Type ID."""
ALL_COMMITTED: Final = 1
FAILURES_EXIST: Final = 2
"""Event Type IDs, PS3.4 table J.3-2."""
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_ACTION: Final = 0x0123
RESOURCE_LIMITATION: Final = 0x0213
READ_MAX: Final = 2 * ITEMS_MAX
"""Items that are read, to be counted; a request with more is malformed."""
_TRANSACTION, _REFERENCES = 0x00081195, 0x00081199


class Asks(Protocol):
    def ask(self, calling: str, transaction_uid: str, items: Sequence[Item]) -> None: ...


class Results(Protocol):
    def result(self, order: Order, wait_for: WaitFor, seconds_max: float) -> Result: ...


class Commit:
    """Answers N-ACTION: success means that the request is recorded, nothing more (PS3.4 section J.3.2)."""

    def __init__(self, book: AeBook, commitments: Asks) -> None:
        self._book, self._commitments = book, commitments

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        status, why = self._take(call, rights)
        if status != SUCCESS:
            log.warning("storage commitment for %s refused (%04X): %s", call.calling, status, why)
        if status == NOT_AUTHORIZED:
            call.refuse("commit", why)
        else:
            call.reply(status, why)

    def _take(self, call: Call, rights: frozenset[str]) -> tuple[int, str]:
        request = call.request
        if "commit" not in rights:
            return NOT_AUTHORIZED, f"{call.calling} may not ask for commitment"
        if self._book.destination(call.calling) is None:
            return NOT_AUTHORIZED, f"{call.calling} is not configured: where to report is not known"
        if str(request.RequestedSOPInstanceUID) != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE, f"the instance is {PUSH_MODEL_INSTANCE}"
        if request.ActionTypeID != REQUEST_COMMITMENT:
            return NO_SUCH_ACTION, f"action {request.ActionTypeID}"
        try:
            transaction, items = _read(call)
        except ValueError as error:
            return INVALID_ARGUMENT, str(error)
        if len(items) > ITEMS_MAX:
            return RESOURCE_LIMITATION, f"{len(items)} instances, at most {ITEMS_MAX} at once"
        try:
            self._commitments.ask(call.calling, transaction, items)
        except NoSpace as error:
            return RESOURCE_LIMITATION, str(error)
        except Exception:
            log.exception("storage commitment %s for %s cannot be recorded", transaction, call.calling)
            return PROCESSING_FAILURE, "the request could not be recorded"
        log.info("storage commitment %s: %d instances for %s", transaction, len(items), call.calling)
        return SUCCESS, ""


def _read(call: Call) -> tuple[str, list[Item]]:
    """Transaction UID and instances of an N-ACTION's dataset.

    :raises ValueError: it has not the form of PS3.4 table J.3-1.
    """
    if call.request.ActionInformation is None:
        raise ValueError("no dataset")
    try:
        data = memoryview(call.request.ActionInformation.getvalue())
        found = find_elements(data, call.transfer_syntax, _TRANSACTION, _REFERENCES)
        transaction = _text(found[_TRANSACTION]) if _TRANSACTION in found else ""
        wanted = found.get(_REFERENCES)
        sequence = read_items(wanted, call.transfer_syntax, READ_MAX) if wanted is not None else ()
        items = [
            Item(str(each.get("ReferencedSOPClassUID", "")), str(each.get("ReferencedSOPInstanceUID", "")))
            for each in sequence
        ]
    except Exception as error:  # whatever pydicom makes of what a peer sends
        raise ValueError(f"the dataset cannot be read: {error}") from error
    if not is_uid(transaction):
        raise ValueError("Transaction UID (0008,1195) is missing or no UID")
    if not items:
        raise ValueError("Referenced SOP Sequence (0008,1199) is missing or empty")
    for number, item in enumerate(items, 1):
        if not (is_uid(item.sop_class_uid) and is_uid(item.sop_instance_uid)):
            raise ValueError(f"item {number} of Referenced SOP Sequence lacks a UID")
    return transaction, items


def _text(element: Element) -> str:
    return bytes(element.value).decode("ascii", "replace").strip(" \0")


def event_information(result: Result, ae_title: str) -> tuple[int, Dataset]:
    """Event Type ID and dataset of the report, PS3.4 table J.3-2."""
    dataset = Dataset()
    dataset.TransactionUID = result.transaction_uid
    if result.committed:
        dataset.RetrieveAETitle = ae_title
        dataset.ReferencedSOPSequence = list(_committed(result))
    if result.failed:
        dataset.FailedSOPSequence = [
            _item(each.item, FailureReason=int(each.reason)) for each in result.failed
        ]
    return (FAILURES_EXIST if result.failed else ALL_COMMITTED), dataset


def _committed(result: Result) -> Iterator[Dataset]:
    for each in result.committed:
        medium = each.medium
        on = (
            {}
            if medium is None
            else {
                "StorageMediaFileSetID": medium.name,
                "StorageMediaFileSetUID": uuid_uid(medium.uuid),
            }
        )
        yield _item(each.item, **on)


def _item(item: Item, **more: Any) -> Dataset:
    dataset = Dataset()
    dataset.ReferencedSOPClassUID = item.sop_class_uid
    dataset.ReferencedSOPInstanceUID = item.sop_instance_uid
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def _report(event: int) -> N_EVENT_REPORT:
    report = N_EVENT_REPORT()
    report.AffectedSOPClassUID = UID(COMMITMENT)
    report.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
    report.EventTypeID = event
    return report


class Reporter:
    """Callable with a COMMIT request; returns when the peer has its report."""

    def __init__(
        self,
        config: DicomConfig,
        ae_title: str,
        clock: Clock,
        commitments: Results,
        outbound: Outbound | None = None,
    ) -> None:
        self._outbound = outbound or Outbound(clock)
        self._config, self._ae_title, self._clock = config, ae_title, clock
        self._commitments = commitments

    def reload(self, config: DicomConfig) -> None:
        """Use another configuration from the next report on."""
        self._config = config

    def __call__(self, order: Order, _stop: threading.Event) -> None:
        """
        :raises Postponed: copies are not verified yet.
        :raises Retryable: the peer cannot be reached, or does not take the report now.
        :raises Permanent: it is not configured any more.
        """
        settings = self._config.commitment
        result = self._commitments.result(order, settings.wait_for, settings.seconds_max)
        if result.waits_for:
            raise Postponed(f"waits for copies: {result.waits_for}")
        peer = AeBook.of(self._config).destination(result.calling)
        if peer is None:
            raise Permanent(f"{result.calling} is not among the configured AEs any more")
        event, dataset = event_information(result, self._ae_title)
        with telling(peer, self._ae_title, self._config, COMMITMENT, self._outbound, as_scp=True) as line:
            status, comment = line.tell(_report(event), "EventInformation", dataset)
        if status not in (SUCCESS, *WARNINGS):
            raise Retryable(f"{line.name} refused the report with {status:04X} {comment}".rstrip())
        log.info(
            "storage commitment %s reported to %s: %d committed, %d failed",
            result.transaction_uid,
            result.calling,
            len(result.committed),
            len(result.failed),
        )
