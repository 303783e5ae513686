"""A real daemon with a warm bucket on SeaweedFS and a cold one on moto: there, and back, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.s3servers import BUCKET, admin
from tests.story.archive import (
    CONFIG,
    Archive,
    as_sent_by_storescu,
    bundled,
    digests,
    running,
    until,
)
from tests.story.test_road import finished, study_of

IMAGES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")

POOLS = """\
  - {{name: cloud, tier: nearline, driver: s3, site: provider, options: {{bucket: hsm-tests, prefix: cloud,
     endpoint_url: "{warm}", addressing: path, profile: hsm, credentials_file: "{home}/credentials",
     attempts: 2, connect_timeout_seconds: 2, read_timeout_seconds: 10}}}}
  - {{name: glacier, tier: nearline, driver: s3, site: provider, options: {{bucket: hsm-tests,
     endpoint_url: "{cold}", addressing: path, profile: hsm, credentials_file: "{home}/credentials",
     storage_class: DEEP_ARCHIVE, restore_tier: Bulk, restore_days: 2}}}}
libraries:
"""

ROAD = """\
policy: road
priority: 1
copies: {cloud: 1, glacier: 1}
rules:
  - {name: to nearline, copy to: nearline, when: copies(cloud) = 0}
  - {name: to the cloud, copy to: cloud, when: copies(nearline) >= 1}
  - {name: to the cold, copy to: glacier, when: copies(cloud) >= 1}
  - {name: free online, release from: online, when: copies(glacier) >= 1}
  - {name: free nearline, release from: nearline, when: copies(glacier) >= 1}
schedule: every 1 second
"""


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Seaweed]:
    found = Seaweed(tmp_path / "seaweed")
    admin(found.url).create_bucket(Bucket=BUCKET)
    yield found
    found.kill()


@pytest.fixture
def cold() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    admin(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    yield f"http://{host}:{port}"
    server.stop()


def test_a_study_goes_to_nearline_to_the_cloud_and_into_the_cold_and_comes_back_the_same(
    sqlite_url: str, tmp_path: Path, warm: Seaweed, cold: str
) -> None:
    template = CONFIG.replace("libraries:\n", POOLS)
    archive = Archive(tmp_path / "home", sqlite_url, ROAD, template, warm=warm.url, cold=cold)
    credentials = archive.home / "credentials"
    credentials.write_text(f"[hsm]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    credentials.chmod(0o600)
    paths = bundled(*IMAGES)
    wanted = [digests(as_sent_by_storescu([path], tmp_path / f"sent-{path.name}")) for path in paths]
    studies = [study_of(path) for path in paths]

    def arrived() -> bool:
        pools = sorted(copy["pool"] for copy in archive.copies() if copy["state"] == "verified")
        return pools == sorted(["cloud", "glacier"] * len(paths))

    with running(archive):
        stored = archive.dcmtk("storescu", *map(str, paths))
        assert stored.returncode == 0, stored.stderr
        until(arrived, "every study is verified in both buckets and nowhere else")

        frozen = admin(cold).list_objects_v2(Bucket=BUCKET)["Contents"]
        assert {each["StorageClass"] for each in frozen if each["Key"] != ".hsm-pool"} == {"DEEP_ARCHIVE"}
        objects = admin(warm.url).list_objects_v2(Bucket=BUCKET, Prefix="cloud/")["Contents"]
        packages = [each["Key"] for each in objects if each["Key"].endswith(".tar")]
        assert len(packages) == len(paths)
        for key in packages:
            found = admin(warm.url).get_object(Bucket=BUCKET, Key=key)
            body = found["Body"].read()
            assert found["Metadata"]["sha256"] == hashlib.sha256(body).hexdigest()

        finished(archive.retrieve("movescu", studies[0]))
        assert digests(list(archive.received.iterdir())) == wanted[0]

        warm.kill()
        finished(archive.retrieve("movescu", studies[1]))
        assert digests(list(archive.received.iterdir())) == {**wanted[0], **wanted[1]}

        warm.start()
        finished(archive.retrieve("movescu", studies[2]))
        assert SECRET_KEY not in (archive.home / "daemon.log").read_text()
        assert archive.stop() == 0
