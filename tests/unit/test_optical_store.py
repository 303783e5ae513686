"""Discs: packages as file-sets, burnt in sessions, read back; bad burns, foreign discs, spindles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from drivers.base import ElementKind, VolumeLabel
from drivers.errors import Corrupt, NoSpace, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.optical import media, xorriso
from drivers.optical.bay import DiscBay, DiscDrive, Writing
from drivers.optical.burner import XorrisoBurner
from drivers.optical.configure import open_optical
from drivers.optical.dicomdir import entries_of
from drivers.optical.index import Object, Piece, parse_index
from drivers.optical.media import Medium
from drivers.optical.store import DiscStore
from drivers.tape.library import DRIVE_ADDRESS
from drivers.tape.manual import ManualLibrary
from hsm.dicom.answer import uuid_uid

pytestmark = pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
LABEL = VolumeLabel("DISC001", "5f0c0a3e-0000-4000-8000-000000000001", "discs")
SMALL = Medium("small", 16 << 20, 1 << 18)


def bay(folder: Path, **writing: Any) -> DiscBay:
    """A drive with an image file in it."""
    folder.mkdir(exist_ok=True)
    image = folder / "disc.iso"
    image.touch()
    form = Writing(writing.pop("medium", SMALL), folder / "spool", **writing)
    return DiscBay(DRIVE_ADDRESS, DiscDrive("test", lambda: f"stdio:{image}"), form)


def mounted(drive: DiscBay) -> DiscStore:
    drive.label(LABEL)
    return drive.mount(LABEL)


def package(*names: str) -> bytes:
    """A tar of a manifest and Part 10 files, as packages are."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        members = [("manifest.json", b'{"a": "manifest"}\n')]
        members += [(f"1.2.3/{name}", (FILES / name).read_bytes()) for name in names]
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def put(store: DiscStore, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: DiscStore, key: str) -> bytes:
    return b"".join(store.get(key))


