"""The online pool on a RAID path that is pulled away from under the daemon: nothing goes to the root disk,
nobody is told a lie, and it comes back by itself."""

from __future__ import annotations

from pathlib import Path

import pydicom

from hsm.client import Client
from tests.loopmount import LoopMount
from tests.story.archive import BOTH_DATABASES, KEEP, Archive, bundled, running, until
from tests.story.test_refusals import problems, status_of_store
from tests.story.test_road import finished


def metrics(archive: Archive) -> str:
    return str(archive.ask(Client.metrics))


@BOTH_DATABASES
def test_a_raid_path_is_pulled_away_and_put_back_under_a_daemon(migrated_url: str, tmp_path: Path) -> None:
    mount = LoopMount(tmp_path, "ext4", 128)
    try:
        archive = Archive(tmp_path / "home", migrated_url, KEEP)
        options = f'{{path: "{mount.point}", fs_uuid: {mount.uuid}}}'
        config = archive.config.read_text()
        found = f'driver: folder, options: {{path: "{archive.home}/online"}}'
        assert found in config
        archive.config.write_text(config.replace(found, f"driver: raid, options: {options}"))
        datasets = [pydicom.dcmread(path) for path in bundled("CT_small.dcm", "MR_small.dcm")]
        with running(archive):
            assert status_of_store(archive, datasets[0]) == 0x0000
            assert f'device="{Path(mount.device).name}"' in metrics(archive)

            mount.unmount()
            until(lambda: mount.uuid in problems(archive), "the status names the file system that is away")
            assert status_of_store(archive, datasets[1]) == 0xA700
            assert list(mount.point.iterdir()) == [], "nothing went to the root disk"
            until(lambda: "is not at" in archive.log(), "the kernel tells of it, not only a probe", 10)

            mount.mount()
            until(lambda: not problems(archive), "it comes back by itself")
            assert status_of_store(archive, datasets[1]) == 0x0000
            assert len(list(mount.point.rglob("*.dcm"))) == 2

            mount.break_down()
            until(lambda: "read-only" in problems(archive), "a read-only file system is told")
            # What was under way when it happened decides which of the two; success it never is.
            assert status_of_store(archive, pydicom.dcmread(bundled("rtplan.dcm")[0])) in (0xA700, 0x0110)
            study = str(datasets[0].StudyInstanceUID)
            finished(archive.retrieve("movescu", study))  # what is there is served
            assert archive.stop() == 0
    finally:
        mount.close()
