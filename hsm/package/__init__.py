"""A package: one immutable, deterministic POSIX tar of a study's instances and their manifest.

Pure but for reading the sources it is given. The format is described in docs/package-format.md:
whoever has the manifest and the instance files can compose the same bytes again, so one digest
proves every copy on every medium equal.
"""

from __future__ import annotations

from hsm.package.manifest import parse_manifest, plan_from_manifest, plan_package
from hsm.package.reader import PackageReader, Part10Source, package_digest, read_manifest, verify_stream
from hsm.package.unpacker import Unpacker
from hsm.package.values import (
    Member,
    PackageIdentity,
    PackagePlan,
    SeriesIdentity,
    member_name,
)

__all__ = [
    "Member",
    "PackageIdentity",
    "PackagePlan",
    "PackageReader",
    "Part10Source",
    "SeriesIdentity",
    "Unpacker",
    "member_name",
    "package_digest",
    "parse_manifest",
    "plan_from_manifest",
    "plan_package",
    "read_manifest",
    "verify_stream",
]
