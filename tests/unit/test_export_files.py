"""What an export writes: file-sets that DCMTK and dicom3tools read, de-identified objects, and where."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from drivers.optical import xorriso
from drivers.optical.dicomdir import check_file_id, file_set_id
from drivers.optical.records import record_type
from hsm.errors import BadInput, Corrupt, Permanent, Refused
from hsm.export.anonymise import Anonymiser, profile
from hsm.export.compose import Composer, Wish
from hsm.export.leavings import MARKER, PREFIX, Leavings
from hsm.export.target import Caller, Kind, deliver, look_at, may_write, workshop
from hsm.model import InstanceRef
from hsm.ranges import Held

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "image_dfl.dcm", "waveform_ecg.dcm", "test-SR.dcm")
ME = Caller("root", os.geteuid(), frozenset(os.getgroups()))


def notes(folder: Path) -> Leavings:
    return Leavings(folder.with_name(f"{folder.name}-notes"))


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


def instance(path: Path) -> InstanceRef:
    found = pydicom.dcmread(path, stop_before_pixels=True)
    meta, data = found.file_meta, path.read_bytes()
    return InstanceRef(
        1, str(found.SOPInstanceUID), str(found.SOPClassUID), str(meta.TransferSyntaxUID), 0, len(data),
        hashlib.sha256(data).digest(), str(found.StudyInstanceUID), str(found.SeriesInstanceUID), None, None,
    )  # fmt: skip


def composed(root: Path, paths: list[Path], *, anonymise: bool = False) -> Composer:
    root.mkdir()
    composer = Composer(root, Wish("HSM", "2026-01-02", anonymise))
    for path in paths:
        composer.add(instance(path), Held(path.read_bytes()))
    composer.finish()
    return composer


def bundled() -> list[Path]:
    return [FILES / name for name in NAMES]


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60, errors="replace")


def test_the_bytes_are_those_of_the_archive_and_sha256sum_says_so(tmp_path: Path) -> None:
    composed(tmp_path / "disc", bundled())
    kept = {hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "disc").rglob("IM*")}
    assert kept == {hashlib.sha256(path.read_bytes()).digest() for path in bundled()}
    checked = run("sha256sum", "-c", "SHA256SUMS", cwd=tmp_path / "disc")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count(": OK") == len(NAMES) + 2  # README and DICOMDIR too


def test_every_name_in_a_file_set_is_a_file_id(tmp_path: Path) -> None:
    composed(tmp_path / "disc", bundled())
    directory = pydicom.dcmread(tmp_path / "disc" / "DICOMDIR")
    names = [
        item.ReferencedFileID for item in directory.DirectoryRecordSequence if "ReferencedFileID" in item
    ]
    assert len(names) == len(NAMES)
    for name in names:
        check_file_id(list(name))
        assert (tmp_path / "disc").joinpath(*name).is_file()
    assert file_set_id("Sitzung 4/äöü and more than sixteen") == "SITZUNG_4_____AN"


def test_pydicom_and_dcmtk_and_dicom3tools_read_the_directory(tmp_path: Path) -> None:
    composed(tmp_path / "disc", bundled())
    disc = tmp_path / "disc"
    assert pydicom.dcmread(disc / "DICOMDIR").FileSetDescriptorFileID == "README"
    needs("dcmdump")
    dumped = run("dcmdump", "DICOMDIR", cwd=disc)
    assert (dumped.returncode, dumped.stderr) == (0, "")
    kinds = re.findall(r'"Directory Record" ([A-Z ]+?) #', dumped.stdout)
    assert {"PATIENT", "STUDY", "SERIES", "IMAGE", "RT PLAN", "WAVEFORM", "SR DOCUMENT"} <= set(kinds)
    needs("dcmmkdir")
    checked = run(
        "dcmmkdir",
        "--recurse",
        "+D",
        str(tmp_path / "theirs"),
        "--invent",
        "-Nxc",
        "-Nec",
        "-Nrc",
        "DICOM",
        cwd=disc,
    )
    assert checked.returncode == 0, checked.stderr
    theirs = run("dcmdump", str(tmp_path / "theirs"), cwd=disc).stdout
    assert sorted(re.findall(r'"Directory Record" ([A-Z ]+?) #', theirs)) == sorted(kinds)
    needs("dciodvfy")
    verified = run("dciodvfy", "DICOMDIR", cwd=disc).stderr
    assert "BasicDirectory" in verified
    # What the objects lack (a time of verification) or have wrong in themselves is no fault of ours.
    errors = [line for line in verified.splitlines() if line.startswith("Error")]
    errors = [line for line in errors if "VerificationDateTime" not in line and "VR" not in line]
    assert errors == []


def test_dcentvfy_finds_one_study_consistent_also_when_it_was_anonymised(tmp_path: Path) -> None:
    needs("dcentvfy")
    series = sorted((FILES / "dicomdirtests" / "77654033" / "CT2").iterdir())[:4]
    for name, anonymise in (("plain", False), ("anonymous", True)):
        composed(tmp_path / name, series, anonymise=anonymise)
        files = [str(path) for path in (tmp_path / name).rglob("IM*")]
        assert len(files) == len(series)
        found = run("dcentvfy", *files, cwd=tmp_path)
        assert "Error" not in found.stderr, found.stderr


def test_a_class_without_a_record_type_is_a_private_record_that_is_still_found(tmp_path: Path) -> None:
    found = pydicom.dcmread(FILES / "CT_small.dcm")
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = "1.2.826.0.1.3680043.99.7"
    found.save_as(tmp_path / "odd.dcm")
    composed(tmp_path / "disc", [tmp_path / "odd.dcm"])
    kinds = [
        item.DirectoryRecordType
        for item in pydicom.dcmread(tmp_path / "disc/DICOMDIR").DirectoryRecordSequence
    ]
    assert kinds == ["PATIENT", "STUDY", "SERIES", "PRIVATE"]
    assert record_type("1.2.840.10008.5.1.4.1.1.2") == "IMAGE"


def test_an_object_that_has_no_study_is_on_the_medium_and_said_to_be_unlisted(tmp_path: Path) -> None:
    found = pydicom.dcmread(FILES / "CT_small.dcm")
    del found.StudyInstanceUID
    found.save_as(tmp_path / "odd.dcm")
    known = instance(FILES / "CT_small.dcm")
    (tmp_path / "disc").mkdir()
    composer = Composer(tmp_path / "disc", Wish("HSM", "2026-01-02"))
    composer.add(known, Held((tmp_path / "odd.dcm").read_bytes()))
    composer.finish()
    assert len(composer.unlisted) == 1
    assert "SHA256SUMS" in os.listdir(tmp_path / "disc")


IDENTITIES = ("CompressedSamples^CT1", "1CT1", "JFK IMAGING CENTER", "20040119", "1.3.6.1.4.1.5962")


def test_nothing_of_the_profile_s_table_is_left_and_uids_agree_with_one_another(tmp_path: Path) -> None:
    source = pydicom.dcmread(FILES / "CT_small.dcm")
    source.FrameOfReferenceUID = source.FrameOfReferenceUID
    source.add_new(0x00091010, "LO", "CompressedSamples^CT1")
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PatientName = "CompressedSamples^CT1"
    source.SourceImageSequence = [item]
    source.OperatorsName = "CompressedSamples^CT1"
    source.BurnedInAnnotation = "YES"
    source.save_as(tmp_path / "in.dcm")
    data, burned = Anonymiser(b"salt").apply((tmp_path / "in.dcm").read_bytes())
    assert burned
    for text in IDENTITIES:
        assert text.encode() not in data, text
    (tmp_path / "out.dcm").write_bytes(data)
    found = pydicom.dcmread(tmp_path / "out.dcm")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == found.SOPInstanceUID
    assert found.SOPClassUID == source.SOPClassUID
    assert found.PixelData == source.PixelData
    assert found.PatientIdentityRemoved == "YES"
    assert found.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    removed = {tag for tag, action in profile().items() if action == "X"}
    assert not removed & {int(each.tag) for each in found}
    assert not any(each.tag.is_private for each in found)


def test_the_same_uid_becomes_the_same_in_one_export_and_another_in_the_next(tmp_path: Path) -> None:
    one, other = Anonymiser(b"one"), Anonymiser(b"other")
    uid = generate_uid()
    assert one.uid(uid) == one.uid(uid) != other.uid(uid)
    assert one.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"


def test_the_table_has_the_profile_s_best_known_lines() -> None:
    table = profile()
    assert {table[0x00100030], table[0x00080050]} == {"Z"}  # birth date, accession
    assert (table[0x00081030], table[0x0020000D], table[0x00100010]) == ("X", "U", "Z")
    assert len(table) > 600


def test_what_cannot_be_read_cannot_be_anonymised(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot be anonymised"):
        Anonymiser(b"salt").apply(b"not DICOM at all" * 20)


def test_the_readme_says_what_anonymising_does_not_cover(tmp_path: Path) -> None:
    composer = composed(tmp_path / "disc", bundled()[:2], anonymise=True)
    text = (tmp_path / "disc" / "README").read_text()
    assert "the pixels were not looked at" in text
    assert composer.burned == 2
    assert "2 of 2 objects" in text


@pytest.mark.parametrize("bad", ["relative", "/tmp/../etc/x"])
def test_a_target_is_an_absolute_path(bad: str) -> None:
    with pytest.raises(BadInput):
        look_at(Path(bad), ME)


def test_a_full_folder_an_existing_image_and_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    (tmp_path / "there.iso").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("full", "there.iso", "link", "no/such"):
        with pytest.raises(Refused):
            look_at(tmp_path / name, ME)
    (tmp_path / "empty").mkdir()
    assert look_at(tmp_path / "empty", ME).kind is Kind.FOLDER
    assert look_at(tmp_path / "new.iso", ME).kind is Kind.IMAGE


def test_the_daemon_s_rights_are_not_the_caller_s(tmp_path: Path) -> None:
    stranger = Caller("stranger", 54321, frozenset({54321}))
    tmp_path.chmod(0o755)
    assert not may_write(stranger, tmp_path.stat())
    with pytest.raises(Refused, match="stranger may not write"):
        look_at(tmp_path / "new", stranger)
    tmp_path.chmod(0o777)
    assert look_at(tmp_path / "new", stranger).kind is Kind.FOLDER
    tmp_path.chmod(0o707)  # the group is kept out
    assert not may_write(Caller("member", 54321, frozenset({tmp_path.stat().st_gid})), tmp_path.stat())


@pytest.mark.parametrize("udf", [False, True])
def test_an_image_holds_the_file_set_and_its_name(tmp_path: Path, udf: bool) -> None:
    needs("xorriso")
    if udf:
        needs("genisoimage")
    target = look_at(tmp_path / "disc.iso", ME)
    with workshop(target, tmp_path / "spool", notes(tmp_path)) as work:
        composer = composed(work / "tree", bundled())
        deliver(target, work / "tree", composer.set_id, notes(tmp_path), udf=udf)
    assert sorted(os.listdir(tmp_path)) == ["disc.iso", "spool"]
    image = f"stdio:{tmp_path / 'disc.iso'}"
    assert xorriso.volume_id(image) == composer.set_id
    found = xorriso.files(image)
    assert {"/DICOMDIR", "/README", "/SHA256SUMS", "/DICOM/ST000001/SE000001/IM000001"} <= set(found)
    data = (tmp_path / "disc.iso").read_bytes()
    (extent,) = found["/DICOM/ST000001/SE000001/IM000001"]
    assert data[extent.position : extent.position + extent.size] == bundled()[0].read_bytes()
    assert (b"NSR02" in data) == udf


def test_an_image_that_reads_back_otherwise_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("xorriso")
    make = xorriso.make_image

    def spoilt(tree: Path, image: Path, name: str, **options: Any) -> None:
        make(tree, image, name, **options)
        data = bytearray(image.read_bytes())
        data[data.index(b"CompressedSamples^CT1")] ^= 1
        image.write_bytes(data)

    monkeypatch.setattr(xorriso, "make_image", spoilt)
    target = look_at(tmp_path / "disc.iso", ME)
    with workshop(target, tmp_path / "spool", notes(tmp_path)) as work:
        composer = composed(work / "tree", bundled()[:1])
        with pytest.raises(Corrupt, match="read back other"):
            deliver(target, work / "tree", composer.set_id, notes(tmp_path), udf=False)
    assert os.listdir(tmp_path) == ["spool"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = look_at(tmp_path / "stick", ME)
    with pytest.raises(RuntimeError), workshop(target, tmp_path / "spool", notes(tmp_path)) as work:
        composed(work / "tree", bundled()[:1])
        raise RuntimeError("the power of the stick goes")
    assert os.listdir(tmp_path) == []
    with workshop(target, tmp_path / "spool", notes(tmp_path)) as work:
        composer = composed(work / "tree", bundled()[:1])
        deliver(target, work / "tree", composer.set_id, notes(tmp_path), udf=False)
    assert sorted(os.listdir(tmp_path / "stick")) == ["DICOM", "DICOMDIR", "README", "SHA256SUMS"]
    assert os.listdir(tmp_path) == ["stick"]


def killed(tmp_path: Path, leavings: Leavings) -> Path:
    """What an export to a folder leaves that dies while it writes."""
    work = leavings.begin(tmp_path)
    work.mkdir()
    leavings.mark(work)
    composed(work / "tree", bundled()[:1])
    return work


def test_what_a_killed_export_left_goes_at_the_next_start(tmp_path: Path) -> None:
    killed(tmp_path, notes(tmp_path))
    notes(tmp_path).begin(tmp_path, ".part").write_bytes(b"half an image")
    notes(tmp_path).begin(tmp_path).mkdir()  # killed before it was marked
    notes(tmp_path).begin(tmp_path)  # killed before it was made
    assert len(os.listdir(tmp_path)) == 3
    assert notes(tmp_path).settle() == 3
    assert os.listdir(tmp_path) == []
    assert notes(tmp_path).settle() == 0


def test_what_lies_on_a_stick_that_is_out_at_the_start_goes_with_the_next_export_to_it(
    tmp_path: Path,
) -> None:
    place, out = tmp_path / "stick", tmp_path / "drawer"
    place.mkdir()
    killed(place, notes(tmp_path))
    place.rename(out)
    assert notes(tmp_path).settle() == 0
    out.rename(place)
    elsewhere = look_at(tmp_path / "other", ME)
    with workshop(elsewhere, tmp_path / "spool", notes(tmp_path)):
        assert len(os.listdir(place)) == 1, "another place is not looked at"
    leavings = notes(tmp_path)
    running = killed(place, leavings)
    target = look_at(place / "new", ME)
    with workshop(target, tmp_path / "spool", leavings) as work:
        assert set(os.listdir(place)) == {running.name, work.name}, "one that is under way is left alone"
    assert os.listdir(place) == [running.name]


def test_nothing_that_is_not_provably_ours_is_removed(tmp_path: Path) -> None:
    leavings = notes(tmp_path)
    theirs, other, link = (leavings.begin(tmp_path) for _ in range(3))
    theirs.mkdir()
    (theirs / "THESIS.DOC").write_bytes(b"precious")
    other.mkdir()
    (other / MARKER).write_text("f" * 32)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / MARKER).write_text(link.name.removeprefix(PREFIX))
    link.symlink_to(precious)
    (tmp_path / f"{PREFIX}{'0' * 32}").mkdir()  # that of another archive, which has no note here
    before = set(os.listdir(tmp_path))
    assert notes(tmp_path).settle() == 0
    assert set(os.listdir(tmp_path)) == before
    assert (theirs / "THESIS.DOC").read_bytes() == b"precious"
    notes(tmp_path)  # and in the end nothing is looked for any more
    assert Leavings(tmp_path.with_name(f"{tmp_path.name}-notes"), lambda: 1e12).settle() == 0
    assert os.listdir(tmp_path.with_name(f"{tmp_path.name}-notes")) == []