def extracted(folder: Path) -> Path:
    image, target = folder / "disc.iso", folder / "extracted"
    command = ["xorriso", "-osirrox", "on", "-indev", f"stdio:{image}", "-extract", "/", str(target)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    return target


def spoil(folder: Path, find: bytes) -> None:
    """Flip a byte of the medium where ``find`` stands."""
    with (folder / "disc.iso").open("r+b") as image:
        data = image.read()
        at = data.index(find)
        image.seek(at)
        image.write(bytes([data[at] ^ 1]))


def test_a_package_comes_back_byte_for_byte_from_the_files_that_it_became(tmp_path: Path) -> None:
    drive = bay(tmp_path / "d")
    store, data = mounted(drive), package("CT_small.dcm", "MR_small.dcm")
    put(store, "ab/study.p0001.tar", data)
    assert read(store, "ab/study.p0001.tar") == data, "while it waits"
    store.flush()
    assert read(store, "ab/study.p0001.tar") == data
    drive.forget()
    store = drive.mount(LABEL)
    assert read(store, "ab/study.p0001.tar") == data
    assert b"".join(store.get("ab/study.p0001.tar", 700, 9000)) == data[700:9700]
    disc = extracted(tmp_path / "d")
    kept = {path.read_bytes() for path in (disc / "DICOM").rglob("F*")}
    assert kept == {(FILES / name).read_bytes() for name in ("CT_small.dcm", "MR_small.dcm")}
    assert (disc / "OBJECTS" / "M0000001").read_bytes() == b'{"a": "manifest"}\n'


def test_the_disc_explains_itself_and_its_directory_grows_with_each_session(tmp_path: Path) -> None:
    store = mounted(bay(tmp_path / "d"))
    for number, name in enumerate(("CT_small.dcm", "MR_small.dcm", "rtplan.dcm"), start=1):
        put(store, f"s{number}", package(name))
        store.flush()
    disc = extracted(tmp_path / "d")
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=disc, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    listed = [path for path in disc.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert checked.stdout.count(": OK") == len(listed), "every file is in the list"
    directory = (disc / "DICOMDIR").read_bytes()
    assert ["/".join(entry.file_id) for entry in entries_of(directory)] == [
        f"DICOM/P000000{number}/F0000002" for number in (1, 2, 3)
    ]
    found = pydicom.dcmread(disc / "DICOMDIR")
    assert found.FileSetID == "DISC001"
    assert found.file_meta.MediaStorageSOPInstanceUID == uuid_uid(LABEL.uuid), "as queries answer it"
    assert "DISC001" in (disc / "README").read_text()
    if shutil.which("dcmdump"):
        dumped = subprocess.run(["dcmdump", disc / "DICOMDIR"], capture_output=True, text=True)
        assert (dumped.returncode, dumped.stderr) == (0, "")
        assert "CompressedSamples^CT1" in dumped.stdout


def test_whoever_holds_the_disc_may_read_all_of_it(tmp_path: Path) -> None:
    store = mounted(bay(tmp_path / "d"))
    put(store, "s1", package("CT_small.dcm"))
    store.flush()
    modes = ["xorriso", "-indev", f"stdio:{tmp_path / 'd' / 'disc.iso'}", "-find", "/", "-exec", "lsdl", "--"]
    listed = subprocess.run(modes, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in listed if " " in line} == {"-r--r--r--", "dr-xr-xr-x"}


def test_a_drive_whose_size_the_kernel_does_not_know_yet_is_reloaded_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "sr0"
    device.write_bytes(bytes(2048))
    reloaded: list[str] = []

    def reload(name: str) -> None:
        reloaded.append(name)
        device.write_bytes(bytes(range(256)) * 24)

    monkeypatch.setattr(xorriso, "files", lambda name: {"/A": (xorriso.Extent(2048, 4096),)})
    monkeypatch.setattr(xorriso, "reload", reload)
    for _ in range(2):
        contents = XorrisoBurner(str(device)).contents()
        assert contents.whole("A", 4096) == bytes(range(256)) * 16
        contents.close()
    assert reloaded == [str(device)], "not when it knows"


def test_a_package_is_put_together_by_hand_as_the_index_says(tmp_path: Path) -> None:
    store, data = mounted(bay(tmp_path / "d")), package("CT_small.dcm", "MR_small.dcm")
    put(store, "k", data)
    store.flush()
    disc = extracted(tmp_path / "d")
    _, line = (disc / "HSMINDEX").read_text().splitlines()
    said = json.loads(line)
    out, rest = io.BytesIO(), io.BytesIO((disc / said["rest"]).read_bytes())
    for offset, size, path in said["files"]:
        out.write(rest.read(offset - out.tell()))
        piece = (disc / path).read_bytes()
        assert len(piece) == size
        out.write(piece)
    out.write(rest.read())
    assert out.getvalue() == data
    assert said["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 3000])
def test_what_is_no_whole_tar_is_kept_as_it_is(tmp_path: Path, cut: int) -> None:
    store, data = mounted(bay(tmp_path / "d")), package("CT_small.dcm")[:cut]
    put(store, "k", data)
    store.flush()
    assert read(store, "k") == data


def test_a_flush_reads_back_and_a_burn_that_reads_wrong_spoils_the_disc_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = bay(tmp_path / "d")
    store = mounted(drive)
    put(store, "good", package("CT_small.dcm"))
    store.flush()
    burn = xorriso.burn

    def bad(*arguments: Any, **options: Any) -> None:
        burn(*arguments, **options)
        spoil(tmp_path / "d", b"CompressedSamples^MR1")

    monkeypatch.setattr(xorriso, "burn", bad)
    put(store, "bad", package("MR_small.dcm"))
    with pytest.raises(Permanent, match=r"DISC001: a burn failed.*other bytes"):
        store.flush()
    assert not store.health().ok
    assert store.capacity().free == 0
    with pytest.raises(Permanent, match="takes no more"):
        put(store, "more", b"x")
    assert read(store, "good") == package("CT_small.dcm"), "what was there before is still served"
    drive.release()  # and the drive is free for the next blank disc
    assert drive.mounted is None


def test_a_burner_that_fails_spoils_the_disc_and_not_the_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = bay(tmp_path / "d")
    store = mounted(drive)
    put(store, "k", b"abc")
    monkeypatch.setattr(xorriso, "burn", _raising(Permanent("xorriso: FATAL : Write error")))
    with pytest.raises(Permanent, match="Write error"):
        store.flush()
    drive.release()


def _raising(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_a_flipped_byte_on_the_medium_is_given_as_it_is_and_an_index_that_has_one_is_corrupt(
    tmp_path: Path,
) -> None:
    drive = bay(tmp_path / "d")
    store, data = mounted(drive), package("CT_small.dcm")
    put(store, "k", data)
    store.flush()
    spoil(tmp_path / "d", b"CompressedSamples^CT1")
    store.drop_caches()
    assert len(read(store, "k")) == len(data)
    assert read(store, "k") != data, "who reads compares the digest"
    with pytest.raises(Corrupt):
        parse_index(b'{"format": "hsm-optical-index"}\n', LABEL.uuid)


def test_without_appending_the_first_burn_closes_the_disc(tmp_path: Path) -> None:
    drive = bay(tmp_path / "d", append=False)
    store = mounted(drive)
    put(store, "k", package("CT_small.dcm"))
    store.flush()
    assert store.capacity().free == 0
    with pytest.raises(NoSpace, match="closed"):
        put(store, "more", b"x")
    drive.forget()
    store = drive.mount(LABEL)
    assert (store.capacity().free, store.health().ok) == (0, True)
    assert read(store, "k") == package("CT_small.dcm")
    assert bay(tmp_path / "e", append=True, pool_append={"discs": False})._writing.appends("discs") is False


def test_what_a_disc_cannot_hold_is_no_space_and_what_fits_is_burnt(tmp_path: Path) -> None:
    drive = bay(tmp_path / "d")
    store = mounted(drive)
    room = store.capacity().free
    big = os.urandom(room - (64 << 10))
    put(store, "big", big)
    with pytest.raises(NoSpace):
        put(store, "more", os.urandom(128 << 10))
    store.flush()
    assert (tmp_path / "d" / "disc.iso").stat().st_size <= SMALL.capacity
    assert read(store, "big") == big


def test_many_small_files_count_with_their_slack(tmp_path: Path) -> None:
    store = mounted(bay(tmp_path / "d", medium=Medium("tiny", 2 << 20, 1 << 16)))
    with pytest.raises(NoSpace):
        for number in range(1000):
            put(store, f"k{number}", b"x")
    assert len(list(store.list())) < 400
    store.flush()
    assert (tmp_path / "d" / "disc.iso").stat().st_size <= 2 << 20


def test_a_full_spool_is_burnt_before_the_next_object(tmp_path: Path) -> None:
    store = mounted(bay(tmp_path / "d", spool_bytes=1 << 20))
    for number in range(3):
        put(store, f"k{number}", bytes([number]) * (600 << 10))
    assert len(store._pending) == 1
    store.flush()
    assert [read(store, f"k{number}")[0] for number in range(3)] == [0, 1, 2]


def test_a_foreign_disc_is_left_alone(tmp_path: Path) -> None:
    drive = bay(tmp_path / "d")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "HOLIDAY.JPG").write_bytes(b"precious")
    xorriso.burn(f"stdio:{tmp_path}/d/disc.iso", tmp_path / "theirs", "HOLIDAYS", close=False)
    before = (tmp_path / "d" / "disc.iso").read_bytes()
    for act in (drive.read_label, lambda _: drive.label(LABEL), lambda _: drive.mount(LABEL)):
        with pytest.raises(WrongVolume, match="HOLIDAYS"):
            act("DISC001")
    with pytest.raises(Permanent, match="written once"):
        drive.overwrite(LABEL, "DISC001")
    assert (tmp_path / "d" / "disc.iso").read_bytes() == before


def test_a_person_with_a_spindle_is_a_library(tmp_path: Path) -> None:
    drive = bay(tmp_path / "d")
    inside = [True]
    drive.drive = DiscDrive("test", lambda: f"stdio:{tmp_path}/d/disc.iso" if inside[0] else None)
    library = ManualLibrary("spindle", lambda: {0: drive})  # type: ignore[dict-item]
    address = library.inventory().drives()[0].address
    with pytest.raises(OperatorNeeded, match="put DISC001"):
        library.mount(LABEL, address)
    library.hand_insert("DISC001")
    assert library.read_label("DISC001", address) is None, "blank"
    library.label(LABEL, address)
    store = library.mount(LABEL, address)
    store.put("k", io.BytesIO(b"abc"), 3, None)
    assert library.inventory().find("DISC001") is not None
    library.unmount(address)
    inside[0] = False
    assert library.inventory().find("DISC001") is None
    inside[0] = True
    assert b"".join(library.mount(LABEL, address).get("k")) == b"abc"


def test_a_jukebox_of_images_keeps_its_discs_over_a_restart(tmp_path: Path) -> None:
    options = {"images": str(tmp_path / "j"), "discs": 2, "spool": str(tmp_path / "s")}
    library: Any = open_optical(options)
    library.hand_insert("DISC009")
    again = open_optical(options).inventory()
    assert again.find("DISC001") is not None
    element = again.find("DISC009")
    assert element is not None
    assert element.kind is ElementKind.MAIL


_APPENDED: dict[str, Any] = {"append": False, "pool_append": {"a": True}}
_ON_CD: dict[str, Any] = {"append": False, "medium": "CD"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spool": "relative", "images": "/x"}, "spool"),
        ({"spool": "/s", "images": "relative"}, "images"),
        ({"spool": "/s"}, "drives"),
        ({"spool": "/s", "drives": ["sr0"]}, "drives"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "medium": "floppy"}, "BD-R DL"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "append": "yes"}, "append"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "pool_append": {"a": 1}}, "pool_append"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "file_system": "ext4"}, "iso9660 or udf"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "burner": "nero"}, "xorriso or growisofs"),
        ({"spool": "/s", "drives": ["/dev/sr0"], "file_system": "udf"}, "append: false"),
        (
            {"spool": "/s", "drives": ["/dev/sr0"], "burner": "growisofs", **_APPENDED},
            "no pool_append to true",
        ),
        ({"spool": "/s", "drives": ["/dev/sr0"], "burner": "growisofs", **_ON_CD}, "DVD and BD only"),
        ({"spool": "/s", "images": "/i", "burner": "growisofs", "append": False}, "needs a burner"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        open_optical(options)


def test_the_toc_of_real_media_is_understood() -> None:
    blank = """Drive current: -outdev '/dev/sr0'
Media current: BD-R sequential recording
Media status : is blank
Media blocks : 0 readable , 11826176 writable , 11826176 overall
Media summary: 0 sessions, 0 data blocks, 0 data, 22.6g free
"""
    found = xorriso.parse_toc(blank)
    assert (found.state, found.kind) == (xorriso.State.BLANK, "BD-R sequential recording")
    assert found.writable == 11826176 * 2048 == media.medium("BD-R").capacity
    states = {
        "is written , is appendable": xorriso.State.APPENDABLE,
        "is written , is closed": xorriso.State.CLOSED,
        "is not present": xorriso.State.EMPTY,
        "is odd": xorriso.State.UNKNOWN,
    }
    for words, state in states.items():
        assert xorriso.parse_toc(f"Media status : {words}\n").state is state


def test_a_drive_that_is_not_there_says_so() -> None:
    with pytest.raises(Retryable, match="/dev/sr99"):
        xorriso.look("/dev/sr99")


def test_a_file_of_several_extents_is_read_in_one_piece() -> None:
    raw = (
        b"File data lba:  0 ,  57 , 2097151 , 4500000000 , '/BIG'\n"
        b"File data lba:  1 , 2097208 , 100115 , 4500000000 , '/BIG'\n"
    )
    found = xorriso.parse_extents(raw)["/BIG"]
    assert sum(extent.size for extent in found) == 4_500_000_000
    assert found[1].position == 2097208 * 2048


def test_spans_cover_a_range_once_and_in_order() -> None:
    whole = Object("k", 100, bytes(32), "rest", (Piece(10, 20, "a"), Piece(30, 5, "b"), Piece(60, 40, "c")))
    assert list(whole.spans(0, 100)) == [
        ("rest", 0, 10), ("a", 0, 20), ("b", 0, 5), ("rest", 10, 25), ("c", 0, 40)
    ]  # fmt: skip
    assert list(whole.spans(15, 20)) == [("a", 5, 15), ("b", 0, 5)]
    assert sum(size for _, _, size in whole.spans(33, 40)) == 40
    with pytest.raises(ValueError, match="overlap"):
        Object("k", 100, bytes(32), "rest", (Piece(10, 20, "a"), Piece(20, 5, "b")))
