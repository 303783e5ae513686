"""A study larger than the staging area, over real associations: it can only come through if what has come is
sent while the rest is still on the tape."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.story.archive import (
    CONFIG,
    DATA,
    Archive,
    as_sent_by_storescu,
    digests,
    running,
    storescp,
    until,
)

COUNT, PIXELS = 16, 1000
STUDY = "1.2.826.0.1.3680043.8.498.7117"
AREA = "size_max_bytes: 6 MiB, free_min_bytes: 0"
SMALL_AREA = CONFIG.replace("size_max_bytes: 256 MiB", AREA)


def large_study(folder: Path) -> list[Path]:
    """16 images of 1 MB."""
    folder.mkdir()
    image = pydicom.dcmread(DATA / "test_files" / "CT_small.dcm")
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    image.Rows, image.Columns = PIXELS, PIXELS // 2
    paths = []
    for number in range(1, COUNT + 1):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.1.{number}"
        image.InstanceNumber = number
        image.PixelData = bytes([number]) * (PIXELS * PIXELS)
        paths.append(folder / f"{number}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.campaign
def test_a_study_larger_than_the_staging_area_comes_by_cget_and_cmove(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, template=SMALL_AREA, quiet=4)
    paths = large_study(tmp_path / "study")
    wanted = digests(as_sent_by_storescu(paths, tmp_path / "sent"))
    with running(archive):
        sent = archive.dcmtk("storescu", "+sd", str(tmp_path / "study"))
        assert sent.returncode == 0, sent.stderr
        until(lambda: archive.all_on_tape(1), "the study is on tape")
        got = archive.retrieve("getscu", STUDY)
        got.communicate(timeout=90)
        assert got.returncode == 0
        found = list(archive.received.iterdir())
        assert digests(found) == wanted
        for path in found:
            path.unlink()
        with storescp(archive.received, archive.destination_port):
            moved = archive.dcmtk("movescu", "-S", "-aem", "DEST", *_study(), timeout=90)
        assert moved.returncode == 0, moved.stderr
        assert digests(list(archive.received.iterdir())) == wanted
        staging = archive.home / "staging"
        until(lambda: not list(staging.iterdir()), "nothing of it stays in the staging area")
        said = archive.command("recall", STUDY)
        assert "passes through" in said.stdout


def _study() -> list[str]:
    return ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
