"""A patient disc: asked for with `hsm export`, waits for the shelf, is complete or absent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom
import pytest

from tests.story.archive import HSM, Archive, bundled, running, until
from tests.story.test_road import everything_on_the_shelf, study_of, waiting_prompts


@pytest.mark.campaign
def test_an_export_waits_for_the_operator_and_is_then_whole(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url)
    paths = bundled("CT_small.dcm", "MR_small.dcm")
    studies = [study_of(path) for path in paths]
    stick = tmp_path / "stick"
    with running(archive):
        everything_on_the_shelf(archive, paths)
        export = subprocess.Popen(
            [HSM, "--socket", str(archive.home / "hsm.sock"), "export", str(stick), *studies],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: waiting_prompts(archive), "a prompt for the cartridge")
        assert export.poll() is None, "the export waits"
        assert not stick.exists()
        while export.poll() is None:
            for barcode in waiting_prompts(archive):
                archive.command("operator", "done", barcode)
        out = export.communicate()[0]
        assert export.returncode == 0, out
        assert "2 instances exported" in out
        found = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=stick, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout
        directory = pydicom.dcmread(stick / "DICOMDIR").DirectoryRecordSequence
        exported = {item.StudyInstanceUID for item in directory if item.DirectoryRecordType == "STUDY"}
        assert exported == set(studies)

        again = archive.command("export", str(stick), studies[0])
        assert again.returncode == 4, again.stderr
        assert "not empty" in again.stderr
        unknown = archive.command("export", str(tmp_path / "other"), "1.2.3.4.5")
        assert unknown.returncode != 0
        assert not (tmp_path / "other").exists()

        hidden = archive.command("export", "--anonymise", str(tmp_path / "hidden"), studies[0])
        assert hidden.returncode == 0, hidden.stderr
        for path in (tmp_path / "hidden").rglob("*"):
            assert not path.is_file() or studies[0].encode() not in path.read_bytes()
        assert archive.stop() == 0
