"""What a store in a bucket is configured with, as one value that refuses to be wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from drivers import options as opt
from drivers.base import CHUNK_BYTES, check_key
from drivers.errors import Permanent

MIB = 1 << 20
PARTS_MAX = 10_000
"""Amazon S3 User Guide, "Multipart upload limits"."""
PART_BYTES_LEAST = 5 * MIB
"""The same: every part but the last has at least so much."""
OBJECT_BYTES_MAX = 5 << 40

COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes that are restored before they are read; GLACIER_IR is read at once."""
_RESTORE_TIERS = ("Expedited", "Standard", "Bulk")
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_LOCK_MODES = ("GOVERNANCE", "COMPLIANCE")
_ADDRESSING = ("auto", "path", "virtual")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OWNER = re.compile(r"\d{12}")
_UNKNOWN_QUOTA = 1 << 50


@dataclass(frozen=True, slots=True)
class Settings:
    """One pool's bucket. Sizes are bytes, times seconds; docs/drivers/s3.md says what each is for.

    :raises ValueError: a value that cannot be, or two that contradict each other.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: str | None = None
    ca_file: str | None = None
    addressing: str = "auto"
    bucket_owner: str | None = None
    storage_class: str | None = None
    landing_class: str | None = None
    restore_tier: str = "Standard"
    restore_days: int = 7
    restore_poll_seconds: float | None = None
    encryption: str | None = None
    kms_key_id: str | None = None
    lock_mode: str | None = None
    retention_days: int | None = None
    legal_hold: bool = False
    delete_versions: bool = False
    quota_bytes: int | None = None
    reserve_bytes: int = 0
    """Of the quota, that is never filled."""
    part_bytes: int = 32 * MIB
    """Of an upload; a larger object is sent in parts."""
    single_bytes: int | None = None
    """What is larger is sent in parts, be it only one; None: what is larger than a part."""
    read_bytes: int = 16 * MIB
    """Of a get: how much one request fetches where several are sent side by side."""
    memory_bytes: int = 256 * MIB
    threads: int = 8
    attempts: int = 5
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    stale_upload_seconds: float = 86400.0
    expect_uuid: str | None = None

    def __post_init__(self) -> None:
        problems = [message for wrong, message in self._rules() if wrong]
        if problems:
            raise ValueError("; ".join(problems))

    def _rules(self) -> list[tuple[bool, str]]:
        return [
            (not _BUCKET.fullmatch(self.bucket), f"bucket {self.bucket!r} is not the name of a bucket"),
            (not _is_prefix(self.prefix), f"prefix {self.prefix!r}; expected parts of A-Za-z0-9._- with /"),
            (not _is_endpoint(self.endpoint_url), "endpoint_url; expected http(s)://HOST[:PORT], no user"),
            _one_of("addressing", self.addressing, _ADDRESSING),
            _one_of("restore_tier", self.restore_tier, _RESTORE_TIERS),
            _one_of("encryption", self.encryption, (None, *_ENCRYPTIONS)),
            _one_of("lock_mode", self.lock_mode, (None, *_LOCK_MODES)),
            (
                self.bucket_owner is not None and not _OWNER.fullmatch(self.bucket_owner),
                f"bucket_owner {self.bucket_owner!r}; expected an account number of 12 digits, as text",
            ),
            (
                self.kms_key_id is not None and not (self.encryption or "").startswith("aws:kms"),
                "kms_key_id needs encryption: aws:kms",
            ),
            (
                (self.lock_mode is None) is not (self.retention_days is None),
                "lock_mode and retention_days need each other",
            ),
            (self.landing_class in COLD_CLASSES, "landing_class must be one that can be read at once"),
            (
                self.landing_class is not None and not self.cold,
                "landing_class is for a storage_class that is cold",
            ),
            (
                self.restore_tier == "Expedited" and self.storage_class == "DEEP_ARCHIVE",
                "restore_tier Expedited is not to be had for DEEP_ARCHIVE",
            ),
            (
                self.reserve_bytes > 0 and self.reserve_bytes >= (self.quota_bytes or 0),
                "reserve_bytes needs a quota_bytes that is larger: a bucket says of no end",
            ),
            (not 1 <= self.threads <= 64, f"threads {self.threads}; expected 1 to 64"),
            (not 1 <= self.attempts <= 20, f"attempts {self.attempts}; expected 1 to 20"),
            (self.part_bytes < CHUNK_BYTES // 16, f"part_bytes {self.part_bytes} is too small"),
            (
                self.memory_bytes < max(self.part_bytes, self.read_bytes),
                "memory_bytes must hold one part (part_bytes, read_bytes)",
            ),
            (self.read_bytes < CHUNK_BYTES // 16, f"read_bytes {self.read_bytes} is too small"),
            (min(self.restore_days, self.retention_days or 1) < 1, "days must be at least 1"),
            (
                min(self.connect_timeout_seconds, self.read_timeout_seconds, self.stale_upload_seconds) <= 0,
                "time-outs must be above 0",
            ),
        ]

    @property
    def cold(self) -> bool:
        """What this pool keeps must be restored before it can be read."""
        return self.storage_class in COLD_CLASSES

    @property
    def put_class(self) -> str | None:
        """The class that ``put`` writes: one that can be read back; None leaves it to the server."""
        return self.landing_class if self.cold else self.storage_class

    @property
    def root(self) -> str:
        """What every object's name begins with: the prefix and its slash, or nothing."""
        return f"{self.prefix}/" if self.prefix else ""

    @property
    def where(self) -> str:
        """The volume in messages."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    @property
    def total_bytes(self) -> int:
        """The quota; without one a petabyte stands for "no limit that is known"."""
        return _UNKNOWN_QUOTA if self.quota_bytes is None else self.quota_bytes

    def part_size(self, size: int) -> int:
        """How large the parts of an object of ``size`` bytes are: ``part_bytes``, or as much more (in whole
        MiB) as keeps it within 10,000 parts."""
        least = math.ceil(size / PARTS_MAX)
        return self.part_bytes if least <= self.part_bytes else math.ceil(least / MIB) * MIB


def from_options(options: Mapping[str, Any]) -> Settings:
    """:raises Permanent: an option's value is wrong; the message says which, and what is expected."""
    given: dict[str, Any] = {}
    for name in _TEXTS:
        given[name] = opt.text(options, name)
    for name in _SIZES:
        given[name] = opt.size(options, name)
    for name in _COUNTS:
        given[name] = opt.count(options, name, least=1)
    for name in _TIMES:
        given[name] = opt.factor(options, name, 0.0) if options.get(name) is not None else None
    for name in _FLAGS:
        given[name] = _flag(options, name)
    if given["part_bytes"] is not None and given["part_bytes"] < PART_BYTES_LEAST:
        raise Permanent(f"option part_bytes: {given['part_bytes']}; S3 wants at least 5 MiB a part")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise Permanent(f"driver s3: {error}") from error


