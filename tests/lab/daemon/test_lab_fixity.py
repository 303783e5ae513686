"""Bytes that change on the tape itself, and an older state of a cartridge put in its place: the daemon finds
both, serves neither, and makes good what is damaged."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from halls import stock
from instruments import ask
from robotarchive import (
    PATIENCE_SECONDS,
    TAPE_AND_VAULT,
    ask_catalog,
    broken_promises,
    expected,
    needs_ltfs,
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
TAPE, VAULT, BLANK = "HSM001L6", "VLT001L6", ("HSM002L6", "VLT002L6")
"""A copy is made anew on another cartridge than the damaged one lies on."""
ON_TAPE = (
    "SELECT v.name FROM copy c JOIN volume v ON v.pk = c.volume_pk JOIN package p ON p.pk = c.package_pk "
    "JOIN study s ON s.pk = p.study_pk WHERE s.uid = ? AND v.pool = 'tape' AND c.state = 'verified'"
)
PIXEL_BYTES = 20_000
MEGABYTES = {"plain": 16, "ltfs": 64}


def audit(archive: Archive, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of ``hsm audit``."""
    done = archive.command("audit", *words, "--json", seconds=PATIENCE_SECONDS)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def read_back(archive: Archive, volume: str) -> tuple[int, set[str]]:
    """Every copy on a volume, now: the exit status, and the studies of which it does not match."""
    status, said = audit(archive, "verify", volume, "--wait")
    return status, {each["study"] for each in said["found"]["copies"] if each["result"] != "matches"}


def flip_on_tape(barcode: str, piece: bytes) -> None:
    """One bit of a record that holds these bytes; the cartridge must lie in no drive."""
    for path in sorted((MEDIA / barcode).glob("p*.dat")):
        if path.stat().st_size == 0:
            continue
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
            at = data.find(piece)
            if at >= 0:
                data[at + len(piece) // 2] ^= 0x10
                data.flush()
                return
    raise AssertionError(f"not on {barcode}")


def empty_the_drives(archive: Archive) -> None:
    """As soon as their sessions have ended."""

    def unloaded(address: int) -> bool:
        words = ("library", "unload", "robot", str(address))
        return archive.command(*words, seconds=PATIENCE_SECONDS).returncode == 0

    for address in (60_000, 60_001):
        until(lambda address=address: unloaded(address), f"drive {address} lets go", PATIENCE_SECONDS)


def put_back_older(barcode: str, older: Path) -> None:
    """As it was, in the slot where it lies."""
    at = next(address for address, held in where().items() if held == barcode)
    ask("lift", barcode=barcode, quiet=True)
    shutil.rmtree(MEDIA / barcode)
    shutil.copytree(older, MEDIA / barcode)
    ask("place", barcode=barcode, element=at, quiet=True)


@pytest.mark.parametrize("form", MEGABYTES)
def test_a_byte_that_flips_on_a_tape_is_never_served_and_an_older_state_of_it_is_noticed_and_both_are_mended(
    tmp_path: Path, form: str
) -> None:
    if form == "ltfs" and (reason := needs_ltfs()):
        pytest.skip(reason)
    stock(TAPE, VAULT, *BLANK, capacity_mb=MEGABYTES[form])
    archive = robot_archive(tmp_path / "home", TAPE_AND_VAULT, form)
    sources = tmp_path / "sources"
    sources.mkdir()
    studies = [write_study(sources, number, PIXEL_BYTES) for number in range(4)]
    with running(archive):
        for barcode, pool in ((TAPE, "tape"), (VAULT, "vault")):
            done = archive.command("volume", "label", barcode, pool, seconds=PATIENCE_SECONDS)
            assert done.returncode == 0, done.stderr + archive.log()
        store(archive, [path for study in studies[:3] for path in study])
        until(lambda: settled(archive, 3, 2), "three studies on both", PATIENCE_SECONDS)
        empty_the_drives(archive)

        for barcode, number in ((TAPE, 0), (VAULT, 1)):
            flip_on_tape(barcode, studies[number][0].read_bytes()[-5_000:-4_000])
        assert read_back(archive, TAPE) == (1, {study_uid(0)})
        back = retrieved(archive, range(3), tmp_path / "back")
        assert back == expected([path for study in studies[:3] for path in study])
        read_back(archive, VAULT)  # what the retrieve has seen may be mended by now
        until(lambda: settled(archive, 3, 2), "made anew", PATIENCE_SECONDS)

        empty_the_drives(archive)
        for barcode in (TAPE, *BLANK):
            shutil.copytree(MEDIA / barcode, tmp_path / barcode)
        store(archive, studies[3])
        until(lambda: settled(archive, 4, 2), "one more on both", PATIENCE_SECONDS)
        empty_the_drives(archive)
        ((volume,),) = ask_catalog(archive.home, ON_TAPE, study_uid(3))
        rolled = str(volume)
        both = ("--from-volume", rolled, "--from-volume", VAULT)
        assert audit(archive, "log", "verify", *both) == (0, ANY)
        empty_the_drives(archive)
        put_back_older(rolled, tmp_path / rolled)
        status, said = audit(archive, "log", "verify", *both)
        (problem,) = said["problems"]
        assert status == 1
        assert problem["message"].startswith(f"{rolled} does not carry the anchor of record")
        status, missing = read_back(archive, rolled)
        assert (status, study_uid(3) in missing) == (1, True)
        until(lambda: settled(archive, 4, 2), "made anew from the vault", PATIENCE_SECONDS)
        assert archive.stop() == 0
    assert broken_promises(archive.home, form) == []
