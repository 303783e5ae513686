"""Cold classes: asking for an object, looking whether it is there, and moving one into its cold class.

Amazon S3 User Guide, "Working with archived objects"; API Reference, RestoreObject and HeadObject.
No call here waits for a restore: it takes from minutes to two days.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from drivers.base import RecallState, Warmth
from drivers.errors import DriverError, NotReadableNow, Permanent
from drivers.s3.client import Endpoint
from drivers.s3.s3errors import NotCold
from drivers.s3.settings import COLD_CLASSES, MIB
from drivers.s3.threads import Crew

COPY_BYTES_MAX = 5 << 30
"""API Reference, CopyObject: a larger object is copied part by part."""
COPY_PART_BYTES = 512 * MIB
_POLL_SECONDS = {"Expedited": 60.0, "Standard": 900.0, "Bulk": 1800.0}
"""User Guide, "Archive retrieval options": minutes, hours, up to half a day (twice that and more for
DEEP_ARCHIVE). Asking is a HEAD and costs next to nothing, so the poll is what a waiting reader may lose."""
_RESTORE = re.compile(r'ongoing-request="(true|false)"(?:,\s*expiry-date="([^"]*)")?')


def state_of(endpoint: Endpoint, key: str, head: dict[str, Any], now: datetime) -> RecallState:
    """What the answer to a HEAD says, at the time ``now``."""
    if not needs_restore(head):
        return RecallState(key, Warmth.READABLE)
    found = _RESTORE.search(head.get("Restore", ""))
    if found is None:
        return RecallState(key, Warmth.COLD, ask_again_seconds=poll_seconds(endpoint))
    if found[1] == "true":
        return RecallState(key, Warmth.RECALLING, ask_again_seconds=poll_seconds(endpoint))
    until = _date(found[2])
    if until is not None and until <= now:
        return RecallState(key, Warmth.COLD, ask_again_seconds=poll_seconds(endpoint))
    return RecallState(key, Warmth.READABLE, until=until)


def state_after_asking(endpoint: Endpoint, key: str, head: dict[str, Any], now: datetime) -> RecallState:
    """The same just after a restore was asked for, which a server may not show at once."""
    state = state_of(endpoint, key, head, now)
    if state.warmth is Warmth.COLD:
        return RecallState(key, Warmth.RECALLING, ask_again_seconds=state.ask_again_seconds)
    return state


def needs_restore(head: dict[str, Any]) -> bool:
    """GLACIER and DEEP_ARCHIVE, and what INTELLIGENT_TIERING has archived."""
    return head.get("StorageClass") in COLD_CLASSES or "ArchiveStatus" in head


def poll_seconds(endpoint: Endpoint) -> float:
    settings = endpoint.settings
    if settings.restore_poll_seconds is not None:
        return settings.restore_poll_seconds
    return _POLL_SECONDS[settings.restore_tier]


def restore(endpoint: Endpoint, key: str, name: str, head: dict[str, Any]) -> None:
    """Send RestoreObject. That it is under way already (409), or not needed, is as good as done."""
    settings = endpoint.settings
    request: dict[str, Any] = {"GlacierJobParameters": {"Tier": settings.restore_tier}}
    if "ArchiveStatus" not in head:  # what INTELLIGENT_TIERING restores stays restored
        request["Days"] = settings.restore_days
    try:
        with suppress(NotCold):
            endpoint.ask("restore_object", f"recall {key}", Key=name, RestoreRequest=request)
    except NotReadableNow as error:
        # Of RestoreObject, InvalidObjectState says that this class of object knows no such restore.
        raise Permanent(str(error)) from error


def make_cold(
    endpoint: Endpoint, crew: Crew, name: str, head: dict[str, Any], headers: dict[str, Any]
) -> None:
    """Copy the object onto itself in the pool's storage class; the server moves the bytes, not we.

    :param headers: storage class, encryption and retention of what is written.
    """
    what = f"move {name} into {headers['StorageClass']}"
    source = {"Bucket": endpoint.settings.bucket, "Key": name}
    same = {"CopySource": source, "CopySourceIfMatch": head["ETag"]}
    if endpoint.settings.bucket_owner is not None:
        same["ExpectedSourceBucketOwner"] = endpoint.settings.bucket_owner
    size = int(head["ContentLength"])
    if size <= COPY_BYTES_MAX:
        endpoint.ask("copy_object", what, Key=name, MetadataDirective="COPY", **same, **headers)
        return
    begun = endpoint.ask(
        "create_multipart_upload",
        what,
        Key=name,
        Metadata=head.get("Metadata", {}),
        ChecksumAlgorithm="SHA256",
        **headers,
    )
    upload = {"Key": name, "UploadId": begun["UploadId"]}
    try:
        parts = _copy_parts(
            crew, size, lambda number, span: _copy_part(endpoint, what, number, span, same, upload)
        )
        endpoint.ask("complete_multipart_upload", what, MultipartUpload={"Parts": parts}, **upload)
    except BaseException:
        with suppress(DriverError):
            endpoint.ask("abort_multipart_upload", f"abort {what}", **upload)
        raise


def _copy_parts(crew: Crew, size: int, copy: Callable[[int, str], dict[str, Any]]) -> list[dict[str, Any]]:
    work: list[Future[dict[str, Any]]] = []
    for number, start in enumerate(range(0, size, COPY_PART_BYTES), start=1):
        span = f"bytes={start}-{min(start + COPY_PART_BYTES, size) - 1}"
        work.append(crew.start(lambda number=number, span=span: copy(number, span)))  # type: ignore[misc]
    _, left = wait(work, return_when=FIRST_EXCEPTION)
    for future in left:
        future.cancel()
    wait(left)
    return [future.result() for future in work]


def _copy_part(
    endpoint: Endpoint, what: str, number: int, span: str, same: dict[str, Any], upload: dict[str, Any]
) -> dict[str, Any]:
    answer = endpoint.ask(
        "upload_part_copy",
        f"{what} (part {number})",
        PartNumber=number,
        CopySourceRange=span,
        **same,
        **upload,
    )["CopyPartResult"]
    checksum = {"ChecksumSHA256": answer["ChecksumSHA256"]} if "ChecksumSHA256" in answer else {}
    return {"PartNumber": number, "ETag": answer["ETag"]} | checksum


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
