"""A bad day in the machine room, through the daemon: strangers' tapes, exchanged stickers, doors, jams, dead
drives. What is not ours stays as it is, and what is ours is delivered all the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from halls import stock
from instruments import DRIVES, OPERATION_MOVE, OPERATION_WRITE, SLOTS, ask, fail, mtx, opened, run
from robotarchive import (
    PATIENCE_SECONDS,
    TAPE_AND_VAULT,
    TAPE_ONLY,
    ask_catalog,
    broken_promises,
    expected,
    mtx_slot,
    retrieved,
    robot_archive,
    settled,
    store,
    study_uid,
    where,
    write_study,
)

from tests.story.archive import Archive, running, until

MEDIA = Path(os.environ.get("LAB_MEDIA", "/var/lib/tapelib"))
PIXEL_BYTES = 20_000
HARDWARE, MEDIUM_WRITE, JAMMED = (4, 0x44, 0), (3, 0x0C, 0), (4, 0x15, 1)
EVERY_MOTION = (0x00, 0x01, 0x08, 0x0A, 0x10, 0x11, 0x1B, 0x2B, 0x91, 0x92)


def on_medium(barcode: str) -> dict[str, str]:
    """SHA-256 of everything that is recorded on a cartridge; it must lie in no drive."""
    folder = MEDIA / barcode
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("p*"))}


def recorded(barcode: str, write: Callable[[], object]) -> None:
    slot = mtx_slot(barcode)
    assert mtx("load", slot, 0).returncode == 0
    write()
    assert mtx("unload", slot, 0).returncode == 0


def a_tar_backup() -> None:
    done = run("tar", "-b", 128, "-cf", "/dev/st0", "-C", "/etc", "passwd", "hosts", "services")
    assert done.returncode == 0, done.stderr


def records(*blocks: bytes) -> Callable[[], None]:
    def write() -> None:
        with opened(0) as tape:
            for block in blocks:
                tape.write(block)
            tape.operate(5)
            tape.write(b"more of it".ljust(512))
            tape.operate(5)

    return write


STRANGERS: dict[str, tuple[str, Callable[[], object]]] = {
    "AAA001L6": ("tar archive", a_tar_backup),
    "AAA002L6": ("LTFS volume", records(b"VOL1ABC123L             LTFS" + b" " * 51 + b"4")),
    "AAA003L6": (
        "ANSI label 'BACKUP'",
        records(b"VOL1BACKUP              OTHERSYSTEM  NIGHTLY       " + b" " * 28 + b"4"),
    ),
    "AAA004L6": ("unknown kind", records(b"\x93" * 4096)),
}


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[range], list[Path]]:
    folder = tmp_path / "sources"
    folder.mkdir()
    return lambda numbers: [path for n in numbers for path in write_study(folder, n, PIXEL_BYTES)]


def test_strangers_tapes_offered_as_scratch_are_named_and_not_a_byte_of_them_changes(
    tmp_path: Path, sources: Callable[[range], list[Path]]
) -> None:
    stock(*STRANGERS, "HSM001L6")
    for barcode, (_, write) in STRANGERS.items():
        recorded(barcode, write)
    before = {barcode: on_medium(barcode) for barcode in STRANGERS}
    archive = robot_archive(tmp_path / "home", TAPE_ONLY)
    with running(archive):
        store(archive, sources(range(2)))
        until(lambda: settled(archive, 2, 1), "the study is on the blank one", PATIENCE_SECONDS)
        for barcode, (words, _) in STRANGERS.items():
            refused = archive.command("volume", "label", barcode, "tape")
            assert refused.returncode != 0
            shown = archive.command("volume", "show", barcode)
            told = " ".join((refused.stdout + refused.stderr + shown.stdout).split())
            assert words in told, f"{barcode}: {told}"
        assert archive.stop() == 0
    assert {barcode: on_medium(barcode) for barcode in STRANGERS} == before
    assert broken_promises(archive.home) == []


def all_recalled(archive: Archive, numbers: range) -> bool:
    rows = ask_catalog(
        archive.home,
        "SELECT s.uid FROM request r JOIN study s ON s.pk = r.study_pk "
        "WHERE r.kind = 'recall' AND r.state = 'done'",
    )
    return {study_uid(number) for number in numbers} <= {str(row[0]) for row in rows}


def recall(archive: Archive, numbers: range) -> None:
    asked = archive.command("recall", *map(study_uid, numbers))
    assert asked.returncode == 0, asked.stderr


def empty_the_drives(archive: Archive) -> None:
    for address in (60_000, 60_001):
        done = archive.command("library", "unload", "robot", str(address))
        assert done.returncode == 0, done.stderr


def filled(archive: Archive, paths: list[Path], studies: int) -> None:
    """Every study on HSM001L6 and on VLT001L6; the drives are empty."""
    for barcode, pool in (("HSM001L6", "tape"), ("VLT001L6", "vault")):
        done = archive.command("volume", "label", barcode, pool)
        assert done.returncode == 0, done.stderr
    store(archive, paths)
    until(lambda: settled(archive, studies, 2), "everything on tape", PATIENCE_SECONDS)
    empty_the_drives(archive)


def test_exchanged_stickers_change_no_tape_and_the_study_comes_from_the_other_copy(
    tmp_path: Path, sources: Callable[[range], list[Path]]
) -> None:
    stock("HSM001L6", "HSM002L6", "VLT001L6")
    archive = robot_archive(tmp_path / "home", TAPE_AND_VAULT)
    paths = sources(range(3))
    with running(archive):
        done = archive.command("volume", "label", "HSM002L6", "tape")
        assert done.returncode == 0, done.stderr
        filled(archive, paths, 3)
        for barcode, new in (("HSM001L6", "SWAP00L6"), ("HSM002L6", "HSM001L6"), ("SWAP00L6", "HSM002L6")):
            ask("relabel", barcode=barcode, new=new)
        before = {barcode: on_medium(barcode) for barcode in ("HSM001L6", "HSM002L6")}
        assert retrieved(archive, range(3), tmp_path / "back") == expected(paths)
        assert archive.stop() == 0
    assert {barcode: on_medium(barcode) for barcode in before} == before


def test_door_jam_hands_and_a_dead_drive_delay_a_recall_and_no_more(
    tmp_path: Path, sources: Callable[[range], list[Path]]
) -> None:
    """One study each time, because what was recalled once is staged."""
    stock("HSM001L6", "VLT001L6")
    archive = robot_archive(tmp_path / "home", TAPE_AND_VAULT)
    paths = sources(range(5))
    with running(archive):
        filled(archive, paths, 5)

        ask("door", open=True)
        recall(archive, range(1))
        until(lambda: troubled(archive), "the door stops the robot", PATIENCE_SECONDS)
        ask("door", open=False)
        until(lambda: all_recalled(archive, range(1)), "the door is closed", PATIENCE_SECONDS)

        empty_the_drives(archive)  # and cartridges change places in the magazine, unseen
        for barcode, element in (("HSM001L6", SLOTS + 6), ("VLT001L6", SLOTS)):
            ask("lift", barcode=barcode, quiet=True)
            ask("place", barcode=barcode, element=element, quiet=True)
        recall(archive, range(1, 2))
        until(lambda: all_recalled(archive, range(1, 2)), "found where it lies now", PATIENCE_SECONDS)

        empty_the_drives(archive)
        fail(OPERATION_MOVE, JAMMED, device="changer", times=2, alerts=[1])
        recall(archive, range(2, 3))
        until(lambda: all_recalled(archive, range(2, 3)), "the robot is free again", PATIENCE_SECONDS)

        dead = next(at - DRIVES for at, held in where().items() if DRIVES <= at < DRIVES + 2)
        for operation in EVERY_MOTION:
            fail(operation, HARDWARE, device=dead, times=1_000_000)
        recall(archive, range(3, 5))
        until(lambda: all_recalled(archive, range(3, 5)), "the other copy, the other drive", PATIENCE_SECONDS)
        assert retrieved(archive, range(5), tmp_path / "back") == expected(paths)
        archive.kill()


def troubled(archive: Archive) -> bool:
    """A recall has been tried, and tells why it waits."""
    return bool(ask_catalog(archive.home, "SELECT 1 FROM request WHERE kind = 'recall' AND error != ''"))


def test_a_write_error_costs_time_and_counts_nothing_that_is_not_there(
    tmp_path: Path, sources: Callable[[range], list[Path]]
) -> None:
    stock("HSM001L6", "HSM002L6")
    archive = robot_archive(tmp_path / "home", TAPE_ONLY)
    paths = sources(range(8))
    with running(archive):
        fail(OPERATION_WRITE, MEDIUM_WRITE, device=0, skip=9, times=2, alerts=[3, 6])
        fail(OPERATION_WRITE, MEDIUM_WRITE, device=1, skip=9, times=1, alerts=[3, 6])
        store(archive, paths)
        until(lambda: settled(archive, 8, 1), "all written all the same", PATIENCE_SECONDS)
        assert retrieved(archive, range(8), tmp_path / "back") == expected(paths)
        assert archive.stop() == 0
    assert broken_promises(archive.home) == []
