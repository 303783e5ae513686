"""The package format: deterministic, honest about its own bytes, and readable without us."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import CHUNK_BYTES
from drivers.errors import Corrupt, NotFound
from hsm.errors import BadInput
from hsm.package import (
    Member,
    PackageIdentity,
    PackagePlan,
    PackageReader,
    SeriesIdentity,
    member_name,
    package_digest,
    parse_manifest,
    plan_from_manifest,
    plan_package,
    read_manifest,
    verify_stream,
)

STUDY = "1.2.840.113619.2.55.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
LONGEST_UID = ".".join(["1234567"] * 8)  # 63 characters
LONG_UID = LONGEST_UID + "1"


def series(uid: str = "1.2.3", **changes: object) -> SeriesIdentity:
    base = SeriesIdentity(uid, "CT", 1, "Thorax", "CHEST", "20260102", "101112", "CT01")
    return replace(base, **changes)  # type: ignore[arg-type]


def identity(*listed: SeriesIdentity, **changes: object) -> PackageIdentity:
    base = PackageIdentity(
        key=f"{STUDY}.p0001.tar",
        study_uid=STUDY,
        number=1,
        patient_id="4711",
        issuer="HOSPITAL",
        patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう",
        birth_date="19700101",
        sex="M",
        study_date="20260102",
        study_time="101112.000",
        study_id="S1",
        study_description='Thorax "nativ" \\ mit KM',
        accession="A1",
        referring_physician="Müller^Jörg",
        institution="St. Elsewhere",
        charset="\\ISO 2022 IR 87",
        series=listed or (series(),),
        sealed_at="2026-01-02T11:00:00+00:00",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def member(
    data: bytes, sop: str, series_uid: str = "1.2.3", version: int = 0, number: int | None = 1
) -> Member:
    return Member(
        member_name(series_uid, sop, version),
        series_uid,
        sop,
        CT,
        EXPLICIT_LE,
        version,
        number,
        len(data),
        hashlib.sha256(data).digest(),
    )


def build(*contents: bytes) -> tuple[PackagePlan, dict[str, bytes]]:
    members = [member(data, f"1.2.3.{i}", number=i) for i, data in enumerate(contents)]
    files = {m.name: data for m, data in zip(members, contents, strict=True)}
    return plan_package(identity(), members), files


def compose(plan: PackagePlan, files: dict[str, bytes], chunk: int = CHUNK_BYTES) -> bytes:
    with PackageReader(plan, lambda m: io.BytesIO(files[m.name])) as reader:
        parts = list(iter(lambda: reader.read(chunk), b""))
        assert reader.digest == hashlib.sha256(b"".join(parts)).digest()
    return b"".join(parts)


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=12), st.integers(1, 3000))
def test_offsets_index_the_composed_bytes_whatever_the_chunk_size(contents: list[bytes], chunk: int) -> None:
    plan, files = build(*contents)
    whole = compose(plan, files)
    assert len(whole) == plan.size
    assert compose(plan, files, chunk) == whole
    for each, offset in zip(plan.members, plan.offsets, strict=True):
        assert whole[offset : offset + each.size] == files[each.name]
    listed = json.loads(plan.manifest)["members"]
    assert [entry["offset"] for entry in listed] == list(plan.offsets)
    assert whole[512 : 512 + len(plan.manifest)] == plan.manifest
    assert set(whole[-1024:]) == {0}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
sizes = st.integers(0, 1 << 50)


@given(st.lists(sizes, min_size=1, max_size=30), text, text, st.none() | st.integers(-5, 1 << 31))
def test_a_plan_is_found_again_from_its_manifest(
    lengths: list[int], name: str, description: str, number: int | None
) -> None:
    who = identity(series(description=description, number=number), patient_name=name)
    members = [
        Member(
            member_name("1.2.3", f"1.{i}", i % 3),
            "1.2.3",
            f"1.{i}",
            CT,
            EXPLICIT_LE,
            i % 3,
            number,
            n,
            bytes(32),
        )
        for i, n in enumerate(lengths)
    ]
    plan = plan_package(who, members)
    assert parse_manifest(plan.manifest) == (who, tuple(members))
    assert plan_from_manifest(plan.manifest) == plan
    assert plan_package(who, members).manifest == plan.manifest


def test_the_bytes_of_a_known_package_never_change() -> None:
    """Sealed packages are compared with freshly composed ones for decades: this digest is the format."""
    plan, files = build(b"first", b"", b"x" * 512, b"y" * 513)
    assert hashlib.sha256(compose(plan, files)).hexdigest() == (
        "cd8b766270d44ee5dd76ece195a4e671f6804c7a6da88c404da57bfcbbaa28fe"
    )


def test_tarfile_agrees_with_the_plan() -> None:
    plan, files = build(b"abc", b"", b"z" * 5000)
    with tarfile.open(fileobj=io.BytesIO(compose(plan, files)), mode="r:") as archive:
        found = archive.getmembers()
        assert [m.name for m in found] == ["manifest.json", *files]
        assert [m.offset_data for m in found[1:]] == list(plan.offsets)
        assert {(m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname, m.type) for m in found} == {
            (0o644, 0, 0, 0, "", "", tarfile.REGTYPE)
        }
        for m in found[1:]:
            extracted = archive.extractfile(m)
            assert extracted is not None
            assert extracted.read() == files[m.name]


def test_names_of_the_longest_uids_need_no_extension_header(tmp_path: Path) -> None:
    data = b"long"
    one = member(data, LONG_UID, series_uid=LONG_UID, version=32767)
    assert len(one.name) > 100
    plan = plan_package(identity(series(LONG_UID)), [one])
    path = tmp_path / "p.tar"
    path.write_bytes(compose(plan, {one.name: data}))
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["manifest.json", one.name]
    listed = subprocess.run(["tar", "tf", path], check=True, capture_output=True, text=True).stdout.split()
    assert listed == ["manifest.json", one.name]


def test_gnu_tar_and_sha256sum_open_a_package_by_hand(tmp_path: Path) -> None:
    """The very commands of docs/package-format.md, on a package whose text tries to look like a member."""
    contents = [b"a" * 700, b"b" * 512, b""]
    members = [member(data, f"1.2.3.{i}") for i, data in enumerate(contents)]
    hostile = '","name":"1.2.3/1.dcm","sha256":"' + "0" * 64
    plan = plan_package(identity(patient_name=hostile), members)
    files = {m.name: data for m, data in zip(members, contents, strict=True)}
    (tmp_path / "p.tar").write_bytes(compose(plan, files))
    commands = (Path(__file__).parents[2] / "docs" / "package-format.md").read_text().split("```sh\n")[1]
    script = commands.split("```")[0].replace("PACKAGE.tar", "p.tar")
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{m.name}: OK" for m in members]
    (tmp_path / members[0].name).write_bytes(b"A" * 700)
    again = script.replace("tar xf p.tar", "true")
    done = subprocess.run(
        ["sh", "-e", "-c", again], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{members[0].name}: FAILED" in done.stdout


@pytest.mark.parametrize("size", [(1 << 33) - 1, 1 << 33, (1 << 33) + 1, 1 << 43])
def test_members_of_eight_gibibytes_and_more_are_listed_right_by_other_tars(
    size: int, tmp_path: Path
) -> None:
    big = Member(member_name("1.2.3", "1.9", 0), "1.2.3", "1.9", CT, EXPLICIT_LE, 0, None, size, bytes(32))
    small = member(b"after", "1.10")
    plan = plan_package(identity(), [big, small])
    path = tmp_path / "sparse.tar"
    headers = io.BytesIO()
    with PackageReader(plan, lambda _: io.BytesIO()) as reader:
        headers.write(reader.read(plan.offsets[0]))
    tail = compose(plan_package(identity(), [small]), {small.name: b"after"})[-2048:]
    with path.open("wb") as file:  # sparse: headers where they belong, nothing in between
        file.write(headers.getvalue())
        file.seek(plan.offsets[1] - 512)
        file.write(tail)
    assert path.stat().st_size == plan.size
    with tarfile.open(path) as archive:
        found = {m.name: m for m in archive.getmembers()[1:]}
        assert [m.size for m in found.values()] == [size, 5]
        assert [m.offset_data for m in found.values()] == list(plan.offsets)
    listing = subprocess.run(["tar", "tvf", path], check=True, capture_output=True, text=True).stdout
    assert [line.split()[2] for line in listing.splitlines()[1:]] == [str(size), "5"]


class Source(io.BytesIO):
    """A source that gives little at a time and remembers who is open."""

    open_now = 0
    open_most = 0

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        type(self).open_now += 1
        type(self).open_most = max(type(self).open_most, type(self).open_now)

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 7))

    def close(self) -> None:
        if not self.closed:
            type(self).open_now -= 1
        super().close()


def test_one_file_is_open_at_a_time_and_none_after_the_end_or_after_an_abandoned_read() -> None:
    plan, files = build(b"a" * 100, b"b" * 100, b"c" * 100)
    Source.open_now = Source.open_most = 0
    with PackageReader(plan, lambda m: Source(files[m.name])) as reader:
        assert b"".join(iter(lambda: reader.read(1 << 30), b"")) == compose(plan, files)
        assert Source.open_now == 0
    assert Source.open_most == 1
    with PackageReader(plan, lambda m: Source(files[m.name])) as reader:
        reader.read(plan.offsets[1] + 1)
        assert Source.open_now == 1
    assert Source.open_now == 0
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"bad data", "SHA-256 is"),
        (b"good dat", "SHA-256 is"),
        (b"good", "4 bytes; the manifest says 9"),
        (b"good data and more", "more than the 9 bytes"),
    ],
)
def test_a_damaged_file_stops_the_package_and_is_named(damaged: bytes, message: str) -> None:
    plan, files = build(b"whole", b"good data", b"whole too")
    damaged = damaged.ljust(9, b"?") if message.startswith("SHA") else damaged
    culprit = plan.members[1].name
    files[culprit] = damaged
    with PackageReader(plan, lambda m: io.BytesIO(files[m.name])) as reader:
        for _ in range(3):  # and goes on raising: a failed package must not look like one that ended
            with pytest.raises(Corrupt, match=f"{culprit}: .*{message}|{culprit}: {message}"):
                while reader.read(100):
                    pass
        with pytest.raises(ValueError, match="so far"):
            _ = reader.digest


def test_an_opener_that_fails_fails_the_package_for_good() -> None:
    plan, _ = build(b"one")

    def opener(m: Member) -> io.BytesIO:
        raise NotFound(f"{m.name}: no such file")

    with PackageReader(plan, opener) as reader:
        for _ in range(2):
            with pytest.raises(NotFound, match=r"1\.2\.3\.0\.dcm"):
                while reader.read(64):
                    pass


def test_package_digest_is_the_digest_of_what_is_composed() -> None:
    plan, files = build(b"one", b"two" * 1000)
    expected = hashlib.sha256(compose(plan, files)).digest()
    assert package_digest(plan, lambda m: io.BytesIO(files[m.name])) == expected


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([b"ab"], "2 bytes; expected 3"),
        ([], "0 bytes; expected 3"),
        ([b"abc", b"d"], "more than the expected 3"),
        ([b"ab", b"d"], "SHA-256 is"),
    ],
)
def test_verify_stream_refuses_other_bytes(chunks: list[bytes], message: str) -> None:
    digest = hashlib.sha256(b"abc").digest()
    verify_stream([b"a", b"", b"bc"], 3, digest)
    with pytest.raises(Corrupt, match=message):
        verify_stream(chunks, 3, digest)


def test_an_endless_stream_is_left_as_soon_as_it_is_too_long() -> None:
    with pytest.raises(Corrupt, match="more than"):
        verify_stream(iter(lambda: b"x" * 10, b""), 25, bytes(32))


def test_the_manifest_is_read_from_the_start_of_a_package() -> None:
    plan, files = build(b"abc")
    whole = compose(plan, files)
    assert read_manifest(Source(whole)) == plan.manifest
    for damaged in (b"", whole[:511], whole[:700], bytes(1024), b"x" + whole[1:], whole[2048:]):
        with pytest.raises(Corrupt, match="package"):
            read_manifest(io.BytesIO(damaged))


@given(st.data())
@settings(max_examples=300)
def test_no_damaged_byte_in_a_manifest_goes_unnoticed_as_an_odd_value(data: st.DataObject) -> None:
    """A flip may give another valid manifest (a letter of a name), but never a crash or a loose parse."""
    plan, _ = build(b"one", b"two")
    at = data.draw(st.integers(0, len(plan.manifest) - 1))
    flipped = bytearray(plan.manifest)
    flipped[at] ^= data.draw(st.integers(1, 255))
    try:
        who, members = parse_manifest(bytes(flipped))
    except Corrupt as error:
        assert str(error).startswith("manifest")
    else:
        assert plan_package(who, members).manifest == bytes(flipped)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda s: s.encode(errors="replace")))
def test_garbage_is_corrupt_and_never_another_error(garbage: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_manifest(garbage)


def _edit(manifest: bytes, **changes: object) -> bytes:
    top = json.loads(manifest)
    for path, value in changes.items():
        *steps, last = path.split("__")
        at = top
        for step in steps:
            at = at[int(step)] if step.isdigit() else at[step]
        at[int(last) if last.isdigit() else last] = value
    return json.dumps(top).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a hsm-package manifest"),
        ({"version": 2}, "version 2; this software reads version 1"),
        ({"version": True}, "version True"),
        ({"extra": 1}, "unknown: extra"),
        ({"members": {}}, "members is not a list"),
        ({"members": []}, "at least one member"),
        ({"members__0": 3}, "member is not an object"),
        ({"members__0__size": "3"}, "size is not a whole number"),
        ({"members__0__size": -3}, "negative"),
        ({"members__0__size": 1.0}, "size is not a whole number"),
        ({"members__0__number": "1"}, "number is not a whole number"),
        ({"members__0__sha256": "00"}, "digest of 1 bytes"),
        ({"members__0__name": "../../etc/passwd"}, "must be named"),
        ({"members__0__sop_instance": "../x"}, "not a UID"),
        ({"members__0__series": "1.2.4", "members__0__name": "1.2.4/1.2.3.0.dcm"}, "not listed"),
        ({"series__0__uid": "../.."}, "not a UID"),
        ({"series__0__modality": None}, "modality is not a string"),
        ({"key": "../x.tar"}, "unsafe part|slash"),
        ({"key": "a/b.tar"}, "slash"),
        ({"number": 0}, "package number 0"),
        ({"sealed_at": "yesterday"}, "yesterday"),
        ({"sealed_at": "2026-01-01T00:00:00"}, "no time zone"),
        ({"patient": None}, "patient is not an object"),
        ({"patient__name": "\ud800"}, "not Unicode text"),
        ({"members__0__offset": 12345}, "not in canonical form"),
    ],
)
def test_a_manifest_that_says_something_impossible_is_refused(
    changes: dict[str, object], message: str
) -> None:
    plan, _ = build(b"one", b"two")
    with pytest.raises(Corrupt, match=message):
        parse_manifest(_edit(plan.manifest, **changes))


def test_a_wrong_offset_in_an_otherwise_canonical_manifest_is_refused_with_its_line() -> None:
    plan, _ = build(b"one", b"two")
    offset = str(plan.offsets[1]).encode()
    wrong = plan.manifest.replace(b'"offset":' + offset, b'"offset":' + str(plan.offsets[1] + 512).encode())
    with pytest.raises(Corrupt, match=r"line 6 is not in canonical form, or an offset is wrong"):
        parse_manifest(wrong)


def test_a_key_given_twice_is_refused() -> None:
    plan, _ = build(b"one")
    doubled = plan.manifest.replace(b'"number":1,\n', b'"number":2,\n"number":1,\n')
    assert json.loads(doubled) == json.loads(plan.manifest)
    with pytest.raises(Corrupt, match="canonical"):
        parse_manifest(doubled)


def test_nesting_without_end_is_refused_and_does_not_overflow() -> None:
    with pytest.raises(Corrupt):
        parse_manifest(b"[" * 200_000)
    with pytest.raises(Corrupt):
        parse_manifest(b'{"a":' + b"9" * 10_000 + b"}")


def test_a_plan_refuses_what_could_not_be_unpacked() -> None:
    one = member(b"a", "1.1")
    with pytest.raises(ValueError, match="at least one member"):
        plan_package(identity(), [])
    with pytest.raises(ValueError, match="twice"):
        plan_package(identity(), [one, one])
    with pytest.raises(ValueError, match="not listed"):
        plan_package(identity(series("1.2.4")), [one])
    with pytest.raises(ValueError, match="listed twice"):
        identity(series(), series())
    with pytest.raises(BadInput, match="not a UID"):
        member_name("1.2.3", "../../x", 0)
    with pytest.raises(ValueError, match="negative"):
        member_name("1.2.3", "1.2", -1)


def test_a_negative_read_is_refused_and_an_empty_one_is_not_the_end() -> None:
    plan, files = build(b"abc")
    with PackageReader(plan, lambda m: io.BytesIO(files[m.name])) as reader:
        with pytest.raises(ValueError, match="in pieces"):
            reader.read(-1)
        assert reader.read(0) == b""
        assert len(reader.read(10)) == 10


def test_a_read_holds_no_more_than_a_chunk() -> None:
    data = bytes(3 * CHUNK_BYTES)
    plan, files = build(data)
    with PackageReader(plan, lambda m: io.BytesIO(files[m.name])) as reader:
        sizes = [len(part) for part in iter(lambda: reader.read(1 << 40), b"")]
    assert max(sizes) == CHUNK_BYTES
    assert sum(sizes) == plan.size


def test_the_tools_that_open_a_package_by_hand_are_here() -> None:
    assert all(shutil.which(tool) for tool in ("tar", "sha256sum", "sed"))


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(st.binary(max_size=3000), min_size=1, max_size=5),
    buffers=st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    readinto=st.booleans(),
)
def test_filling_buffers_of_any_size_gives_what_reading_gives(
    contents: list[bytes], buffers: list[int], readinto: bool
) -> None:
    plan, files = build(*contents)

    class OnlyReads:
        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self._data.read(min(size, 700))

        def close(self) -> None:
            self._data.close()

    got = bytearray()
    with PackageReader(plan, lambda m: (io.BytesIO if readinto else OnlyReads)(files[m.name])) as reader:
        for size in itertools.cycle(buffers):
            buffer = bytearray(b"\xff" * size)
            filled = reader.fill(memoryview(buffer))
            got += buffer[:filled]
            if filled < size:
                break
        with pytest.raises(ValueError, match="not digested"):
            _ = reader.digest
    assert got == compose(plan, files)


@pytest.mark.parametrize(("data", "words"), [(b"abcd", "more than the 3"), (b"ab", "2 bytes")])
def test_a_file_of_another_size_is_refused_without_digests_too(data: bytes, words: str) -> None:
    plan, _ = build(b"abc")
    with (
        PackageReader(plan, lambda _: io.BytesIO(data), digests=False) as reader,
        pytest.raises(Corrupt, match=words),
    ):
        while reader.fill(memoryview(bytearray(4096))):
            pass


def test_without_digests_a_changed_file_is_left_to_the_digest_of_the_whole() -> None:
    plan, files = build(b"abc", b"def")
    changed = files | {plan.members[0].name: b"abX"}
    with PackageReader(plan, lambda m: io.BytesIO(changed[m.name]), digests=False) as reader:
        buffer = bytearray(plan.size)
        assert reader.fill(memoryview(buffer)) == plan.size
    assert hashlib.sha256(buffer).digest() != package_digest(plan, lambda m: io.BytesIO(files[m.name]))
    with (
        PackageReader(plan, lambda m: io.BytesIO(changed[m.name])) as reader,
        pytest.raises(Corrupt, match=plan.members[0].name),
    ):
        reader.fill(memoryview(bytearray(plan.size)))
