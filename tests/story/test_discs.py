"""Studies on optical discs: burnt, read back, taken to the shelf, asked for, brought and delivered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from drivers.optical import xorriso
from tests.story.archive import CONFIG, ROAD, Archive, as_sent_by_storescu, bundled, digests, running, until
from tests.story.test_road import finished, study_of, waiting_prompts

DISCS = CONFIG.replace(
    """    driver: simulated
    options: {{folder: "{home}/library", slots: 6, mail_slots: 2, drives: 2, cartridges: 6,
               capacity_bytes: 64 MiB, time_factor: 0}}
""",
    """    driver: optical
    options: {{images: "{home}/jukebox", discs: 6, slots: 6, mail_slots: 2, drives: 2,
               spool: "{home}/spool", capacity_bytes: 64 MiB{more}}}
""",
)
IMAGES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="sessions"),
        pytest.param(", file_system: udf, append: false", id="udf", marks=pytest.mark.campaign),
    ],
)
def test_a_study_is_burnt_shelved_prompted_for_and_served_byte_for_byte(
    sqlite_url: str, tmp_path: Path, more: str
) -> None:
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")
    assert DISCS != CONFIG
    archive = Archive(tmp_path / "home", sqlite_url, ROAD, DISCS, more=more)
    paths = bundled(*IMAGES)
    wanted = digests(as_sent_by_storescu(paths[:1], tmp_path / "sent"))
    with running(archive):
        stored = archive.dcmtk("storescu", *map(str, paths))
        assert stored.returncode == 0, stored.stderr
        until(lambda: archive.all_on_tape(len(paths)), "everything verified on discs and off the disks")
        barcodes = archive.shelve_everything()
        assert all(barcode.startswith("DISC") for barcode in barcodes)

        study = study_of(paths[0])
        move = archive.retrieve("movescu", study)
        prompts = until(lambda: waiting_prompts(archive), "a prompt for the disc")
        assert len(prompts) == 1
        assert move.poll() is None, "the retrieve waits"
        assert archive.command("operator", "done", prompts[0]).returncode == 0
        finished(move)
        assert digests(list(archive.received.iterdir())) == wanted
        assert archive.stop() == 0

    # What lies on the disc is read without this software.
    image = tmp_path / "home" / "jukebox" / f"{prompts[0]}.iso"
    disc = tmp_path / "disc"
    command = ["xorriso", "-osirrox", "on", "-indev", f"stdio:{image}", "-extract", "/", str(disc)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=disc, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    listed = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence
    assert study in {item.StudyInstanceUID for item in listed if item.DirectoryRecordType == "STUDY"}
    assert xorriso.volume_id(f"stdio:{image}") == prompts[0]
