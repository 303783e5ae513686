"""The real daemon on the laboratory's robot: its configuration, small studies, and what a person does there.

Runs inside. The catalog is SQLite, the senders and receivers are DCMTK's.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from instruments import DRIVES, MAIL, SLOTS, ask, run
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from halls import CHANGER_SERIAL, MAIL_SLOTS, open_library

from drivers.base import VolumeLabel
from drivers.errors import DriverError
from drivers.tape.library import DRIVE_ADDRESS
from tests.story.archive import Archive, configured, digests, storescp

UID_ROOT = "1.2.826.0.1.3680043.10.1472"
SLOT_COUNT = 8
PATIENCE_SECONDS = 400.0
"""A system call is slow inside."""

CONFIG = configured(
    """\
  - {{name: tape, tier: nearline, library: robot}}
  - {{name: vault, tier: nearline, library: robot}}
libraries:
  - name: robot
    driver: mtx
    options: {{changer: {changer}, format: {form}, load_seconds: 60, move_seconds: 60, eject_seconds: 60}}
""",
    pending=1,
    round_=1,
    inventory=5,
)

TAPE_ONLY = """\
policy: road
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape, when: copies(tape) = 0}
  - {name: free online, release from: online, when: copies(tape) >= 1}
schedule: every 1 second
"""
"""Everything goes on one tape and off the disk, as fast as it can."""

TAPE_AND_VAULT = """\
policy: road
priority: 1
copies: {tape: 1, vault: 1}
rules:
  - {name: to tape, copy to: tape, when: copies(tape) = 0}
  - {name: to vault, copy to: vault, when: copies(vault) = 0}
  - {name: free online, release from: online, when: copies(tape) >= 1 and copies(vault) >= 1}
schedule: every 2 seconds
"""


def robot_archive(home: Path, policy: str, form: str = "plain") -> Archive:
    """An archive in ``home`` (gone on with, if it is there) whose tapes are in the laboratory's robot."""
    settings = {"changer": CHANGER_SERIAL, "form": form, "quiet": 2, "hold": 300}
    return Archive(home, f"sqlite:///{home / 'catalog.db'}", policy, CONFIG, **settings)


def needs_ltfs() -> str:
    """Why there can be no LTFS volumes; empty when there can: its commands are on the path then."""
    folder = os.environ.get("HSM_LTFS_BIN", "")
    if folder and folder not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += f":{folder}"
    if shutil.which("mkltfs") is None:
        return "no real LTFS: mkltfs is not on the path and HSM_LTFS_BIN does not name its folder"
    done = run("modprobe", "fuse")
    return f"no FUSE: {done.stderr}" if done.returncode else ""


def study_uid(number: int) -> str:
    return f"{UID_ROOT}.{number}"


