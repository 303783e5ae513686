"""Silent corruption, at random, on every kind of medium: it is found, made good, and never served.

Each round spares one medium and flips bytes on the others. Before anything has looked, retrieves must give
the bytes that were stored; after the scrub every copy must be verified again. ``HSM_CORRUPTION_SEED`` lives
one seed again, ``HSM_CORRUPTION_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import getpass
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
import s3servers
import sshserver
from ltfs_hall import LtfsIo, library_options, real_ltfs, why_not

from drivers.tape.configure import open_mtx
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from hsm import opening
from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY
from tests.sim.conftest import MakeWorld
from tests.sim.test_bad_discs import jukebox
from tests.sim.test_scrubbing import EVERY, scrub
from tests.sim.world import NOTHING, Shape, World, dataset, study_uid

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

SEED = int(os.environ.get("HSM_CORRUPTION_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
ROUNDS = int(os.environ.get("HSM_CORRUPTION_ROUNDS", "2"))
STUDIES = (1, 2, 3)
BARCODES = tuple(f"HSM00{number}L8" for number in range(1, 7))
DISKS = ("online", "nearline", "nas", "bunker", "cloud")
EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {nearline: 1, nas: 1, bunker: 1, cloud: 1, tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to nas, copy to: nas}
  - {name: to bunker, copy to: bunker}
  - {name: to cloud, copy to: cloud}
  - {name: to tape, copy to: tape}
"""


def pieces(study: int) -> list[bytes]:
    """What lies in each instance of a study, and in no other."""
    return [dataset(64, study * 1000 + 100 + number) for number in (1, 2)]


def flip_in_files(root: Path, study: int, rng: random.Random) -> int:
    """Flip a bit of one of the study's instances wherever it lies below a folder; how many places."""
    piece = rng.choice(pieces(study))
    found = 0
    for path in sorted(each for each in root.rglob("*") if each.is_file() and not each.is_symlink()):
        data = path.read_bytes()
        if (at := data.find(piece)) >= 0:
            with open(path, "r+b") as file:
                file.seek(at + rng.randrange(10_000))
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ (1 << rng.randrange(8))]))
            found += 1
    return found


def flip_on_tapes(io: FakeIo, study: int, rng: random.Random) -> int:
    piece, found = rng.choice(pieces(study)), 0
    for tape in io.tapes.values():
        for number, record in enumerate(tape.records):
            if record is not None and (at := bytes(record).find(piece)) >= 0:
                data = bytearray(record)
                data[at + rng.randrange(min(10_000, len(data) - at))] ^= 1 << rng.randrange(8)
                tape.records[number] = bytes(data)
                found += 1
    return found


def flip_in_bucket(prefix: str, study: int, rng: random.Random) -> int:
    """An object with other bytes under the same metadata, as a server would give that lost some."""
    admin = s3servers.admin(s3servers.server().url)
    piece, found = rng.choice(pieces(study)), 0
    for each in admin.list_objects_v2(Bucket=s3servers.BUCKET, Prefix=prefix).get("Contents", ()):
        answer = admin.get_object(Bucket=s3servers.BUCKET, Key=each["Key"])
        data = bytearray(answer["Body"].read())
        if (at := data.find(piece)) >= 0:
            data[at + rng.randrange(10_000)] ^= 1 << rng.randrange(8)
            admin.put_object(
                Bucket=s3servers.BUCKET, Key=each["Key"], Body=bytes(data), Metadata=answer["Metadata"]
            )
            found += 1
    return found


Flip = Callable[[int, random.Random], int]


