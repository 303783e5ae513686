"""A daemon whose journal goes to a file, to a syslog server and onto its tapes, while people work with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.services.test_syslog import Listener
from tests.story.archive import CONFIG, Archive, bundled, running, until
from tests.story.test_road import IMAGES, study_of

AUDIT = """\
audit:
  anchors: {{every: 1 min, file: "{home}/anchors.txt"}}
  file: {{path: "{home}/audit/journal.jsonl"}}
  syslog: {{host: 127.0.0.1, port: {syslog}, transport: tcp}}
"""


@pytest.mark.campaign
def test_who_stored_asked_and_retrieved_is_told_outside_and_the_tapes_vouch_for_it(
    sqlite_url: str, tmp_path: Path
) -> None:
    with Listener(None) as server:
        archive = Archive(tmp_path / "home", sqlite_url, template=CONFIG + AUDIT, syslog=server.port)
        paths = bundled(*IMAGES[:2])
        study = study_of(paths[0])

        def said(event: str) -> bool:
            return re.search(rf'originalText="{event}".*{re.escape(study)}'.encode(), server.got) is not None

        with running(archive):
            assert archive.dcmtk("storescu", *map(str, paths)).returncode == 0
            until(lambda: archive.all_on_tape(2), "on tape")
            archive.findscu(study)
            archive.retrieve("getscu", study).communicate(timeout=90)
            for event in ("Begin Transferring DICOM Instances", "DICOM Instances Transferred"):
                until(lambda event=event: said(event), event)  # type: ignore[misc]
            until(lambda: b'originalText="Query"' in server.got, "a query")
            assert archive.command("audit", "log", "--subject", study).returncode == 0
            until(lambda: b'originalText="Audit Log Used"' in server.got, "the log was used")
            tapes = sorted({each["volume"] for each in archive.copies() if each["pool"] == "tape"})
            found = archive.command("audit", "log", "verify", "--json", "--from-volume", tapes[0])
            assert found.returncode == 0, found.stdout + found.stderr
            verified = json.loads(found.stdout)
            assert verified["anchors"] >= 1
            assert verified["file"]["records"] > 0
            (client_of,) = (
                row for row in archive.ask(lambda c: c.audit_log(verb="retrieved")) if row["subject"] == study
            )
            assert client_of["actor"] == "ae:DEST"
            assert archive.stop() == 0
            until(lambda: b'originalText="Application Stop"' in server.got, "it says that it stops")
            archive.start()
            until(lambda: server.got.count(b'originalText="Application Start"') >= 2, "and starts")
    patient = b"1CT1"  # the Patient ID of the CT
    assert patient not in server.got
