"""What a package is made of, as values that refuse to be wrong.

Sizes and offsets are bytes; digests are the 32 raw bytes of a SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

from drivers.base import DIGEST_BYTES, check_key
from hsm.model import check_uid


def member_name(series_uid: str, sop_instance_uid: str, version: int) -> str:
    """``<series UID>/<SOP Instance UID>[.v<version>].dcm``: at most 64 + 1 + 74 characters.

    The part before the slash fits ustar's prefix field and the part after it the name field, so no
    name ever needs a pax or GNU extension.

    :raises BadInput: a UID is not one.
    :raises ValueError: the version is negative.
    """
    if version < 0:
        raise ValueError(f"{sop_instance_uid}: version {version} is negative")
    check_uid(series_uid, "Series Instance UID (0020,000E)")
    check_uid(sop_instance_uid, "SOP Instance UID (0008,0018)")
    suffix = f".v{version}" if version else ""
    return f"{series_uid}/{sop_instance_uid}{suffix}.dcm"


@dataclass(frozen=True, slots=True)
class Member:
    """One Part 10 file of a package."""

    name: str
    """Its path in the tar; always what :func:`member_name` gives."""
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    version: int
    number: int | None
    """Instance Number (0020,0013)."""
    size: int
    """Bytes of the whole Part 10 file."""
    digest: bytes
    """SHA-256 of the whole Part 10 file."""

    def __post_init__(self) -> None:
        expected = member_name(self.series_uid, self.sop_instance_uid, self.version)
        if self.name != expected:
            raise ValueError(f"member {self.name!r} must be named {expected!r}")
        check_uid(self.sop_class_uid, "SOP Class UID (0008,0016)")
        check_uid(self.transfer_syntax_uid, "Transfer Syntax UID (0002,0010)")
        if self.size < 0:
            raise ValueError(f"{self.name}: size {self.size} is negative")
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"{self.name}: digest of {len(self.digest)} bytes; expected {DIGEST_BYTES}")


@dataclass(frozen=True, slots=True)
class SeriesIdentity:
    """What the manifest says of a series. Text is decoded; dates and times are as sent."""

    uid: str
    modality: str
    number: int | None
    description: str
    body_part: str
    date: str
    time: str
    station: str

    def __post_init__(self) -> None:
        check_uid(self.uid, "Series Instance UID (0020,000E)")
        _check_text(self)


@dataclass(frozen=True, slots=True)
class PackageIdentity:
    """Which package this is, and its study's identity when it was sealed: enough for a catalog row.

    Text is decoded; dates and times are as sent. Corrections made after sealing are not here.
    """

    key: str
    """The package's name on every medium."""
    study_uid: str
    number: int
    """1 for the study's first package; late instances make further ones."""
    patient_id: str
    issuer: str
    patient_name: str
    birth_date: str
    sex: str
    study_date: str
    study_time: str
    study_id: str
    study_description: str
    accession: str
    referring_physician: str
    institution: str
    charset: str
    """Specific Character Set (0008,0005) as sent."""
    series: tuple[SeriesIdentity, ...]
    sealed_at: str
    """ISO 8601 with a time zone."""
    source_ae: str = ""
    """AE title that sent the study."""

    def __post_init__(self) -> None:
        check_key(self.key)
        if "/" in self.key:
            raise ValueError(f"package key {self.key!r} contains a slash")
        check_uid(self.study_uid, "Study Instance UID (0020,000D)")
        if self.number < 1:
            raise ValueError(f"{self.key}: package number {self.number}; expected 1 or more")
        if datetime.fromisoformat(self.sealed_at).tzinfo is None:
            raise ValueError(f"{self.key}: sealed_at {self.sealed_at!r} has no time zone")
        uids = [series.uid for series in self.series]
        if len(set(uids)) != len(uids):
            raise ValueError(f"{self.key}: a series is listed twice")
        _check_text(self)


@dataclass(frozen=True, slots=True)
class PackagePlan:
    """Everything about a package's tar except the bytes of its Part 10 files."""

    identity: PackageIdentity
    manifest: bytes
    """The bytes of ``manifest.json``, the first member."""
    members: tuple[Member, ...]
    offsets: tuple[int, ...]
    """For each member where its Part 10 file (not its header) begins in the tar."""
    size: int
    """Bytes of the whole tar."""


def _check_text(value: PackageIdentity | SeriesIdentity) -> None:
    """:raises ValueError: a text that is not UTF-8 encodable (the catalog could not hold it either)."""
    for each in fields(value):
        text = getattr(value, each.name)
        if isinstance(text, str):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{each.name} {text!r} is not Unicode text: {error.reason}") from error