def write_study(folder: Path, number: int, pixel_bytes: int) -> list[Path]:
    """One to three CT images of a study; the same bytes for the same number."""
    chance = random.Random(number)
    side = max(16, int((pixel_bytes / 2) ** 0.5))
    paths = []
    for at in range(1, 2 + number % 3):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = f"{study_uid(number)}.1.{at}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid(number), f"{study_uid(number)}.1"
        image.PatientName, image.PatientID = f"LAB^{number}", f"LAB-{number:05}"
        image.PatientBirthDate, image.PatientSex, image.StudyDate = "19700101", "O", "20260101"
        image.StudyTime, image.StudyID, image.AccessionNumber = "120000", str(number), f"A{number:05}"
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 1, at
        image.Rows = image.Columns = side
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.add_new(0x7FE00010, "OW", chance.randbytes(2 * side * side))
        paths.append(folder / f"{number:05}-{at}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def store(archive: Archive, paths: Sequence[Path]) -> None:
    """All with one storescu; it stops at the first refusal."""
    sent = archive.dcmtk("storescu", *map(str, paths), timeout=PATIENCE_SECONDS)
    assert sent.returncode == 0, sent.stderr + archive.log()


def retrieved(archive: Archive, numbers: Sequence[int], folder: Path) -> dict[str, str]:
    """Move every study with one movescu; SOP Instance UID -> digest of the dataset as it came."""
    folder.mkdir()
    queries = []
    for number in numbers:
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid(number)
        queries.append(archive.home / f"query-{number}.dcm")
        query.save_as(queries[-1], implicit_vr=False, little_endian=True)
    with storescp(folder, archive.destination_port):
        words = ["-S", "-aet", "LAB", "-aem", "DEST"]
        moved = archive.dcmtk(
            "movescu", *words, *map(str, queries), timeout=PATIENCE_SECONDS + 2 * len(numbers)
        )
    assert moved.returncode == 0, moved.stderr + archive.log()
    return digests(sorted(folder.iterdir()))


def on_tape(home: Path) -> dict[str, int]:
    """By the catalog: how many verified copies each volume of the tape pools holds."""
    rows = ask_catalog(
        home,
        "SELECT v.name, count(*) FROM copy c JOIN volume v ON v.pk = c.volume_pk "
        "WHERE c.state = 'verified' AND v.library IS NOT NULL GROUP BY v.name",
    )
    return {str(name): int(str(count)) for name, count in rows}


def settled(archive: Archive, studies: int, pools: int) -> bool:
    """Every study is sealed, has one verified copy in each of so many tape pools, and is off the disk."""
    (row,) = ask_catalog(
        archive.home,
        "SELECT (SELECT count(*) FROM study WHERE unsealed = 0 AND packages > 0), "
        "(SELECT count(*) FROM study WHERE unsealed > 0), "
        "(SELECT count(*) FROM package), "
        "(SELECT count(*) FROM copy c JOIN volume v ON v.pk = c.volume_pk WHERE c.state = 'verified' "
        "AND v.library IS NOT NULL), "
        "(SELECT count(*) FROM copy c JOIN volume v ON v.pk = c.volume_pk WHERE c.state != 'released' "
        "AND v.library IS NULL)",
    )
    sealed, unsealed, packages, verified, on_disk = map(int, row)  # type: ignore[call-overload]
    return sealed == studies and not unsealed and verified >= packages * pools and not on_disk


def ask_catalog(home: Path, question: str, *values: object) -> list[tuple[object, ...]]:
    """What the database says, past the daemon."""
    connection = sqlite3.connect(home / "catalog.db", timeout=60)
    try:
        return connection.execute(question, values).fetchall()
    finally:
        connection.close()


def broken_promises(home: Path, form: str = "plain") -> list[str]:
    """Copies on tape that the catalog calls verified and that are not on their cartridge, byte for byte.

    No daemon must run: the drives are used directly, by the driver alone.
    """
    rows = ask_catalog(
        home,
        "SELECT v.name, v.uuid, v.pool, c.locator, p.digest FROM copy c JOIN volume v ON v.pk = c.volume_pk "
        "JOIN package p ON p.pk = c.package_pk WHERE c.state = 'verified' AND v.library IS NOT NULL "
        "ORDER BY v.name, c.position",
    )
    library, wrong = open_library(format=form), []
    drive = library.inventory().drives()[0].address
    for name, uuid, pool in sorted({(str(row[0]), str(row[1]), str(row[2])) for row in rows}):
        mounted = library.mount(VolumeLabel(name, uuid, pool), drive)
        for _, _, _, locator, digest in (row for row in rows if row[0] == name):
            hasher = hashlib.sha256()
            try:
                for piece in mounted.get(str(locator)):
                    hasher.update(piece)
            except DriverError as error:
                wrong.append(f"{locator} on {name}: {error}")
                continue
            if hasher.digest() != digest:
                wrong.append(f"{locator} on {name}: other bytes")
        library.unmount(drive)
    return wrong


class Person:
    """Hands in the machine room, and the command line."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.answered: list[str] = []
        """Barcodes, in the order in which they were asked for and brought."""

    def wanted(self) -> list[str]:
        shown = self._archive.command("operator", "ls", "--json")
        assert shown.returncode == 0, shown.stderr
        return [str(mount["barcode"]) for mount in json.loads(shown.stdout)]

    def answer(self) -> None:
        """Bring what is asked for: into a mail slot, or by hand into the magazine when those are full."""
        for barcode in self.wanted():
            bring(barcode)
            done = self._archive.command("operator", "done", barcode)
            assert done.returncode == 0, done.stdout + done.stderr
            self.answered.append(barcode)


def where() -> dict[int, str]:
    """Element address -> barcode, as it is and not as anybody believes."""
    return {int(address): barcode for address, barcode in ask("status")["at"].items()}


def mtx_slot(barcode: str) -> int:
    """mtx's number of the slot or mail slot where it lies: the mail slots come last."""
    at = next(address for address, held in where().items() if held == barcode)
    return at - SLOTS + 1 if at >= SLOTS else SLOT_COUNT + 1 + at - MAIL


def bring(barcode: str) -> None:
    held = where()
    if barcode in held.values():
        return
    mails = [at for at in range(MAIL_SLOTS) if MAIL + at not in held]
    if mails:
        ask("insert", ie=mails[0], barcode=barcode)
    else:
        free = next(SLOTS + at for at in range(SLOT_COUNT) if SLOTS + at not in held)
        ask("place", barcode=barcode, element=free)


def take_from_mail_slot(barcode: str) -> None:
    """What a person does after an export."""
    address = next(address for address, held in where().items() if held == barcode)
    assert MAIL <= address < MAIL + MAIL_SLOTS, f"{barcode} is at {address:#x}, not in a mail slot"
    assert ask("take", ie=address - MAIL) == {"barcode": barcode}


def tear_out(archive: Archive, barcode: str) -> None:
    """Out of its slot, unseen by the changer's sensors; out of a drive by command before that."""
    at = next(address for address, held in where().items() if held == barcode)
    if DRIVES <= at < DRIVES + 2:
        done = archive.command("library", "unload", "robot", str(DRIVE_ADDRESS + at - DRIVES))
        assert done.returncode == 0, done.stderr
    ask("lift", barcode=barcode, quiet=True)


def expected(paths: Sequence[Path]) -> Mapping[str, str]:
    """SOP Instance UID -> digest of the dataset, of the files as they were sent."""
    return digests(paths)
