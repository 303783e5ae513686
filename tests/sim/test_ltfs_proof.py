"""The journal's head on LTFS cartridges, as the index on the medium has it: on the emulation and, where there
is one, on a real LTFS (tests/ltfs_emulator/README.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
from ltfs_hall import KINDS, LtfsIo, generations, library_options, ltfsck

from drivers.base import VolumeLabel
from drivers.tape.configure import open_mtx
from drivers.tape.ltfs.volume import NOTES_NAME
from hsm import opening
from hsm.anchor import Anchor, parse
from hsm.audit.anchors import AnchorReader
from hsm.audit.log import LogAudit
from hsm.audit.verify import AskedFor, VerifyAudit
from hsm.catalog import chainread
from tests.sim.conftest import MakeWorld
from tests.sim.test_scrubbing import BOTH, EVERY
from tests.sim.world import TWO_TAPES, Shape, World

pytestmark = pytest.mark.campaign

ONE, TWO = "HSM001L8", "HSM002L8"


class Proof:
    """An archive whose cartridges are LTFS volumes."""

    def __init__(self, io: LtfsIo, kind: str, make_world: MakeWorld) -> None:
        self.io, self.kind, self.make_world = io, kind, make_world

    def world(self, policies: str) -> World:
        shape = Shape(cartridges=4, tape={"scrub": EVERY}, disk={"scrub": EVERY})
        self.archive: World = self.make_world(policies=policies, shape=shape)
        return self.archive

    def put_away(self) -> None:
        """No cartridge is in a drive: whoever has the key of the room can do with it what he likes."""
        self.archive.custody.unmount_all()
        self.archive.custody.inventory()

    def heads(self, barcode: str) -> list[Anchor]:
        """What the commit messages of the indexes on the medium say, the last first."""
        messages = generations(self.io, self.kind, barcode)
        told = [messages[number] for number in sorted(messages, reverse=True)]
        found = (parse(each.partition("; ")[2]) for each in told)
        return list(dict.fromkeys(each for each in found if each is not None))

    @contextmanager
    def by_hand(self, barcode: str) -> Iterator[Path]:
        """The root of a volume that somebody has mounted with LTFS's own commands."""
        library = self.archive.custody.library("library")
        drive = library.inventory().drives()[0].address
        library.mount(VolumeLabel(barcode, self.archive.volume(barcode).uuid, "tape"), drive)
        yield self.io.mountpoints / f"drive-{drive}"
        library.unmount(drive)

    def verify(self, *barcodes: str) -> dict[str, Any]:
        return LogAudit(self.archive.catalog, self.reader()).verify({}, barcodes)

    def reader(self) -> AnchorReader:
        world = self.archive
        return AnchorReader(world.catalog, world.pools, world.custody, "HSM")


@pytest.fixture(params=KINDS)
def proof(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld
) -> Iterator[Proof]:
    io = LtfsIo(tmp_path / "hall", [f"HSM00{number}L8" for number in range(1, 5)], slots=6)
    library: Any = open_mtx(library_options(io, request.param), io)
    monkeypatch.setattr(opening.registry, "open_library", lambda *_: library)
    yield Proof(io, request.param, make_world)
    io.close()


def test_each_index_on_the_medium_names_the_journals_head_of_its_time(proof: Proof) -> None:
    world = proof.world(BOTH)
    for study in (1, 2):
        world.store(study, 2)
        world.follow()
        mounted = os.getxattr(proof.io.mountpoints / "drive-60000", "user.ltfs.commitMessage").decode()
        now = parse(mounted.partition("; ")[2])
        assert now is not None
        with world.catalog.read() as session:
            assert chainread.digest_of(session, now.seq) == now.digest
        proof.put_away()
        on_medium = proof.heads(ONE)
        assert (on_medium[0], len(on_medium)) == (now, study)
    found = proof.verify(ONE)
    assert (found["good"], found["anchors"]) == (True, 4), "two on the cartridge, and their two records"
    by_hand = {each.seq: each.digest for each in on_medium}  # hsm audit log verify --anchors
    assert LogAudit(world.catalog, proof.reader()).verify(by_hand)["good"]
    assert not LogAudit(world.catalog, proof.reader()).verify(by_hand | {now.seq: bytes(32)})["good"]


def test_a_generation_that_was_rolled_back_is_noticed_also_after_more_was_written(proof: Proof) -> None:
    world = proof.world(BOTH)
    for study in (1, 2):
        world.store(study, 2)
        world.follow()
    proof.put_away()
    assert proof.verify(ONE)["good"]
    proof.put_away()
    first = proof.heads(ONE)[-1]
    messages = generations(proof.io, proof.kind, ONE)
    number = max(each for each, said in messages.items() if first.line() in said)
    ltfsck(proof.io, proof.kind, ONE, "-g", str(number), "-r")
    (problem,) = proof.verify(ONE)["problems"]
    assert f"the last that it carries is of record {first.seq})" in problem["message"]
    assert "1 missing" in problem["message"]
    world.store(3, 2)
    world.follow()
    (problem,) = proof.verify(ONE)["problems"]
    assert "1 missing" in problem["message"], "the new one is there; the old one stays away"
    # What went with the generation is missed when it is read back, and comes back from the other pool.
    audit = VerifyAudit(world.catalog, world.pools, world.bell)
    queued = audit.ask(AskedFor(volume=ONE), "anna")
    for _ in range(4):
        world.later()
    told = audit.progress(queued["requests"])["copies"]
    assert sorted(each["result"] == "matches" for each in told) == [False, True, True]
    for _ in range(4):
        world.repairs.round()
        world.later()
    for study in (1, 2, 3):
        assert world.on_tape(study)
        world.assert_readable(study)
    world.check()


def test_what_another_volume_carries_is_not_taken_for_this_ones(proof: Proof) -> None:
    world = proof.world(TWO_TAPES)
    world.store(1, 2)
    world.follow()
    proof.put_away()
    assert proof.verify(ONE, TWO)["good"]
    proof.put_away()
    notes = {
        barcode: b"".join(f"{each.line()}\n".encode() for each in reversed(proof.heads(barcode)))
        for barcode in (ONE, TWO)
    }
    assert notes[ONE] != notes[TWO]
    with proof.by_hand(ONE) as mounted:
        assert (mounted / NOTES_NAME).read_bytes() == notes[ONE]
        (mounted / NOTES_NAME).unlink()
        (mounted / NOTES_NAME).write_bytes(notes[TWO])
    (problem,) = proof.verify(ONE, TWO)["problems"]
    assert problem["message"].startswith(f"{ONE} does not carry the anchor of record")