class Hall:
    """A library of one kind, and how its media are harmed."""

    def __init__(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library: Callable[[Path], dict[str, Any]] | None = None
        self.flip: Flip = lambda study, rng: flip_in_files(tmp_path / "home" / "library", study, rng)
        self.close: Callable[[], None] = lambda: None
        if kind == "optical":
            if shutil.which("xorriso") is None:
                pytest.skip("xorriso is not installed")
            self.library = jukebox(8 << 20)
        elif kind == "plain tape":
            io = fake_library(BARCODES)
            library: Any = open_mtx({"changer": CHANGER}, io)
            monkeypatch.setattr(opening.registry, "open_library", lambda *_: library)
            self.flip = lambda study, rng: flip_on_tapes(io, study, rng)
        elif kind.endswith("LTFS"):
            real = kind.startswith("real")
            if reason := "mkltfs is not on the path" * (not real_ltfs()) if real else why_not():
                pytest.skip(f"no {kind}: {reason} (tests/ltfs_emulator/README.md)")
            hall = LtfsIo(tmp_path / "hall", list(BARCODES), slots=8)
            played: Any = open_mtx(library_options(hall, "real" if real else "emulated"), hall)
            monkeypatch.setattr(opening.registry, "open_library", lambda *_: played)
            self.flip = lambda study, rng: flip_in_files(hall.folder / "cartridges", study, rng)
            self.close = hall.close


@pytest.fixture(params=["simulated", "plain tape", "LTFS", "real LTFS", "optical"])
def hall(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    found = Hall(request.param, tmp_path, monkeypatch)
    yield found
    found.close()


def remote_pools(tmp_path: Path) -> tuple[list[dict[str, Any]], str]:
    """A share, an SSH server and a bucket; the bucket's prefix."""
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    ssh, bucket, prefix = sshserver.shared_server(), s3servers.server(), f"rot-{s3servers.new_prefix()}"
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
    credentials.chmod(0o600)
    for name in ("nas", "bunker"):
        (tmp_path / name).mkdir()
    sftp = {
        "host": "127.0.0.1",
        "port": ssh.port,
        "user": getpass.getuser(),
        "path": str(tmp_path / "bunker"),
        "known_hosts": str(ssh.known_hosts),
        "key_file": str(ssh.folder / "id"),
    }
    s3 = {
        "bucket": s3servers.BUCKET,
        "prefix": prefix,
        "endpoint_url": bucket.url,
        "addressing": "path",
        "credentials_file": str(credentials),
    }
    options = {"nas": ("nas", {"path": str(tmp_path / "nas")}), "bunker": ("sftp", sftp), "cloud": ("s3", s3)}
    pools = [
        {"name": name, "tier": "nearline", "driver": driver, "options": given, "scrub": EVERY}
        for name, (driver, given) in options.items()
    ]
    return pools, prefix


def flip_staged(world: World, study: int, rng: random.Random) -> int:
    return flip_in_files(world.home / "staging", study, rng)


def test_random_corruption_is_found_made_good_and_never_served(
    make_world: MakeWorld, hall: Hall, tmp_path: Path
) -> None:
    print(f"HSM_CORRUPTION_SEED={SEED} lives this again")
    rng = random.Random(SEED)
    pools, prefix = remote_pools(tmp_path)
    shape = Shape(
        cartridges=6, tape={"scrub": EVERY}, disk={"scrub": EVERY}, pools=tuple(pools), library=hall.library
    )
    world = make_world(policies=EVERYWHERE, shape=shape)
    try:
        rot(world, hall, tmp_path, prefix, rng)
    finally:
        for pool in world.pools.disks.values():
            if pool.service is not None:
                pool.service.close()


def rot(world: World, hall: Hall, tmp_path: Path, prefix: str, rng: random.Random) -> None:
    """Live through the rounds."""
    for study in STUDIES:
        world.store(study, 2)
    world.follow()
    flips: dict[str, Flip] = {
        "online": lambda study, rng: flip_in_files(world.home / "online", study, rng),
        "nearline": lambda study, rng: flip_in_files(world.home / "nearline", study, rng),
        "nas": lambda study, rng: flip_in_files(tmp_path / "nas", study, rng),
        "bunker": lambda study, rng: flip_in_files(tmp_path / "bunker", study, rng),
        "cloud": lambda study, rng: flip_in_bucket(prefix, study, rng),
        "tape": hall.flip,
    }
    harmed = 0
    for number in range(ROUNDS):
        spared = rng.choice(sorted(flips)) if number else "tape"
        for study in STUDIES:
            for name in sorted(flips):
                if name != spared and (not number or rng.random() < 0.6):
                    assert flips[name](study, rng), f"seed {SEED}: study {study} is not on {name}"
                    harmed += 1
        world.use_policies(NOTHING)
        world.assert_readable(
            rng.choice(STUDIES)
        )  # by the sight of what is damaged; what is staged is harmed next
        for study in STUDIES:
            flip_staged(world, study, rng)
            world.assert_readable(study)
        world.use_policies(EVERYWHERE)
        for _ in range(3):
            scrub(world)
        for study in STUDIES:
            copies = world.copies(study)
            bad = {
                name: state for (_, name), state in copies.items() if state not in ("verified", "released")
            }
            assert bad == {}, f"seed {SEED}, round {number}, spared {spared}"
            assert {name for (_, name), state in copies.items() if state == "verified"} >= set(DISKS)
            assert world.on_tape(study), f"seed {SEED}, round {number}: nothing on tape of {study_uid(study)}"
            world.assert_readable(study)
        assert world.repairs.problems() == [], f"seed {SEED}"
        world.check()
    assert harmed >= 15
