"""What a daemon refuses: bad starts, bad peers' datasets, and more than there is room for. Nothing is
half done afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from tests.story.archive import KEEP, Archive, bundled, running, until

BAD = """\
policy: bad
priority: 1
rules:
  - {name: far, copy to: moon}
"""


def serve(archive: Archive) -> str:
    """Try to start; what it says when it ends by itself."""
    done = archive.command("serve", "--config", str(archive.config))
    assert done.returncode == 1, done.stdout
    return done.stderr


def stored_files(archive: Archive) -> list[Path]:
    """Files with their names, and what is written and has none."""
    online = archive.home / "online"
    halves = [path for path in (online / ".incoming").glob("*.part") if path.stat().st_size]
    return [*(online / "studies").rglob("*.dcm"), *(path for path in halves if path.stat().st_nlink == 1)]


def status_of_store(archive: Archive, dataset: pydicom.Dataset) -> int:
    """C-STORE one dataset as it is; the archive's status."""
    ae = AE("SENDER")
    ae.add_requested_context(dataset.file_meta.MediaStorageSOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", archive.port, ae_title="HSM")
    assert association.is_established
    try:
        return int(association.send_c_store(dataset).Status)
    finally:
        association.release()


def test_a_missing_pool_folder_stops_the_start_and_is_not_created(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    mountpoint = tmp_path / "raid"
    archive.config.write_text(archive.config.read_text().replace(f"{archive.home}/online", str(mountpoint)))
    assert f"pool online: folder {mountpoint} does not exist" in serve(archive)
    assert not mountpoint.exists()


def problems(archive: Archive) -> str:
    return " ".join(archive.ask(lambda client: client.status())["daemon"]["problems"])


def test_a_pool_whose_file_system_is_not_mounted_is_out_of_service_until_it_is(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with running(archive):
        archive.stop()
    nearline, away = archive.home / "nearline", tmp_path / "away"
    nearline.rename(away)
    nearline.mkdir()
    with running(archive):
        assert "pool nearline is out of service" in problems(archive)
        assert "mounted" in problems(archive)
        assert not list(nearline.iterdir())
        nearline.rmdir()
        away.rename(nearline)
        until(lambda: not problems(archive), "it is back without a hand")


def test_an_archive_whose_ingest_pool_is_away_says_so_to_who_stores_and_goes_on_when_it_is_back(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
    with running(archive):
        assert status_of_store(archive, dataset) == 0
        archive.stop()
    online, away = archive.home / "online", tmp_path / "away"
    online.rename(away)
    online.mkdir()
    with running(archive):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.2"
        assert status_of_store(archive, dataset) == 0xA700
        assert not list(online.iterdir()), "nothing is written below the mountpoint"
        online.rmdir()
        away.rename(online)
        until(lambda: not problems(archive), "it is back without a hand")
        assert status_of_store(archive, dataset) == 0
        assert len(stored_files(archive)) == 2


def test_two_daemons_on_one_home_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with running(archive):
        assert archive.process is not None
        said = serve(archive)
    assert f"in use by another daemon (pid {archive.pid})" in said


def test_a_broken_policy_stops_the_start_and_names_its_line(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(
        tmp_path / "home", sqlite_url, "policy: bad\npriority: 1\nrules:\n  - {copy to: moon}\n"
    )
    said = serve(archive)
    assert "road.yaml:4" in said
    assert "moon" in said


def test_a_broken_policy_at_reload_leaves_the_old_one_in_force(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)

    def names() -> list[str]:
        return [policy["policy"] for policy in archive.ask(lambda client: client.policies())]

    with running(archive):
        archive.write_policy(BAD)
        os.kill(archive.pid, signal.SIGHUP)
        until(lambda: "reload refused" in archive.log(), "the reload is refused")
        assert names() == ["keep"]
        assert "errors and is not active" in str(archive.ask(lambda client: client.status()))
        archive.write_policy(KEEP.replace("keep", "kept"))
        os.kill(archive.pid, signal.SIGHUP)
        until(lambda: "has changed and is not active" in archive.log(), "the change is seen")
        assert names() == ["keep"], "a file that was saved is not in force"
        archive.ask(lambda client: client.activate_policies("a better name"))
        assert names() == ["kept"]
        archive.ask(lambda client: client.activate_policies(version=1))
        assert names() == ["keep"]
        versions = archive.ask(lambda client: client.activations())
        assert [(each["activation"], each["comment"], each["restores"]) for each in versions] == [
            (3, "", 1),
            (2, "a better name", None),
            (1, "first start", None),
        ]
    with running(archive):
        assert names() == ["keep"], "what was activated outlives the daemon, whatever the folder says"


def test_a_full_pool_answers_out_of_resources_and_keeps_nothing(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP, reserve="1000 TiB")
    with running(archive):
        dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
        assert status_of_store(archive, dataset) == 0xA700
        assert stored_files(archive) == []
        assert archive.ask(lambda client: client.find_studies(limit=5)) == []


def test_a_uid_that_is_no_uid_never_touches_a_path(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    tag = pydicom.tag.Tag("StudyInstanceUID")
    with running(archive):
        for uid in ("../../../../etc/passwd", "1.2.3/4", "1..2", "1.2.3\\1.2.4"):
            dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
            # Written raw: pydicom would check the value, a hostile peer does not.
            raw = pydicom.dataelem.RawDataElement(tag, "UI", len(uid), uid.encode(), 0, False, True)
            dataset._dict[tag] = raw
            assert status_of_store(archive, dataset) in (0xA900, 0xC000), uid
        assert stored_files(archive) == []


def test_the_same_instance_twice_is_success_and_one_copy(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with running(archive):
        dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
        assert [status_of_store(archive, dataset) for _ in range(2)] == [0, 0]
        assert len(stored_files(archive)) == 1


RULES = [("reject", 0x0111, 1), ("keep first", 0, 1), ("keep both", 0, 2)]


@pytest.mark.parametrize(("rule", "status", "files"), RULES)
def test_other_bytes_under_the_same_uid_follow_the_rule(
    sqlite_url: str, tmp_path: Path, rule: str, status: int, files: int
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP, same_uid=rule)
    with running(archive):
        dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
        assert status_of_store(archive, dataset) == 0
        first = stored_files(archive)[0].read_bytes()
        dataset.PatientComments = "changed"
        assert status_of_store(archive, dataset) == status
        assert len(stored_files(archive)) == files
        assert first in [path.read_bytes() for path in stored_files(archive)], "never overwritten"
