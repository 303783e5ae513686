"""What a crash leaves in the online pool is taken in when it is whole, and deleted when it is not."""

from __future__ import annotations

import errno
import fcntl
import shutil
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import select

from drivers.errors import NoSpace
from drivers.folder import INCOMING
from drivers.quotas import Room
from hsm.catalog import retrievable
from hsm.catalog.instances import every_unsealed
from hsm.catalog.tables import Instance
from hsm.config.deletion import DeletionConfig
from hsm.dicom.header import read_header
from hsm.ingest import shelf
from hsm.interrupted import INTERRUPTED, keep_interrupted
from hsm.model import Header, Selection
from hsm.part10 import file_head, read_head
from hsm.recovery import Recovered, missing_files, recover
from hsm.trash import Trash
from tests.sim.world import World
from tests.story.archive import bundled


def real(name: str) -> tuple[Header, str, bytes]:
    """Header, Transfer Syntax UID and dataset of a real instance: what is recovered is parsed."""
    (path,) = bundled(name)
    part10 = path.read_bytes()
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    dataset = part10[132 + 12 + meta.FileMetaInformationGroupLength :]
    syntax = str(meta.TransferSyntaxUID)
    return read_header(dataset, syntax), syntax, dataset


def receive(world: World, *names: str) -> None:
    """Instances that are settled."""
    acknowledge(world, *names)
    world.ingest.settle()


def acknowledge(world: World, *names: str) -> None:
    for name in names:
        world.ingest.store(*real(name), "CT1")


def stored_file(world: World) -> Path:
    return next((world.pools.ingest.root / "studies").rglob("*.dcm"))


def left_behind(world: World, name: str, content: bytes) -> Path:
    path = world.pools.ingest.root / INCOMING / f"{name}.part"
    path.write_bytes(content)
    return path


def restart(world: World) -> Recovered:
    keep_interrupted(world.pools.ingest.root)
    return recover(world.pools.ingest, world.ingest, read_header)


def test_the_head_of_a_file_says_what_was_written_into_it() -> None:
    head = file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840.10008.1.2.1")
    read = read_head(head + b"dataset")
    assert (read.sop_class_uid, read.sop_instance_uid) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")
    assert (read.transfer_syntax_uid, read.size) == ("1.2.840.10008.1.2.1", len(head))


def test_a_whole_file_that_was_never_catalogued_is_taken_in(world: World) -> None:
    header, syntax, dataset = real("CT_small.dcm")
    whole = file_head(header.sop_class_uid, header.sop_instance_uid, syntax) + dataset
    left_behind(world, "a", whole)
    assert restart(world) == Recovered(adopted=1, known=0, dropped=0)
    assert stored_file(world).read_bytes() == whole
    assert not list((world.pools.ingest.root / INCOMING / INTERRUPTED).iterdir())
    assert restart(world) == Recovered(0, 0, 0)


def test_a_file_whose_row_was_committed_is_known(world: World) -> None:
    receive(world, "CT_small.dcm")
    left_behind(world, "a", stored_file(world).read_bytes())
    assert restart(world) == Recovered(adopted=0, known=1, dropped=0)


