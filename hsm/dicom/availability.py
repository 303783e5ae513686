"""Instance Availability Notification as SCU, PS3.4 annex R: peers are told how available studies are now."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_CREATE

from hsm.announce import Notification
from hsm.catalog.announced import Told
from hsm.catalog.orders import Order
from hsm.config import DicomConfig
from hsm.dicom.answer import uuid_uid
from hsm.dicom.contexts import AVAILABILITY
from hsm.dicom.outbound import Outbound
from hsm.dicom.rights import AeBook
from hsm.dicom.telling import SUCCESS, WARNINGS, telling
from hsm.errors import Permanent, Retryable
from hsm.log import get_logger
from hsm.recall import Stopped

log = get_logger(__name__)

DUPLICATE: Final = 0x0111
"""Duplicate SOP Instance, PS3.7 section C.5.7: it has this notification already."""
LASTING: Final = frozenset({0x0105, 0x0106, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0124})
"""Of PS3.7 annex C: the peer will not take it tomorrow either."""


class Notifications(Protocol):
    def notifications(self, order: Order) -> list[Notification]: ...
    def sent(self, order: Order, notification: Notification) -> None: ...


def attributes(notification: Notification, ae_title: str) -> Dataset:
    """The attribute list of PS3.4 table R.3.2-1; others are forbidden there."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.StudyInstanceUID = notification.study_uid
    dataset.ReferencedSeriesSequence = []
    for series_uid, items in itertools.groupby(notification.items, key=lambda each: each.series_uid):
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = [_item(each, notification, ae_title) for each in items]
        dataset.ReferencedSeriesSequence.append(series)
    return dataset


def _item(told: Told, notification: Notification, ae_title: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = told.sop_class_uid
    item.ReferencedSOPInstanceUID = told.sop_instance_uid
    item.InstanceAvailability = told.standing.availability.value
    item.RetrieveAETitle = ae_title
    if told.standing.media:
        name = told.standing.media[0]
        item.StorageMediaFileSetID = name
        item.StorageMediaFileSetUID = uuid_uid(notification.media.get(name, ""))
    return item


class Announcer:
    """Executes NOTIFY requests, and knows who wants to be told."""

    def __init__(self, config: DicomConfig, ae_title: str, outbound: Outbound) -> None:
        self._config, self._ae_title, self._outbound = config, ae_title, outbound

    def reload(self, config: DicomConfig) -> None:
        """Use other peers from the next notification on."""
        self._config = config

    def subscribers(self) -> Sequence[str]:
        """The AE titles that are told, as configured now."""
        return [each.ae_title for each in self._config.aes if "availability" in each.notify]

    def __call__(self, notifications: Notifications, order: Order, stop: threading.Event) -> None:
        """Return when the peer has been told.

        :raises Retryable: the peer cannot be reached, or does not take it now.
        :raises Permanent: the peer will never take it.
        :raises Stopped: the daemon stops; what was told is noted.
        """
        title = str(order.detail["ae"])
        peer = AeBook.of(self._config).destination(title)
        if peer is None or title not in self.subscribers():
            log.info("%s does not want to know any more how available studies are", title)
            return
        left = notifications.notifications(order)
        if not left:
            return
        with telling(peer, self._ae_title, self._config, AVAILABILITY, self._outbound) as line:
            for each in left:
                if stop.is_set():
                    raise Stopped
                request = N_CREATE()
                request.AffectedSOPClassUID = UID(AVAILABILITY)
                request.AffectedSOPInstanceUID = UID(each.uid)
                status, comment = line.tell(request, "AttributeList", attributes(each, self._ae_title))
                if status not in (SUCCESS, DUPLICATE, *WARNINGS):
                    error = Permanent if status in LASTING else Retryable
                    raise error(f"{line.name} refused the notification with {status:04X} {comment}".rstrip())
                notifications.sent(order, each)
        count = sum(len(each.items) for each in left)
        log.info("%s was told how available %d instances of %s are", title, count, left[0].study_uid)
