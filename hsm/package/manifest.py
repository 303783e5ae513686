"""``manifest.json``: written in one canonical form, read back strictly, and the plan that follows.

Canonical: UTF-8, keys sorted, no spaces, one line for each top-level key and for each series and
member, a newline at the end. Only those bytes are accepted back, so a manifest that parses is one
that :func:`plan_package` could have written.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from drivers.errors import Corrupt
from hsm.errors import BadInput
from hsm.package import tar
from hsm.package.values import Member, PackageIdentity, PackagePlan, SeriesIdentity

FORMAT = "hsm-package"
VERSION = 1

# Each part of the manifest: its JSON keys and the fields of PackageIdentity they hold.
_PATIENT = {
    "birth_date": "birth_date",
    "id": "patient_id",
    "issuer": "issuer",
    "name": "patient_name",
    "sex": "sex",
}
_STUDY = {
    "accession": "accession",
    "charset": "charset",
    "date": "study_date",
    "description": "study_description",
    "id": "study_id",
    "institution": "institution",
    "referring_physician": "referring_physician",
    "source_ae": "source_ae",
    "time": "study_time",
    "uid": "study_uid",
}
_SERIES = ("body_part", "date", "description", "modality", "number", "station", "time", "uid")
_TOP = ("format", "key", "members", "number", "patient", "sealed_at", "series", "study", "version")
_MEMBER = (
    "name",
    "number",
    "offset",
    "series",
    "sha256",
    "size",
    "sop_class",
    "sop_instance",
    "transfer_syntax",
    "version",
)


def plan_package(identity: PackageIdentity, members: Iterable[Member]) -> PackagePlan:
    """Plan the tar of ``members`` in the order given. Equal arguments give equal bytes.

    :raises ValueError: no member, a name twice, or a member of a series that ``identity`` lacks.
    """
    ordered = tuple(members)
    _check_members(identity, ordered)
    manifest_size = _settled_manifest_size(identity, ordered)
    *offsets, end = _offsets(manifest_size, ordered)
    manifest = _render(identity, ordered, offsets)
    if len(manifest) != manifest_size:  # a wrong offset would be sealed for ever
        raise AssertionError(f"{identity.key}: manifest of {len(manifest)} bytes, planned {manifest_size}")
    return PackagePlan(identity, manifest, ordered, tuple(offsets), end + tar.END_BYTES - tar.BLOCK_BYTES)


def plan_from_manifest(manifest: bytes) -> PackagePlan:
    """The plan that wrote ``manifest``.

    :raises Corrupt: these bytes are not a manifest in canonical form.
    """
    try:
        identity, members = _parse(manifest)
        _check_members(identity, members)
        # Written once, with the offsets that its own size gives, it must come out as it went in; and that
        # size must be the one that a plan would settle at.
        *offsets, end = _offsets(len(manifest), members)
        canonical = _render(identity, members, offsets)
        without = len(manifest) - sum(len(str(offset)) for offset in offsets)
        settled = canonical == manifest and _settle(without, members) == len(manifest)
    except (ValueError, BadInput, RecursionError) as error:
        raise Corrupt(f"manifest: {error}") from error
    if not settled:
        lines = zip(canonical.split(b"\n"), manifest.split(b"\n"), strict=False)
        line = next((n for n, (want, got) in enumerate(lines, 1) if want != got), 0)
        raise Corrupt(
            f"manifest of {identity.key}: line {line} is not in canonical form, or an offset is wrong"
        )
    return PackagePlan(identity, manifest, members, tuple(offsets), end + tar.END_BYTES - tar.BLOCK_BYTES)


def parse_manifest(manifest: bytes) -> tuple[PackageIdentity, tuple[Member, ...]]:
    """The identities in ``manifest``, members in tar order.

    :raises Corrupt: not JSON, another format or version, a key missing or unknown, a value of the
        wrong type, an impossible identity, or not byte for byte the canonical form (so also when an
        offset is not where the tar puts the member).
    """
    plan = plan_from_manifest(manifest)
    return plan.identity, plan.members


def _check_members(identity: PackageIdentity, members: Sequence[Member]) -> None:
    if not members:
        raise ValueError(f"{identity.key}: a package has at least one member")
    known = {series.uid for series in identity.series}
    names = set()
    for member in members:
        if member.series_uid not in known:
            raise ValueError(f"{identity.key}: member {member.name} is of a series that is not listed")
        if member.name in names:
            raise ValueError(f"{identity.key}: member {member.name} is there twice")
        names.add(member.name)


def _offsets(manifest_size: int, members: Sequence[Member]) -> Iterator[int]:
    """Where each member's data begins, and last where the data of one more would."""
    start = tar.occupied(manifest_size) + tar.BLOCK_BYTES
    return itertools.accumulate((tar.occupied(member.size) for member in members), initial=start)


def _settled_manifest_size(identity: PackageIdentity, members: Sequence[Member]) -> int:
    """The size of the manifest whose offsets count its own size.

    Offsets grow with the manifest, and the manifest with the digits of its offsets: begin too small
    and repeat until nothing grows. The size never shrinks on the way and is bounded (an offset has
    at most 20 digits), so this ends, and it always ends at the same smallest solution.
    """
    return _settle(len(_render(identity, members, [0] * len(members))) - len(members), members)


