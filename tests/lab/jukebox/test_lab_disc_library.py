"""The optical driver in a jukebox: changer and burner are the kernel's, and so is what reads the discs."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from instruments import mtx, run
from pydicom.data import get_testdata_file
from test_lab_jukebox import DISC

from drivers.base import ElementKind, Library, Store, VolumeLabel
from drivers.errors import WrongVolume
from drivers.optical import xorriso
from drivers.optical.configure import open_optical

CHANGER_SERIAL = "JUKEBOX001"
NOBODY = 65534
WAYS = {
    "DVD0004": {"burner": "growisofs"},
    "DVD0005": {"burner": "growisofs", "file_system": "udf"},
    "DVD0006": {"burner": "xorriso", "file_system": "udf"},
}
"""Each disc is burnt in another way, and can be burnt but once."""


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    """Instead of the tape library: the jukebox, its drive empty."""
    if not DISC.exists():
        pytest.skip("needs the laboratory's jukebox: run `make lab`")
    run("modprobe", "-a", "isofs", "udf", "loop")
    yield
    if "Data Transfer Element 0:Full" in mtx("status").stdout:
        run("sg_start", "--eject", DISC)
        assert mtx("unload").returncode == 0


def jukebox(folder: Path, **how: str) -> Library:
    options = {"changer": CHANGER_SERIAL, "drives": {0: str(DISC)}, "spool": str(folder / "spool")}
    return open_optical({"name": "juke", "medium": "DVD+R", "append": False, **options, **how})


def label_of(barcode: str) -> VolumeLabel:
    return VolumeLabel(barcode, f"5f0c0a3e-0000-4000-8000-00000000{barcode[-4:]}", "discs")


def package(*names: str) -> bytes:
    """A tar of a manifest and Part 10 files, as packages are."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        files = [(f"1.2.3/{name}", Path(str(get_testdata_file(name))).read_bytes()) for name in names]
        for path, data in [("manifest.json", b"{}\n"), *files]:
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def read(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


@contextmanager
def mounted(source: Path, kind: str, point: Path, *options: str) -> Iterator[Path]:
    """The disc or image as the kernel's own ``kind`` shows it."""
    point.mkdir(exist_ok=True)
    done = run("mount", "-t", kind, "-o", ",".join(["ro", *options]), source, point)
    assert done.returncode == 0, done.stderr
    try:
        yield point
    finally:
        run("umount", point)


def readable_by_everybody(disc: Path, names: Sequence[str]) -> None:
    """Every digest is right, also for a user who is nobody, and the file-set has these images."""
    checked = subprocess.run(
        ["sha256sum", "--quiet", "-c", "SHA256SUMS"],
        cwd=disc,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    records = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence
    files = [disc.joinpath(*each.ReferencedFileID) for each in records if "ReferencedFileID" in each]
    images = {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert images == {pydicom.dcmread(str(get_testdata_file(name))).SOPInstanceUID for name in names}


@pytest.mark.parametrize("barcode", WAYS)
def test_a_package_is_burnt_by_the_robots_drive_read_back_and_read_by_the_kernel(
    barcode: str, tmp_path: Path
) -> None:
    udf = "file_system" in WAYS[barcode]
    robot, label = jukebox(tmp_path, **WAYS[barcode]), label_of(barcode)
    drive = robot.inventory().drives()[0].address
    assert robot.read_label(barcode, drive) is None, "blank"
    robot.label(label, drive)
    store = robot.mount(label, drive)
    names = ("CT_small.dcm", "MR_small.dcm")
    data = package(*names)
    store.put("a/study", io.BytesIO(data), len(data), hashlib.sha256(data).digest())
    store.flush()  # burns, and reads all of it back from the medium
    assert read(store, "a/study") == data
    robot.unmount(drive)
    element = robot.inventory().find(barcode)
    assert element is not None and element.kind is ElementKind.SLOT

    again = jukebox(tmp_path / "another", **WAYS[barcode])
    assert again.read_label(barcode, drive) == label, "the disc says so itself"
    assert read(again.mount(label, drive), "a/study") == data
    point = tmp_path.parent / f"{barcode}.mnt"
    tmp_path.parent.parent.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    for kind in ("iso9660", "udf") if udf else ("iso9660",):
        with mounted(DISC, kind, point) as disc:
            readable_by_everybody(disc, names)
    again.unmount(drive)

    other = VolumeLabel(barcode, "5f0c0a3e-0000-4000-8000-00000000ffff", "discs")
    with pytest.raises(WrongVolume, match="nothing was written"):
        again.mount(other, drive)
    with pytest.raises(WrongVolume, match=label.uuid):
        again.label(other, drive)
    again.unmount(drive)


def test_somebody_elses_disc_is_named_and_goes_out_through_the_mail_slot(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "HOLIDAYS").write_bytes(b"pictures")
    robot = jukebox(tmp_path)
    drive = robot.inventory().drives()[0].address
    assert mtx("load", 3, 0).returncode == 0
    done = run(
        "growisofs",
        "-dvd-compat",
        "-Z",
        DISC,
        "-R",
        "-quiet",
        "-V",
        "HOLIDAYS",
        tmp_path / "files",
        seconds=120,
    )
    assert done.returncode == 0, done.stderr
    for call in (
        lambda: robot.read_label("DVD0003", drive),
        lambda: robot.label(label_of("DVD0003"), drive),
        lambda: robot.mount(label_of("DVD0003"), drive),
    ):
        with pytest.raises(WrongVolume, match="HOLIDAYS"):
            call()
    robot.unmount(drive)
    address = robot.eject("DVD0003")
    found = robot.inventory().find("DVD0003")
    assert found is not None and (found.kind, found.address) == (ElementKind.MAIL, address)
    assert mtx("transfer", address, 3).returncode == 0, "for the next test"


@pytest.mark.parametrize("udf", [False, True])
def test_an_image_that_is_made_for_a_person_is_read_by_the_kernel(udf: bool, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DICOM").mkdir(parents=True, mode=0o700)
    data = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    (tree / "DICOM" / "IM000001").write_bytes(data)
    (tree / "DICOM" / "IM000001").chmod(0o600)
    image = tmp_path / "export.iso"
    xorriso.make_image(tree, image, "EXPORT", udf=udf)
    for kind in ("iso9660", "udf") if udf else ("iso9660",):
        with mounted(image, kind, tmp_path / "mnt", "loop") as disc:
            found = disc / "DICOM" / "IM000001"
            assert found.read_bytes() == data
            assert found.stat().st_mode & 0o777 == 0o444
            assert found.parent.stat().st_mode & 0o777 == 0o555
    with mounted(image, "iso9660", tmp_path / "mnt", "loop", "norock", "nojoliet") as disc:
        assert (disc / "dicom" / "im000001").read_bytes() == data, "as a plain ISO 9660 reader sees it"
