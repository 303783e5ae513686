"""One study's whole life: stored, sealed, copied, verified, released, shelved, asked for, prompted for,
recalled and delivered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom
import pytest

from tests.story.archive import (
    BOTH_DATABASES,
    Archive,
    as_sent_by_storescu,
    bundled,
    digests,
    running,
    storescp,
    until,
)

IMAGES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm")


def study_of(path: Path) -> str:
    return str(
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID
    )


def waiting_prompts(archive: Archive) -> list[str]:
    return [mount["barcode"] for mount in archive.ask(lambda client: client.mounts())]


def everything_on_the_shelf(archive: Archive, paths: list[Path]) -> None:
    """Store, wait for the policies, and take the cartridges out."""
    stored = archive.dcmtk("storescu", *map(str, paths))
    assert stored.returncode == 0, stored.stderr
    studies = {study_of(path) for path in paths}
    until(lambda: archive.all_on_tape(len(studies)), "everything verified on tape and off the disks")
    assert not list((archive.home / "online" / "studies").rglob("*.dcm")), "released means deleted"
    archive.shelve_everything()


def cartridges_of(archive: Archive, study: str) -> list[str]:
    """Where one study is: two drives at work may have spread the studies over several cartridges."""
    with archive.client() as client:
        copies = client.locate(study)["copies"]
    return sorted({copy["volume"] for copy in copies if copy["pool"] == "tape"})


def finished(move: subprocess.Popen[bytes]) -> str:
    out, _ = move.communicate(timeout=60)
    text = out.decode(errors="replace")
    assert move.returncode == 0, text
    return text


@BOTH_DATABASES
def test_a_study_comes_back_from_the_shelf_byte_for_byte(migrated_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", migrated_url)
    paths = bundled(*IMAGES)
    wanted = digests(as_sent_by_storescu(paths[0:1], tmp_path / "sent"))
    with running(archive, from_nothing=True):
        everything_on_the_shelf(archive, paths)
        study = study_of(paths[0])
        barcodes = cartridges_of(archive, study)

        answer = archive.findscu(study, "InstanceAvailability", "StorageMediaFileSetID")
        assert "OFFLINE" in answer
        assert barcodes[0] in answer

        move = archive.retrieve("movescu", study)
        until(lambda: waiting_prompts(archive) == barcodes, "a prompt for the cartridge")
        assert move.poll() is None, "the retrieve waits"
        shown = archive.command("operator", "ls")
        assert barcodes[0] in shown.stdout
        assert "B3" in shown.stdout
        done = archive.command("operator", "done", barcodes[0])
        assert done.returncode == 0, done.stderr
        finished(move)

        assert digests(list(archive.received.iterdir())) == wanted
        assert waiting_prompts(archive) == []
        assert archive.stop() == 0


@BOTH_DATABASES
def test_a_recall_outlives_a_killed_daemon_and_the_caller_gets_its_study(
    migrated_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", migrated_url)
    paths = bundled(*IMAGES)
    wanted = digests(as_sent_by_storescu(paths[1:2], tmp_path / "sent"))
    with running(archive):
        everything_on_the_shelf(archive, paths)
        study = study_of(paths[1])
        barcodes = cartridges_of(archive, study)
        move = archive.retrieve("movescu", study)
        until(lambda: waiting_prompts(archive) == barcodes, "a prompt for the cartridge")

        archive.kill()
        move.communicate(timeout=60)
        assert not list(archive.received.iterdir())
        archive.start()

        assert until(lambda: waiting_prompts(archive), "the prompt is still there") == barcodes
        kinds = {
            request["kind"] for request in archive.ask(lambda client: client.queue(state="waiting", limit=50))
        }
        assert "recall" in kinds
        # The workstation is back and listens; nobody has to ask again.
        with storescp(archive.received, archive.destination_port):
            assert archive.command("operator", "done", barcodes[0]).returncode == 0
            until(lambda: digests(list(archive.received.iterdir())) == wanted, "delivered later")


@pytest.mark.campaign
def test_a_cget_waits_for_the_operator_too(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url)
    paths = bundled(*IMAGES)
    wanted = digests(as_sent_by_storescu(paths[2:3], tmp_path / "sent"))
    with running(archive):
        everything_on_the_shelf(archive, paths)
        barcodes = cartridges_of(archive, study_of(paths[2]))
        get = archive.retrieve("getscu", study_of(paths[2]))
        until(lambda: waiting_prompts(archive) == barcodes, "a prompt for the cartridge")
        assert archive.command("operator", "done", barcodes[0]).returncode == 0
        finished(get)
        assert digests(list(archive.received.iterdir())) == wanted