def _settle(without_offsets: int, members: Sequence[Member]) -> int:
    size = without_offsets
    while True:
        offsets = itertools.islice(_offsets(size, members), len(members))
        grown = without_offsets + sum(len(str(offset)) for offset in offsets)
        if grown == size:
            return size
        size = grown


def _render(identity: PackageIdentity, members: Sequence[Member], offsets: Sequence[int]) -> bytes:
    parts: dict[str, Any] = {
        "format": FORMAT,
        "key": identity.key,
        "number": identity.number,
        "patient": {key: getattr(identity, field) for key, field in _PATIENT.items()},
        "sealed_at": identity.sealed_at,
        "series": [{key: getattr(series, key) for key in _SERIES} for series in identity.series],
        "study": {key: getattr(identity, field) for key, field in _STUDY.items()},
        "version": VERSION,
    }
    lines = ",\n".join(_member_line(m, offset) for m, offset in zip(members, offsets, strict=True))
    blocks = {key: _block(value) for key, value in parts.items()} | {"members": f"[\n{lines}\n]"}
    return ("{\n" + ",\n".join(f'"{key}":{blocks[key]}' for key in _TOP) + "\n}\n").encode()


def _block(value: Any) -> str:
    if isinstance(value, list):
        return "[\n" + ",\n".join(_compact(each) for each in value) + "\n]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _member_line(member: Member, offset: int) -> str:
    """One member as :func:`_compact` would write it; a member's texts are UIDs, where nothing needs escaping,
    and there are thousands of them."""
    number = "null" if member.number is None else member.number
    return (
        f'{{"name":"{member.name}","number":{number},"offset":{offset},"series":"{member.series_uid}",'
        f'"sha256":"{member.digest.hex()}","size":{member.size},"sop_class":"{member.sop_class_uid}",'
        f'"sop_instance":"{member.sop_instance_uid}","transfer_syntax":"{member.transfer_syntax_uid}",'
        f'"version":{member.version}}}'
    )


def _parse(manifest: bytes) -> tuple[PackageIdentity, tuple[Member, ...]]:
    """:raises ValueError, BadInput: anything that is not as it should be."""
    top = json.loads(manifest.decode())
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise ValueError(f"not a {FORMAT} manifest")
    if type(top.get("version")) is not int or top["version"] != VERSION:
        raise ValueError(f"version {top.get('version')!r}; this software reads version {VERSION}")
    _expect_keys("manifest", top, _TOP)
    patient, study = top["patient"], top["study"]
    _expect_keys("patient", patient, _PATIENT)
    _expect_keys("study", study, _STUDY)
    texts = {_PATIENT[key]: _text("patient", patient, key) for key in _PATIENT}
    texts |= {_STUDY[key]: _text("study", study, key) for key in _STUDY}
    identity = PackageIdentity(
        key=_text("manifest", top, "key"),
        number=_whole("manifest", top, "number"),
        sealed_at=_text("manifest", top, "sealed_at"),
        series=tuple(_parse_series(each) for each in _rows(top, "series")),
        **texts,
    )
    return identity, tuple(_parse_member(each) for each in _rows(top, "members"))


def _parse_series(entry: Any) -> SeriesIdentity:
    _expect_keys("series", entry, _SERIES)
    texts = {key: _text("series", entry, key) for key in _SERIES if key != "number"}
    return SeriesIdentity(number=_whole_or_none("series", entry, "number"), **texts)


def _parse_member(entry: Any) -> Member:
    _expect_keys("member", entry, _MEMBER)
    return Member(
        name=_text("member", entry, "name"),
        series_uid=_text("member", entry, "series"),
        sop_instance_uid=_text("member", entry, "sop_instance"),
        sop_class_uid=_text("member", entry, "sop_class"),
        transfer_syntax_uid=_text("member", entry, "transfer_syntax"),
        version=_whole("member", entry, "version"),
        number=_whole_or_none("member", entry, "number"),
        size=_whole("member", entry, "size"),
        digest=bytes.fromhex(_text("member", entry, "sha256")),
    )


def _rows(top: dict[str, Any], key: str) -> list[Any]:
    rows = top[key]
    if not isinstance(rows, list):
        raise ValueError(f"{key} is not a list")  # noqa: TRY004 - a wrong value of a file, not of a caller
    return rows


def _expect_keys(what: str, entry: Any, keys: Iterable[str]) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is not an object")  # noqa: TRY004
    if entry.keys() != set(keys):
        odd = ", ".join(sorted(entry.keys() ^ set(keys)))
        raise ValueError(f"{what}: keys missing or unknown: {odd}")


def _text(what: str, entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise ValueError(f"{what}: {key} is not a string")  # noqa: TRY004
    return value


def _whole(what: str, entry: dict[str, Any], key: str) -> int:
    value = entry[key]
    if type(value) is not int:
        raise ValueError(f"{what}: {key} is not a whole number")
    return value


def _whole_or_none(what: str, entry: dict[str, Any], key: str) -> int | None:
    return None if entry[key] is None else _whole(what, entry, key)
