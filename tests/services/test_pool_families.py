"""A pool of each family through the registry: labelled once, known again, tried, and told from another's."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import s3servers
import sshserver
from sshserver import SshServer

from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY
from hsm.catalog.engine import Catalog
from hsm.config import Config
from hsm.drain import Drains
from hsm.opening import open_pools
from hsm.pooldesk import PoolDesk
from hsm.pools import Pools
from hsm.wake import Bell
from tests.nursery import nursery


class Place:
    """The options of a pool, and how to put another empty storage under the same options."""

    def __init__(self, driver: str, options: dict[str, Any], root: Path | None) -> None:
        self.driver, self.options, self.root = driver, options, root


@pytest.fixture(params=["folder", "nas", "sftp", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    root = tmp_path / "storage"
    root.mkdir()
    if request.param in ("folder", "nas"):
        yield Place(request.param, {"path": str(root)}, root)
    elif request.param == "sftp":
        if sshserver.MISSING:
            pytest.skip(sshserver.MISSING)
        server = SshServer(tmp_path / "ssh")
        options = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": getpass.getuser(),
            "path": str(root),
            "known_hosts": str(server.known_hosts),
            "key_file": str(server.folder / "id"),
        }
        try:
            yield Place("sftp", options, root)
        finally:
            assert server.process is not None
            server.process.kill()
            server.process.wait()
    else:
        credentials = tmp_path / "credentials"
        credentials.write_text(
            f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
        )
        credentials.chmod(0o600)
        found = s3servers.server()
        options = {
            "bucket": s3servers.BUCKET,
            "prefix": f"family-{s3servers.new_prefix()}",
            "endpoint_url": found.url,
            "addressing": "path",
            "credentials_file": str(credentials),
        }
        yield Place("s3", options, None)


def config(tmp_path: Path, place: Place, name: str = "second") -> Config:
    return Config.model_validate(
        {
            "home": tmp_path / "home",
            "source": tmp_path / "home" / "hsm.yaml",
            "catalog": {"url": "sqlite:////unused.db"},
            "pools": [
                {"name": "online", "tier": "online", "options": {"path": str(tmp_path / "home/online")}},
                {"name": name, "tier": "nearline", "driver": place.driver, "options": place.options},
            ],
            "api": {"socket": "/tmp/unused.sock"},
        }
    )


def close(pools: Pools) -> None:
    for pool in pools.disks.values():
        assert pool.service is not None
        pool.service.close()


def test_a_pool_of_each_family_is_labelled_known_again_and_tried(
    tmp_path: Path, place: Place, sqlite_catalog: Catalog
) -> None:
    known = config(tmp_path, place)
    pools = open_pools(known, sqlite_catalog)
    assert pools.problems() == []
    kinds = {info.name: info.kind for info in pools.infos}
    assert kinds["second"] == ("disk" if place.driver == "folder" else place.driver)
    desk = PoolDesk(known, sqlite_catalog, pools, Drains(sqlite_catalog, pools, lambda _: [], Bell()))
    uuid = desk.show("second")["volumes"][0]["uuid"]
    assert uuid
    (tried,) = desk.test("second", "")
    assert [problem for problem in tried["problems"] if "slow" not in problem] == []
    store = pools.disks["second"].store
    store.put("a/k", BytesIO(b"abc"), 3, None)
    close(pools)

    pools = open_pools(known, sqlite_catalog)
    assert pools.problems() == []
    assert b"".join(pools.disks["second"].store.get("a/k")) == b"abc"
    close(pools)

    other = open_pools(config(tmp_path, place, "third"), sqlite_catalog)
    assert "belongs to pool 'second'" in " ".join(other.problems())
    close(other)


def test_empty_storage_in_the_place_of_a_pools_own_is_out_of_service_and_stays_empty(
    tmp_path: Path, place: Place, sqlite_catalog: Catalog
) -> None:
    if place.root is None:
        place_two = Place("s3", place.options | {"prefix": f"family-{s3servers.new_prefix()}"}, None)
    else:
        place_two = place
    known = config(tmp_path, place)
    close(open_pools(known, sqlite_catalog))
    if place.root is not None:
        shutil.move(place.root, tmp_path / "away")
        place.root.mkdir()
    pools = open_pools(config(tmp_path, place_two), sqlite_catalog)
    (problem,) = pools.problems()
    assert "pool second is out of service" in problem
    close(pools)
    if place.root is not None:
        assert list(place.root.iterdir()) == []


def test_a_trial_in_a_process_of_its_own_ends_by_itself(tmp_path: Path, place: Place) -> None:
    """Helpers and connections of a driver keep no command from ending."""
    text = tmp_path / "hsm.yaml"
    options = ", ".join(f"{key}: {value}" for key, value in place.options.items())
    text.write_text(
        f"pools:\n  - {{name: online, tier: online, options: {{path: {tmp_path}/online}}}}\n"
        f"  - {{name: second, tier: nearline, driver: {place.driver}, options: {{{options}}}}}\n"
    )
    words = ["--home", str(tmp_path), "pool", "test", "second", "--here", "--config", str(text)]
    done = nursery().run(words, os.environ, 60)
    assert "read back" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0 or "slow" in done.stdout
