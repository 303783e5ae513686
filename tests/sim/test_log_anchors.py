"""The journal's head on every medium: what it proves when the database was written anew."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from journalforger import disarm, rewrite
from sqlalchemy import text

from drivers.base import VolumeLabel
from drivers.notes import annotated
from hsm.anchor import Anchor, parse
from hsm.audit.anchors import AnchorReader
from hsm.audit.log import LogAudit
from hsm.audit.witness import Witness
from hsm.catalog import chainread, journal
from hsm.errors import NotFound, Refused
from hsm.policyrun.frozen import frozen
from hsm.trail.file import FileSink, last_record
from hsm.trail.shipper import Shipper
from tests.sim.conftest import MakeWorld
from tests.sim.world import World

POLICY = """\
policy: all
priority: 1
copies: {nearline: 1, tape: 1}
rules: [{name: to nearline, copy to: nearline}, {name: to tape, copy to: tape}]
"""
TAPE = "HSM001L8"


@pytest.fixture
def world(make_filled: MakeWorld) -> World:
    world = make_filled(POLICY)
    world.anchoring.round()
    return world


def audit(world: World) -> LogAudit:
    return LogAudit(world.catalog, AnchorReader(world.catalog, world.pools, world.custody, "HSM"))


def test_every_flush_leaves_the_journals_head_on_the_tape_and_on_record(world: World) -> None:
    world.store(2, 1)
    world.follow()
    with world.catalog.read() as session:
        written = [each for each in journal.history(session, TAPE) if each.verb == "anchored"]
        kept = {each.detail["seq"]: chainread.digest_of(session, each.detail["seq"]) for each in written}
    assert len(written) == 2
    label = VolumeLabel(TAPE, world.volume(TAPE).uuid, "tape")
    store = world.library.mount(label, world.library.inventory().drives()[0].address)
    carrier = annotated(store)
    assert carrier is not None
    found = [parse(line) for line in carrier.notes()]
    assert [(each.archive, each.seq, each.digest) for each in found if each] == [
        ("HSM", seq, digest) for seq, digest in kept.items()
    ]


@pytest.mark.campaign
def test_pools_without_drives_and_the_file_outside_get_one_when_it_is_time(world: World) -> None:
    file = world.home / "anchors.txt"
    assert len(file.read_text().splitlines()) == 1
    world.clock.advance(7 * 3600)
    assert world.anchoring.round() == 0, "nothing has happened since but the anchors themselves"
    world.store(2, 1)
    world.seal_all()
    assert world.anchoring.round() == 2
    world.store(3, 1)
    world.seal_all()
    assert world.anchoring.round() == 0, "too soon"
    with world.catalog.read() as session:
        for line in file.read_text().splitlines():
            seq, digest, _ = line.split(maxsplit=2)
            assert chainread.digest_of(session, int(seq)) == bytes.fromhex(digest)
    assert len(list((world.home / "nearline" / "anchors").iterdir())) == 2


@pytest.mark.campaign
def test_a_file_outside_that_cannot_be_written_is_a_problem_until_it_can(world: World) -> None:
    file = world.anchoring.file = world.home / "away" / "anchors.txt"
    world.store(2, 1)
    world.clock.advance(7 * 3600)
    world.anchoring.round()
    (said,) = world.anchoring.problems()
    assert str(file) in said
    file.parent.mkdir()
    world.anchoring.round()
    assert world.anchoring.problems() == []


@pytest.mark.parametrize("medium", [TAPE, "nearline"])
def test_a_journal_written_anew_whole_is_found_by_what_the_media_say(world: World, medium: str) -> None:
    assert audit(world).verify({}, [medium])["good"]
    rewrite(world.catalog, 3)
    assert audit(world).verify({})["good"], "the chain is whole again, and its own anchors agree"
    found = audit(world).verify({}, [medium])
    assert not found["good"]
    assert "was kept on " + medium in found["problems"][0]["message"]


@pytest.mark.campaign
def test_a_forger_who_forgets_the_records_of_the_anchors_is_found_without_a_volume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journalforger._agreeing", lambda _verb, detail, _digests: detail)
    rewrite(world.catalog, 3)
    found = audit(world).verify({})
    assert "as record" in found["problems"][0]["message"]


def test_an_older_database_in_its_place_is_found_by_a_tape_that_knows_more(world: World) -> None:
    old = world.home.parent / "older.db"
    with (
        closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as now,
        closing(sqlite3.connect(old)) as then,
    ):
        now.backup(then)
    world.store(2, 1)
    world.follow()
    world.url = f"sqlite:///{old}"
    world = world.rebuild()
    assert audit(world).verify({})["good"]
    found = audit(world).verify({}, [TAPE])
    assert not found["good"]
    assert (
        "is missing, and was there when its digest was kept on HSM001L8" in found["problems"][-1]["message"]
    )


def test_an_older_state_of_a_tape_in_its_place_is_found_by_the_anchor_that_is_missing(world: World) -> None:
    medium = world.library.medium_folder(TAPE)
    shutil.copytree(medium, world.home / "older")
    world.store(2, 1)
    world.follow()
    world.custody.unmount_all()
    shutil.rmtree(medium)
    (world.home / "older").rename(medium)
    (problem,) = audit(world).verify({}, [TAPE])["problems"]
    assert problem["message"].startswith(f"{TAPE} does not carry the anchor of record")
    assert "an older generation of it is in force" in problem["message"]


@pytest.mark.campaign
def test_a_flush_that_had_nothing_to_write_puts_no_anchor_on_record(world: World) -> None:
    label = VolumeLabel(TAPE, world.volume(TAPE).uuid, "tape")
    store = world.library.mount(label, world.library.inventory().drives()[0].address)
    anchor = world.anchoring.note(store, TAPE)
    assert anchor is not None
    store.flush()
    world.anchoring.noted(anchor, store, TAPE, "drive 1")
    assert audit(world).verify({}, [TAPE])["good"]
    assert len([verb for verb, _ in world.history(TAPE) if verb == "anchored"]) == 1


@pytest.mark.campaign
def test_a_volume_without_an_anchor_or_that_is_not_there_is_said_and_not_taken_for_agreement(
    world: World,
) -> None:
    with pytest.raises(NotFound):
        audit(world).verify({}, ["NOBODY"])
    with pytest.raises(NotFound, match="tape is a pool of a library: name one of its volumes"):
        audit(world).verify({}, ["tape"])
    with pytest.raises(Refused, match="has written nothing on it"):
        audit(world).verify({}, ["HSM003L8"])
    other = AnchorReader(world.catalog, world.pools, world.custody, "OTHER")
    with pytest.raises(Refused, match="no anchor of OTHER is on HSM001L8, but of HSM"):
        other.read(TAPE)


def test_an_anchor_says_what_it_is_and_nothing_else_is_taken_for_one(world: World) -> None:
    anchor = Anchor("HSM", 7, bytes(32), world.clock.now())
    assert parse(anchor.line()) == anchor
    assert anchor.key == "anchors/000000000007.json"
    said = json.loads(anchor.line())
    for change in ({"seq": "7"}, {"seq": 0}, {"sha256": "00"}, {"at": "2026-01-01"}, {"version": 2}):
        assert parse(json.dumps(said | change)) is None
    for line in ("", "hsm: 3 packages", "[]", "null"):
        assert parse(line) is None
    assert anchor.at - world.clock.now() == timedelta(0)


# --- the file that the journal is streamed to


def streamed(world: World) -> Path:
    path = world.home / "audit" / "journal.jsonl"
    shipper = Shipper(world.catalog, FileSink(path, 1 << 20, None))
    while shipper.step():
        pass
    shipper.stop()
    return path


def witnessed(world: World, path: Path) -> dict[str, Any]:
    return LogAudit(
        world.catalog, AnchorReader(world.catalog, world.pools, world.custody, "HSM"), path
    ).verify({})


def test_file_and_database_vouch_for_each_other(world: World) -> None:
    path = streamed(world)
    found = witnessed(world, path)
    assert found["good"]
    assert found["file"]["records"] == found["records"]
    rewrite(world.catalog, 5)
    assert audit(world).verify({})["good"], "by itself the database is whole again"
    found = witnessed(world, path)
    assert [each["seq"] for each in found["problems"][:2]] == [5, 6]
    assert "is another one in the database than in" in found["problems"][0]["message"]
    assert "agree up to record 4" in found["problems"][-1]["message"]


def test_what_is_streamed_while_the_journal_is_verified_is_taken_for_no_forgery(world: World) -> None:
    path = streamed(world)
    witness = Witness.before(path)
    with frozen(world.catalog) as session:
        seen, _ = chainread.head(session)
        world.store(2, 1)
        streamed(world)
        assert list(witness.problems(session)) == []
        assert witness.compared == seen < (last_record(path) or 0)
        late = list(Witness(path, seen - 1).problems(session))
        assert late == [], "what both have is the same, whenever it came"
        with path.open("ab") as file:
            file.write(b"no record\n")
        assert len(list(witness.problems(session))) == 1, "a line that is no record is no younger one"


def test_the_file_shows_removed_last_records_and_an_older_database(world: World) -> None:
    path = streamed(world)
    with world.catalog.write() as session:
        disarm(session)
        last, _ = chainread.head(session)
        session.execute(text(f"DELETE FROM journal WHERE seq > {last - 2}"))
        session.execute(
            text(
                f"UPDATE journal_head SET seq = {last - 2}, digest ="
                f" (SELECT digest FROM journal WHERE seq = {last - 2})"
            )
        )
    found = witnessed(world, path)
    assert f"record {last - 1} is missing in the database" in found["problems"][-3]["message"]


@pytest.mark.campaign
def test_a_file_that_was_altered_is_told_from_a_database_that_was(world: World) -> None:
    path = streamed(world)
    path.write_text(path.read_text().replace('"ae:', '"xx:', 1))
    found = witnessed(world, path)
    assert "was altered, or the line before it" in found["problems"][0]["message"]
    assert not any("in the database than" in each["message"] for each in found["problems"])
    path.chmod(0o600)
    path.unlink()
    path.mkdir()
    assert "cannot be read" in witnessed(world, path)["problems"][0]["message"]
