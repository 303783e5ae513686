"""A daemon whose subscriber is told of its study, and whose destination is down for a while."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]

from tests.story.archive import CONFIG, Archive, bundled, free_port, running, until
from tests.story.test_road import IMAGES, everything_on_the_shelf, study_of, waiting_prompts

PACS = """\
    - {{ae_title: DEST, host: 127.0.0.1, port: {destination}, deliver_when_down: true,
       send: {{associations_max: 1, instances_per_second: 20}}}}
    - {{ae_title: PACS, host: 127.0.0.1, port: {pacs}, notify: [availability]}}
"""


class Peer:
    """Takes notifications and instances, and answers each."""

    def __init__(self, title: str, port: int) -> None:
        self.told: list[tuple[str, set[str]]] = []
        self.got: Counter[str] = Counter()
        self.lock = threading.Lock()
        ae = AE(title)
        ae.add_supported_context(InstanceAvailabilityNotification)
        for context in StoragePresentationContexts:
            ae.add_supported_context(
                str(context.abstract_syntax), ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
            )
        handlers: Any = [(evt.EVT_N_CREATE, self._create), (evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)

    def _create(self, event: Any) -> tuple[int, None]:
        dataset = event.attribute_list
        found = {
            str(item.InstanceAvailability)
            for series in dataset.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        self.told.append((str(dataset.StudyInstanceUID), found))
        return 0x0000, None

    def _store(self, event: Any) -> int:
        with self.lock:
            self.got[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()


@pytest.mark.long
def test_a_subscriber_is_told_and_a_destination_that_was_down_gets_its_study_once(
    sqlite_url: str, tmp_path: Path
) -> None:
    known = "    - {{ae_title: DEST, host: 127.0.0.1, port: {destination}}}\n"
    assert known in CONFIG
    pacs_port = free_port()
    archive = Archive(
        tmp_path / "home", sqlite_url, template=CONFIG.replace(known, PACS), pacs=pacs_port, hold=1
    )
    paths = bundled(*IMAGES)
    study = study_of(paths[0])
    pacs = Peer("PACS", pacs_port)
    destination = None
    try:
        with running(archive):
            everything_on_the_shelf(archive, paths)
            until(lambda: (study, {"OFFLINE"}) in pacs.told, "the subscriber knows that it is on the shelf")
            move = archive.retrieve("movescu", study)
            until(lambda: waiting_prompts(archive), "a prompt")
            move.communicate(timeout=60)  # the hold is over after a second
            archive.kill()
            archive.start()
            for barcode in until(lambda: waiting_prompts(archive), "the prompt is still there"):
                assert archive.command("operator", "done", barcode).returncode == 0
            until(
                lambda: (study, {"ONLINE"}) in pacs.told, "the subscriber knows that the recall is complete"
            )
            destination = Peer("DEST", archive.destination_port)
            until(lambda: destination.got, "delivered when it is back")
            assert set(destination.got.values()) == {1}
    finally:
        pacs.close()
        if destination is not None:
            destination.close()
