"""Instance Availability Notification over the wire, to an SCP that is not ours.

Neither DCMTK nor dcm4che has a program that receives it: the SCP here is pynetdicom's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]
from wire_fakes import CT, quick_config

from hsm.announce import Notification
from hsm.availability import Standing
from hsm.catalog.announced import Told
from hsm.catalog.orders import Order
from hsm.clock import ManualClock
from hsm.dicom.availability import Announcer
from hsm.dicom.outbound import Outbound
from hsm.errors import DriverError, Permanent, Retryable
from hsm.model import Availability
from hsm.recall import Stopped
from hsm.states import RequestKind, RequestState

UUID = "5f0c0a3e-0000-4000-8000-000000000001"
ORDER = Order(
    *(1, RequestKind.NOTIFY, "notify:PACS:1.2.3", RequestState.ACTIVE, 20, 1, None, None, None, ""),
    *({"ae": "PACS", "study": "1.2.3"}, 1, datetime(2026, 1, 1, tzinfo=UTC)),
)


class Pacs:
    """An SCP of the class."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Dataset]] = []
        self.status = 0x0000
        ae = AE("PACS")
        ae.add_supported_context(InstanceAvailabilityNotification)
        handlers: Any = [(evt.EVT_N_CREATE, self._create)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    def _create(self, event: Any) -> tuple[int, Dataset | None]:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in {each for each, _ in self.got}:
            return 0x0111, None
        if self.status == 0x0000:
            self.got.append((uid, event.attribute_list))
        return self.status, None

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
        self._server = None


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.stop()


class Kept:
    """Notifications as the catalog keeps them."""

    def __init__(self, *left: Notification) -> None:
        self.left = list(left)
        self.noted: list[str] = []

    def notifications(self, _order: Order) -> list[Notification]:
        return [each for each in self.left if each.uid not in self.noted]

    def sent(self, _order: Order, notification: Notification) -> None:
        self.noted.append(notification.uid)


def told(number: int, series: str = "1.2.3.1", **standing: Any) -> Told:
    default = {"availability": Availability.OFFLINE, "media": ("HSM001L8",)}
    return Told(series, CT, f"{series}.{number}", Standing(**(default | standing)))


def notification(uid: str = "2.25.1", *items: Told) -> Notification:
    return Notification(uid, "1.2.3", items or (told(1), told(2)), {"HSM001L8": UUID})


def announcer(port: int, *subjects: str) -> Announcer:
    peer = {
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "notify": list(subjects or ["availability"]),
    }
    return Announcer(quick_config(aes=[peer]), "HSM", Outbound(ManualClock()))


def test_a_study_is_told_with_all_that_the_standard_asks_for_and_nothing_else(pacs: Pacs) -> None:
    online = told(9, "1.2.3.2", availability=Availability.ONLINE, media=())
    kept = Kept(notification("2.25.1", told(1), told(2), online))
    announcer(pacs.port)(kept, ORDER, threading.Event())
    ((uid, dataset),) = pacs.got
    assert (uid, kept.noted) == ("2.25.1", ["2.25.1"])
    assert sorted(element.keyword for element in dataset) == [
        "ReferencedPerformedProcedureStepSequence",
        "ReferencedSeriesSequence",
        "StudyInstanceUID",
    ]
    assert dataset.StudyInstanceUID == "1.2.3"
    assert len(dataset.ReferencedPerformedProcedureStepSequence) == 0
    first, second = dataset.ReferencedSeriesSequence
    assert (first.SeriesInstanceUID, second.SeriesInstanceUID) == ("1.2.3.1", "1.2.3.2")
    item = first.ReferencedSOPSequence[1]
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (CT, "1.2.3.1.2")
    assert (item.InstanceAvailability, item.RetrieveAETitle) == ("OFFLINE", "HSM")
    assert item.StorageMediaFileSetID == "HSM001L8"
    assert item.StorageMediaFileSetUID == f"2.25.{int(UUID.replace('-', ''), 16)}"
    (item,) = second.ReferencedSOPSequence
    assert item.InstanceAvailability == "ONLINE"
    assert "StorageMediaFileSetID" not in item


def test_several_go_over_one_association_and_what_arrived_is_not_sent_again(pacs: Pacs) -> None:
    kept = Kept(notification("2.25.1"), notification("2.25.2"))
    send = announcer(pacs.port)
    send(kept, ORDER, threading.Event())
    send(kept, ORDER, threading.Event())
    assert [uid for uid, _ in pacs.got] == ["2.25.1", "2.25.2"]


def test_a_notification_whose_answer_was_lost_is_taken_as_told_when_the_peer_knows_it(pacs: Pacs) -> None:
    announcer(pacs.port)(Kept(notification()), ORDER, threading.Event())
    kept = Kept(notification())
    announcer(pacs.port)(kept, ORDER, threading.Event())
    assert kept.noted == ["2.25.1"]
    assert len(pacs.got) == 1


@pytest.mark.parametrize(("status", "error"), [(0x0110, Retryable), (0x0213, Retryable), (0x0106, Permanent)])
def test_a_refusal_that_may_pass_is_tried_again(pacs: Pacs, status: int, error: type[DriverError]) -> None:
    pacs.status = status
    kept = Kept(notification())
    with pytest.raises(error, match=f"{status:04X}"):
        announcer(pacs.port)(kept, ORDER, threading.Event())
    assert kept.noted == []


def test_a_peer_that_is_down_rests_and_one_that_does_not_want_to_know_is_left_alone(pacs: Pacs) -> None:
    kept = Kept(notification())
    announcer(pacs.port, "availability").reload(quick_config())
    quiet = announcer(pacs.port)
    quiet.reload(quick_config(aes=[{"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}]))
    quiet(kept, ORDER, threading.Event())
    assert quiet.subscribers() == pacs.got == []
    pacs.stop()
    outbound = Outbound(ManualClock())
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "notify": ["availability"]}
    down = Announcer(quick_config(aes=[peer]), "HSM", outbound)
    with pytest.raises(Retryable, match="PACS"):
        down(kept, ORDER, threading.Event())
    assert outbound.resting() == ["PACS"]


def test_a_stop_ends_it_between_two(pacs: Pacs) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        announcer(pacs.port)(Kept(notification()), ORDER, stop)
    assert pacs.got == []
