"""A study's proof: checked by the script in it, in a process that knows nothing of this software."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm.audit.prove import Prover
from hsm.errors import NotFound
from tests.sim.conftest import MakeWorld
from tests.sim.world import World, study_uid

POLICY = """\
policy: all
priority: 1
copies: {nearline: 1, tape: 1}
rules: [{name: to nearline, copy to: nearline}, {name: to tape, copy to: tape}]
"""


def prove(world: World, study: int, folder: Path) -> Path:
    """The proof of a study, unpacked."""
    file = io.BytesIO()
    Prover(world.catalog, "HSM").write(study_uid(study), file)
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        packed.extractall(folder)
    return folder


def check(folder: Path, *packages: Path) -> tuple[int, str]:
    """What the script in it says, run alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", folder / "verify.py", folder, *packages],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world(policies=POLICY)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    return world


def test_a_proof_is_checked_without_this_software_and_names_the_copies(world: World, tmp_path: Path) -> None:
    folder = prove(world, 2, tmp_path / "proof")
    assert check(folder)[0] == 0, check(folder)
    study = json.loads((folder / "study.json").read_text())
    (package,) = study["packages"]
    good = {copy["volume"] for copy in package["copies"] if copy["state"] == "verified"}
    assert good == {"online", "nearline", *world.on_tape(2)}
    digests = {each["instance"]: each["sha256"] for each in study["instances"]}
    mine = study_uid(2) + "."
    known = {uid: digest.hex() for uid, digest in world.acknowledged.items() if uid.startswith(mine)}
    assert digests == known
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    verbs = [each["verb"] for each in records]
    assert "copy verified" in verbs
    assert {each["subject"] for each in records if each["kind"] == "study"} == {study_uid(2)}
    script = (folder / "verify.py").read_text().splitlines()
    assert len(script) <= 50


def test_a_package_s_bytes_are_compared_with_what_was_archived(world: World, tmp_path: Path) -> None:
    folder = prove(world, 1, tmp_path / "proof")
    key = json.loads((folder / "study.json").read_text())["packages"][0]["package"]
    data = (world.home / "nearline" / world.tar_of(1)).read_bytes()
    good = tmp_path / key
    good.write_bytes(data)
    assert check(folder, good)[0] == 0
    bad = tmp_path / "bad" / key
    bad.parent.mkdir()
    bad.write_bytes(data[:-1] + b"\x01")
    code, said = check(folder, bad)
    assert (code, "not the bytes that were archived" in said) == (1, True)


def _chain(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        path = folder / "chain.jsonl.gz"
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        path.write_bytes(gzip.compress(("\n".join(change(lines)) + "\n").encode()))

    return tamper


def _own(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        path = folder / "journal.jsonl"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return tamper


def _anchor(folder: Path) -> None:
    path = folder / "anchor.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"from_digest": "00" * 32}))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (
            _chain(lambda lines: [*lines[:5], lines[5].replace(',"', ',"x', 1), *lines[6:]]),
            "not at the",
        ),
        (_chain(lambda lines: lines[:5] + lines[6:]), "is missing"),
        (_chain(lambda lines: lines[:-1]), "not at the anchor"),
        (_chain(lambda lines: [lines[1], lines[0], *lines[2:]]), "is missing"),
        (_chain(lambda lines: [lines[0], *lines]), "not at the anchor"),
        (_own(lambda lines: [lines[0].replace('"actor": "', '"actor": "not '), *lines[1:]]), "not the one"),
        (_own(lambda lines: [*lines, lines[0].replace('"seq": ', '"seq": 9')]), "is not in the chain"),
    ],
)
def test_a_proof_that_was_tampered_with_is_found_out(
    world: World, tmp_path: Path, tamper: Callable[[Path], None], said: str
) -> None:
    folder = prove(world, 1, tmp_path / "proof")
    tamper(folder)
    code, words = check(folder)
    assert code == 1
    assert said in words


def test_a_proof_from_another_beginning_does_not_reach_the_anchor(world: World, tmp_path: Path) -> None:
    folder = prove(world, 2, tmp_path / "proof")
    _anchor(folder)
    assert check(folder)[0] == 1


def test_a_study_that_is_not_there_has_no_proof(world: World) -> None:
    with pytest.raises(NotFound, match=r"no study 1\.2"):
        Prover(world.catalog, "HSM").write("1.2", io.BytesIO())
