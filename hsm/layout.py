"""Where things lie: keys of instance files, manifests and packages on a Store.

Pure. Every UID goes through :func:`hsm.model.check_uid` before it becomes part of a path, and what
comes out is a valid key (:func:`drivers.base.check_key`). Two hexadecimal digits of a SHA-256 spread
studies and packages over 256 folders, so that a million studies make folders of a few thousand entries.
"""

from __future__ import annotations

import hashlib

from drivers.base import check_key
from hsm.model import check_uid

STUDIES = "studies"


def study_dir(study_uid: str) -> str:
    """``studies/<fan-out>/<Study Instance UID>``.

    :raises BadInput: not a UID.
    """
    check_uid(study_uid, "Study Instance UID (0020,000D)")
    return f"{STUDIES}/{_fan_out(study_uid)}/{study_uid}"


def instance_path(study_uid: str, series_uid: str, sop_uid: str, version: int) -> str:
    """``<study dir>/<series UID>/<SOP Instance UID>[.v<version>].dcm``; version 0 has no suffix.

    :raises BadInput: a UID is not one.
    :raises ValueError: the version is negative.
    """
    check_uid(series_uid, "Series Instance UID (0020,000E)")
    check_uid(sop_uid, "SOP Instance UID (0008,0018)")
    if version < 0:
        raise ValueError(f"{sop_uid}: version {version} is negative")
    suffix = f".v{version}" if version else ""
    return check_key(f"{study_dir(study_uid)}/{series_uid}/{sop_uid}{suffix}.dcm")


def package_key(study_uid: str, number: int) -> str:
    """``<Study Instance UID>.p<number, at least four digits>.tar``: a package's name on every medium.

    :raises BadInput: not a UID.
    :raises ValueError: ``number`` is less than 1.
    """
    check_uid(study_uid, "Study Instance UID (0020,000D)")
    if number < 1:
        raise ValueError(f"{study_uid}: package number {number}; expected 1 or more")
    return f"{study_uid}.p{number:04d}.tar"


def manifest_path(study_uid: str, package_key: str) -> str:
    """``<study dir>/<package key>.manifest.json``: beside the series folders of a ``files`` pool.

    :raises BadInput: not a UID.
    :raises ValueError: the key is not a package's of that study.
    """
    if not package_key.startswith(f"{study_uid}.p"):
        raise ValueError(f"package {package_key!r} is not one of study {study_uid}")
    return check_key(f"{study_dir(study_uid)}/{_one_part(package_key)}.manifest.json")


def package_locator(key: str) -> str:
    """``<fan-out>/<key>``: where a ``packages`` pool keeps the package.

    :raises ValueError: the key is not a single safe path part.
    """
    return f"{_fan_out(key)}/{check_key(_one_part(key))}"


def _one_part(key: str) -> str:
    if "/" in key:
        raise ValueError(f"package key {key!r} contains a slash")
    return key


def _fan_out(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:2]
