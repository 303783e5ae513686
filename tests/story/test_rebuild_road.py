"""After the fire: the database is gone, and the archive comes back from its media alone, byte for byte."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.s3servers import BUCKET, admin
from tests.story.archive import (
    CONFIG,
    HSM,
    KEEP,
    Archive,
    as_sent_by_storescu,
    bundled,
    charset_files,
    digests,
    running,
    until,
)
from tests.story.test_road import finished, study_of

LONG = os.environ.get("HSM_STORY") == "long"
IMAGES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")
SEED = int(os.environ.get("HSM_REBUILD_SEED", "7"))
KILLS = 12 if LONG else 2

POOLS = """\
  - {{name: cloud, tier: nearline, driver: s3, site: provider, options: {{bucket: hsm-tests, prefix: cloud,
     endpoint_url: "{warm}", addressing: path, profile: hsm, credentials_file: "{home}/credentials",
     attempts: 2, connect_timeout_seconds: 2, read_timeout_seconds: 10}}}}
  - {{name: discs, tier: offline, library: jukebox}}
libraries:
  - name: jukebox
    driver: optical
    options: {{images: "{home}/jukebox", discs: 4, slots: 4, mail_slots: 1, drives: 1,
               spool: "{home}/spool", capacity_bytes: 64 MiB}}
"""

EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {nearline: 1, cloud: 1, tape: 1, discs: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to the cloud, copy to: cloud}
  - {name: to tape, copy to: tape}
  - {name: to discs, copy to: discs}
  - {name: free online, release from: online,
     when: copies(tape) >= 1 and copies(discs) >= 1 and copies(cloud) >= 1 and copies(nearline) >= 1}
schedule: every 1 second
"""
MEDIA = ("nearline", "cloud", "tape", "discs")


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Seaweed]:
    found = Seaweed(tmp_path / "seaweed")
    admin(found.url).create_bucket(Bucket=BUCKET)
    yield found
    found.kill()


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_lost_database_is_rebuilt_from_media_alone_and_every_study_comes_back_identical(
    sqlite_url: str, tmp_path: Path, warm: Seaweed
) -> None:
    if shutil.which("xorriso") is None:
        pytest.skip("xorriso is not installed")
    archive = Archive(
        tmp_path / "home", sqlite_url, EVERYWHERE, CONFIG.replace("libraries:\n", POOLS), warm=warm.url
    )
    credentials = archive.home / "credentials"
    credentials.write_text(f"[hsm]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    credentials.chmod(0o600)
    paths = [*bundled(*IMAGES), *(charset_files() if LONG else charset_files()[:1])]
    wanted = digests(as_sent_by_storescu(paths, tmp_path / "sent"))
    studies = sorted({study_of(path) for path in paths})

    def everywhere() -> bool:
        good = {}
        for copy in archive.copies():
            if copy["state"] == "verified":
                good.setdefault(copy["package"], set()).add(copy["pool"])
        return len(good) >= len(studies) and all(pools == set(MEDIA) for pools in good.values())

    with running(archive):
        stored = archive.dcmtk("storescu", *map(str, paths))
        assert stored.returncode == 0, stored.stderr
        until(everywhere, "every study verified on every medium, and off the online disk", 120)
        assert archive.stop() == 0
    for leaving in tmp_path.glob("catalog.db*"):
        leaving.unlink()

    _by_hand(archive.home / "nearline", tmp_path / "hand")
    for pool in MEDIA if LONG else ("discs",):
        scratch = f"sqlite:///{tmp_path}/{pool}.db"
        alone = archive.command("catalog", "rebuild", "--from", pool, "--into", scratch, "--json")
        assert alone.returncode == 0, alone.stdout + alone.stderr
        assert json.loads(alone.stdout)["detail"]["totals"]["studies"] == len(studies), pool

    _rebuild_killed_at_random(archive)
    done = archive.command("catalog", "rebuild", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    detail = json.loads(done.stdout)["detail"]
    assert detail["complete"] and not detail["differs"]
    totals = detail["totals"]
    assert (totals["studies"], totals["copies"]) == (len(studies), len(MEDIA) * totals["packages"])
    whole = archive.command("catalog", "check")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    with running(archive):
        for study in studies:
            finished(archive.retrieve("movescu", study))
        assert digests(list(archive.received.iterdir())) == wanted
        assert archive.command("audit", "log", "verify").returncode == 0
        told = archive.command("audit", "log", "--subject", "catalog", "--json")
        records = {each["verb"]: each for each in json.loads(told.stdout)}
        assert records["rebuild began"]["seq"] == 1, "the journal begins anew, and says so"
        anchors = records["rebuilt"]["detail"]["anchors"]
        assert anchors and all(each.startswith("HSM ") for each in anchors), "of the journal that was"
        lost = archive.command("audit", "log", "verify", "--from-volume", "HSM001L8")
        assert lost.returncode == 4 and "lost with its database" in lost.stderr.replace("\n", " ")
        refused = archive.command("catalog", "rebuild")
        assert refused.returncode == 4, "a daemon has it"
        assert archive.stop() == 0


def _rebuild_killed_at_random(archive: Archive) -> None:
    """Begun and killed a few times; what is left is gone on with."""
    rng = random.Random(SEED)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [str(HSM), "catalog", "rebuild"],
            env=archive._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.8, 2.5))
        process.kill()
        process.wait(60)


