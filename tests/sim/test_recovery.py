"""What a crash leaves in the online pool is taken in when it is whole, and deleted when it is not."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pydicom

from drivers.folder import INCOMING
from hsm.catalog.instances import every_unsealed
from hsm.dicom.header import read_header
from hsm.model import Header
from hsm.part10 import file_head, read_head
from hsm.pools import INTERRUPTED, keep_interrupted
from hsm.recovery import Recovered, missing_files, recover
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
    assert restart(world) == Recovered(adopted=0, known=0, dropped=len(cuts))


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
