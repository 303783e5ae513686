"""What a bucket keeps besides the current objects: older versions, delete markers, unfinished uploads.

Amazon S3 User Guide, "Deleting object versions from a versioning-enabled bucket" and "Aborting a
multipart upload".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from drivers.errors import DriverError, NotFound, OperatorNeeded, Permanent
from drivers.s3.client import Endpoint


def are_kept(endpoint: Endpoint) -> bool:
    """Whether the bucket keeps what is deleted; no, where we may not ask or the server does not know."""
    try:
        answer = endpoint.ask("get_bucket_versioning", "ask for the versioning of")
    except (Permanent, OperatorNeeded):
        return False
    return bool(answer.get("Status") == "Enabled")


def delete_all(endpoint: Endpoint, key: str, name: str) -> None:
    """Delete every version and delete marker of one object.

    :raises Permanent: a version is locked.
    """
    for item in _versions(endpoint, name):
        if item["Key"] == name:
            delete_one(endpoint, key, name, item["VersionId"])


def delete_one(endpoint: Endpoint, key: str, name: str, version: str) -> None:
    """:raises Permanent: the version is locked."""
    try:
        with suppress(NotFound):
            endpoint.ask("delete_object", f"delete {key}", Key=name, VersionId=version)
    except OperatorNeeded as error:
        until = _locked(endpoint, key, name, version)
        if until is None:
            raise
        raise Permanent(f"delete {key}: it is locked {until}; the server refuses to delete it") from error


def count(endpoint: Endpoint) -> int:
    """Bytes of all versions below the pool's prefix."""
    return sum(item.get("Size", 0) for item in _versions(endpoint, endpoint.settings.root))


def abort_stale(endpoint: Endpoint, before: datetime) -> int:
    """Abort the uploads below the pool's prefix that were begun ``before``; how many there were.

    A user who may not list or abort them opens the store all the same: they cost room, not data.
    """
    aborted = 0
    marker: dict[str, Any] = {}
    while True:
        try:
            page = endpoint.ask(
                "list_multipart_uploads", "list the uploads", Prefix=endpoint.settings.root, **marker
            )
        except (Permanent, OperatorNeeded):
            return aborted
        for upload in page.get("Uploads", ()):
            if upload["Initiated"] < before:
                with suppress(DriverError):
                    endpoint.ask(
                        "abort_multipart_upload",
                        f"abort the upload of {upload['Key']}",
                        Key=upload["Key"],
                        UploadId=upload["UploadId"],
                    )
                    aborted += 1
        if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
            return aborted
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}


def _versions(endpoint: Endpoint, prefix: str) -> Iterator[dict[str, Any]]:
    marker: dict[str, Any] = {}
    while True:
        page = endpoint.ask("list_object_versions", "list the versions", Prefix=prefix, **marker)
        yield from page.get("Versions", ())
        yield from page.get("DeleteMarkers", ())
        if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}


def _locked(endpoint: Endpoint, key: str, name: str, version: str) -> str | None:
    """Until when, in words; None when it is not locked, or that cannot be told."""
    try:
        head = endpoint.ask("head_object", f"look at {key}", Key=name, VersionId=version)
    except DriverError:
        return None
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        return "by a legal hold"
    until = head.get("ObjectLockRetainUntilDate")
    return None if until is None else f"until {until:%Y-%m-%d %H:%M} ({head.get('ObjectLockMode', '')})"