_TEXTS = (
    "bucket",
    "prefix",
    "endpoint_url",
    "region",
    "profile",
    "credentials_file",
    "ca_file",
    "addressing",
    "bucket_owner",
    "storage_class",
    "landing_class",
    "restore_tier",
    "encryption",
    "kms_key_id",
    "lock_mode",
    "expect_uuid",
)
_SIZES = ("quota_bytes", "reserve_bytes", "part_bytes", "read_bytes", "memory_bytes")
_TIMES = (
    "restore_poll_seconds",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "stale_upload_seconds",
)
_COUNTS = ("threads", "attempts", "restore_days", "retention_days")
_FLAGS = ("legal_hold", "delete_versions")
OPTIONS = frozenset({*_TEXTS, *_SIZES, *_TIMES, *_COUNTS, *_FLAGS})
"""Every option of the family, as :func:`from_options` reads it."""


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise Permanent(f"option {name}: {value!r}; expected true or false")
    return value


def _one_of(name: str, value: str | None, known: tuple[str | None, ...]) -> tuple[bool, str]:
    wanted = ", ".join(each for each in known if each)
    return value not in known, f"{name} {value!r}; expected one of {wanted}"


def _is_prefix(prefix: str) -> bool:
    try:
        return not prefix or bool(check_key(prefix))
    except ValueError:
        return False


def _is_endpoint(url: str | None) -> bool:
    """Whether it is a plain address: a user and password in it would end up in logs."""
    if url is None:
        return True
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises when it is no number)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
