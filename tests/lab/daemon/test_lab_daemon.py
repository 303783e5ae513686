"""The whole archive on a real robot: stored, on tape, cartridges gone and spoilt, retrieved byte for byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import byhand
import pytest
from halls import stock
from instruments import ask, mtx
from robotarchive import (
    PATIENCE_SECONDS,
    TAPE_AND_VAULT,
    Person,
    ask_catalog,
    bring,
    broken_promises,
    expected,
    mtx_slot,
    needs_ltfs,
    on_tape,
    retrieved,
    robot_archive,
    settled,
    store,
    study_uid,
    take_from_mail_slot,
    tear_out,
    write_study,
)

from tests.story.archive import running, until

STUDIES = int(os.environ.get("HSM_LAB_STUDIES", "200"))
TAPES = ("HSM001L6", "HSM002L6", "HSM003L6")
VAULT = "VLT001L6"


@dataclass(frozen=True)
class Shape:
    """How much is written on cartridges of which size: each of the three holds a third and a little more."""

    data_mb: int
    tape_mb: int
    partition: int
    """Where packages lie."""

    @property
    def pixel_bytes(self) -> int:
        """Of an image; a study has two on average."""
        return self.data_mb * 500_000 // STUDIES


SHAPES = {"plain": Shape(24, 10, 0), "ltfs": Shape(60, 40, 1)}
"""LTFS keeps room for its index in both partitions."""


def new_robot(tape_mb: int) -> None:
    """Three small cartridges and a large one."""
    stock(*TAPES, VAULT)
    for barcode in TAPES:
        ask("mark", barcode=barcode, options={"capacity_mb": tape_mb})
    ask("mark", barcode=VAULT, options={"capacity_mb": 256})


@pytest.mark.parametrize("form", SHAPES)
def test_every_study_comes_back_when_a_cartridge_is_exported_one_torn_out_and_one_has_a_bad_spot(
    tmp_path: Path, form: str
) -> None:
    if form == "ltfs" and (reason := needs_ltfs()):
        pytest.skip(reason)
    shape = SHAPES[form]
    new_robot(shape.tape_mb)
    archive = robot_archive(tmp_path / "home", TAPE_AND_VAULT, form)
    sources = tmp_path / "sources"
    sources.mkdir()
    paths = [path for number in range(STUDIES) for path in write_study(sources, number, shape.pixel_bytes)]
    wanted = expected(paths)
    with running(archive):
        for barcode in TAPES:
            assert archive.command("volume", "label", barcode, "tape").returncode == 0, archive.log()
        assert archive.command("volume", "label", VAULT, "vault").returncode == 0
        store(archive, paths)
        until(lambda: settled(archive, STUDIES, 2), "everything on tape and off the disk", 1500)
        counts = on_tape(archive.home)
        print(counts)
        assert counts[VAULT] == STUDIES
        assert all(counts.get(barcode, 0) >= STUDIES // 6 for barcode in TAPES), counts
        assert not list((archive.home / "online" / "studies").rglob("*.dcm")), "released means deleted"
        exported, torn, spoilt = TAPES

        # One is exported by command, and so is the vault; one is torn out; one gets a bad spot.
        for barcode in (exported, VAULT):
            done = archive.command("library", "export", barcode, "--shelf", "room 2")
            assert done.returncode == 0, done.stderr
            take_from_mail_slot(barcode)
        tear_out(archive, torn)
        ((position,),) = ask_catalog(
            archive.home,
            "SELECT c.position FROM copy c JOIN volume v ON v.pk = c.volume_pk "
            "WHERE v.name = ? AND c.state = 'verified' ORDER BY c.position LIMIT 1 OFFSET 3",
            spoilt,
        )
        ask("mark", barcode=spoilt, options={"bad_spots": [[shape.partition, position]]})

        asked = archive.command("recall", *(study_uid(number) for number in range(STUDIES)))
        assert asked.returncode == 0, asked.stderr
        person = Person(archive)

        def all_staged() -> bool:
            person.answer()
            return not archive.ask(
                lambda client: [r for r in client.queue(kind="recall", limit=500) if r["state"] != "done"]
            )

        until(all_staged, "every recall is done", PATIENCE_SECONDS + 5 * STUDIES)
        assert {exported, VAULT} & {*person.answered}, "a person was needed"
        judged = ask_catalog(
            archive.home,
            "SELECT c.state FROM copy c JOIN volume v ON v.pk = c.volume_pk "
            "WHERE v.name = ? AND c.position = ?",
            spoilt,
            position,
        )
        assert judged == [("suspect",)], "no drive can read that spot"
        assert retrieved(archive, range(STUDIES), tmp_path / "back") == wanted
        assert archive.stop() == 0
    ask("mark", barcode=spoilt, options={"bad_spots": []})
    for barcode in (*TAPES, VAULT):
        bring(barcode)
    assert broken_promises(archive.home, form) == []
    if form == "plain":
        assert_readable_by_hand(spoilt, wanted, tmp_path / "by-hand")


def assert_readable_by_hand(barcode: str, wanted: Mapping[str, str], folder: Path) -> None:
    """Every package of the cartridge, with the commands of docs/operations.md and nothing else."""
    folder.mkdir()
    assert mtx("load", mtx_slot(barcode), 0).returncode == 0
    label, numbers = byhand.label_and_index(folder)
    assert f'"barcode": "{barcode}"' in label
    assert len(numbers) >= STUDIES // 6
    for number in numbers:
        said = byhand.package(folder, number)
        assert said.startswith("-: OK"), said
    found = expected(sorted(folder.rglob("*.dcm")))
    assert len(found) >= len(numbers)
    assert found.items() <= wanted.items()