def _by_hand(pool: Path, folder: Path) -> None:
    """A volume is opened without this software: the commands of docs/package-format.md."""
    sed = r"""sed -n 's/^{"name":"\([^"]*\)".*"sha256":"\([0-9a-f]*\)".*$/\2  \1/p' manifest.json"""
    tars = sorted(pool.rglob("*.tar"))
    assert tars
    for number, tar in enumerate(tars):
        here = folder / str(number)
        here.mkdir(parents=True)
        script = f"tar xf '{tar}' && {sed} | sha256sum -c -"
        done = subprocess.run(["sh", "-e", "-c", script], cwd=here, capture_output=True, text=True)
        assert done.returncode == 0 and ": OK" in done.stdout, done.stdout + done.stderr


BACKED_UP = CONFIG.replace(
    'catalog: {{url: "{catalog}"}}', 'catalog: {{url: "{catalog}", backup: {{pool: nearline, keep: 2}}}}'
)
TO_TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
schedule: every 1 second
"""


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_an_older_catalog_is_restored_from_a_pool_compared_with_its_media_and_everything_is_there(
    sqlite_url: str, tmp_path: Path
) -> None:
    assert BACKED_UP != CONFIG
    archive = Archive(tmp_path / "home", sqlite_url, TO_TAPE, BACKED_UP)
    paths = bundled(*IMAGES)
    wanted = digests(as_sent_by_storescu(paths, tmp_path / "sent"))
    studies = [study_of(path) for path in paths]
    with running(archive):
        assert archive.dcmtk("storescu", str(paths[0])).returncode == 0
        until(lambda: archive.all_on_tape(1), "the first study on tape")
        done = archive.command("catalog", "backup", "--pool", "nearline", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        drilled = archive.command("catalog", "drill", "--sample", "2", "--json")
        assert drilled.returncode == 0, drilled.stdout + drilled.stderr
        assert json.loads(drilled.stdout)["whole"]["packages"] == 1
        assert archive.dcmtk("storescu", str(paths[1])).returncode == 0
        until(lambda: archive.all_on_tape(2), "the second study on tape")
        archive.write_policy(KEEP)
        archive.kill()
    for leaving in tmp_path.glob("catalog.db*"):
        leaving.unlink()
    key = json.loads(done.stdout)["key"]
    back = archive.command("catalog", "restore", "--pool", "nearline", "--key", key)
    assert back.returncode == 0, back.stdout + back.stderr
    archive.write_policy(TO_TAPE)
    with running(archive):
        assert archive.dcmtk("storescu", str(paths[2])).returncode == 0, "it receives"
        assert "catalog check --media" in archive.command("status", "--json").stdout
        assert len(archive.ask(lambda client: client.find_studies(limit=9))) == 2
        time.sleep(1.5)
        assert all(copy["state"] == "verified" for copy in archive.copies()), "nothing new is begun"
        assert archive.stop() == 0
    compared = archive.command("catalog", "check", "--media")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    with running(archive):
        until(lambda: archive.all_on_tape(3), "every study on tape, the forgotten one too")
        for study in studies:
            finished(archive.retrieve("movescu", study))
        assert digests(list(archive.received.iterdir())) == wanted
        assert archive.stop() == 0