def test_a_cut_off_file_is_deleted_wherever_it_was_cut(world: World) -> None:
    receive(world, "CT_small.dcm")
    whole = stored_file(world).read_bytes()
    cuts = [0, 1, 131, 140, 200, 320, len(whole) // 2, len(whole) - 1]
    for number, cut in enumerate(cuts):
        left_behind(world, f"cut{number}", whole[:cut])
    # The first had not begun.
    assert restart(world) == Recovered(adopted=0, known=0, dropped=len(cuts) - 1)
    assert not list((world.pools.ingest.root / INCOMING).rglob("*cut*"))


def test_a_file_that_a_living_process_writes_is_left_alone(world: World) -> None:
    receive(world, "CT_small.dcm")
    path = left_behind(world, "a", stored_file(world).read_bytes())
    with open(path, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert restart(world) == Recovered(0, 0, 0)
    assert path.exists()


def test_a_catalogued_instance_without_its_file_is_told_and_never_dropped(world: World) -> None:
    receive(world, "CT_small.dcm", "MR_small.dcm")
    assert missing_files(world.catalog, world.pools.ingest) == []
    lost = stored_file(world)
    shutil.move(lost, lost.with_suffix(".gone"))
    assert missing_files(world.catalog, world.pools.ingest) == [lost.stem]
    with world.catalog.read() as session:
        assert len(list(every_unsealed(session))) == 2


def power_cut(world: World) -> World:
    """What was not flushed is gone, which may be every name below ``studies``; a new life begins."""
    shutil.rmtree(world.pools.ingest.root / "studies")
    again = world.rebuild()
    recover(again.pools.ingest, again.ingest, read_header)
    return again


def test_an_acknowledged_instance_whose_name_a_power_cut_took_has_it_again(world: World) -> None:
    acknowledge(world, "CT_small.dcm", "MR_small.dcm")
    whole = {path.name: path.read_bytes() for path in world.pools.ingest.root.rglob("*.dcm")}
    again = power_cut(world)
    assert {path.name: path.read_bytes() for path in again.pools.ingest.root.rglob("*.dcm")} == whole
    assert missing_files(again.catalog, again.pools.ingest) == []
    assert not list((again.pools.ingest.root / INCOMING / INTERRUPTED).iterdir())


def test_it_has_it_again_also_where_its_study_was_sealed_meanwhile(world: World) -> None:
    acknowledge(world, "CT_small.dcm")
    world.seal_all()
    assert "verified" in world.copies().values()
    again = power_cut(world)
    assert stored_file(again).exists()


def test_what_is_settled_has_no_second_name(world: World) -> None:
    acknowledge(world, "CT_small.dcm")
    assert stored_file(world).stat().st_nlink == 2
    world.ingest.settle()
    assert stored_file(world).stat().st_nlink == 1


def test_a_name_that_cannot_be_flushed_is_kept_twice_until_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge(world, "CT_small.dcm")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "sync_folder", broken)
        world.ingest.settle()
    world.ingest.settle()
    assert stored_file(world).stat().st_nlink == 2, "a later flush proves nothing about what was lost"
    again = power_cut(world)
    assert stored_file(again).exists()


@pytest.mark.parametrize("refuses", [False, True])
def test_a_file_that_was_kept_twice_does_not_bring_back_a_study_that_was_deleted_meanwhile(
    world: World, refuses: bool
) -> None:
    header, syntax, dataset = real("CT_small.dcm")
    receive(world, "CT_small.dcm")
    trash = Trash(world.catalog, world.staging, world.bell, DeletionConfig())
    trash.delete(header.study_uid, "a wrong patient", "anna", refuse_late=refuses)
    whole = file_head(header.sop_class_uid, header.sop_instance_uid, syntax) + dataset
    left_behind(world, "a", whole)
    stored_file(world).unlink()
    left_behind(world, "b", whole[:500])
    assert restart(world) == Recovered(adopted=0, known=1, dropped=1)
    assert stored_file(world).read_bytes() == whole, "up to its day it can be taken back"
    with world.catalog.read() as session:
        assert session.scalars(select(Instance.uid)).all() == [header.sop_instance_uid]
        assert retrievable.select_instances(session, Selection(study_uids=(header.study_uid,))) == []
    other = file_head(header.sop_class_uid, header.sop_instance_uid, syntax) + dataset + bytes(2)
    left_behind(world, "c", other)
    assert restart(world) == Recovered(adopted=not refuses, known=0, dropped=refuses)


def test_a_pool_that_is_full_at_the_start_says_so_and_keeps_what_was_interrupted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, syntax, dataset = real("CT_small.dcm")
    whole = file_head(header.sop_class_uid, header.sop_instance_uid, syntax) + dataset
    left_behind(world, "a", whole)
    with monkeypatch.context() as patch:
        patch.setattr("drivers.folder.room_at", lambda _: Room(1 << 40, 0))
        with pytest.raises(NoSpace, match="pool online has 0 bytes to give"):
            restart(world)
    world.clock.advance(2)
    assert restart(world) == Recovered(adopted=1, known=0, dropped=0)
