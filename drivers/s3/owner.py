"""Whose prefix of a bucket it is: the object ``PREFIX/.hsm-pool``, as a folder's sentinel says it.

It also tells a person who finds the bucket what lies in it and how to read it without us.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from drivers.base import StoreLabel
from drivers.errors import Corrupt, NotFound, OperatorNeeded, Permanent
from drivers.s3.client import Endpoint
from drivers.s3.s3errors import Exists, translated

LABEL = ".hsm-pool"
_SIZE_MAX = 4096
_ABOUT = (
    "A pool of a DICOM archive. Each object is a POSIX tar of one study's instances; its first member, "
    "manifest.json, names them with their sizes and SHA-256 digests. tar xf and sha256sum read it."
)


def read_label(
    endpoint: Endpoint, attempts: int | None = None, prefix: str | None = None
) -> StoreLabel | None:
    """The label of the pool's prefix (or of ``prefix``), or None when there is none.

    :raises Corrupt: what is there is not a label.
    """
    name = f"{prefix}/{LABEL}" if prefix else LABEL
    if prefix is None:
        name = endpoint.settings.root + LABEL
    try:
        answer = endpoint.ask("get_object", f"read {name}", attempts, Key=name)
        with translated(f"read {name}"):
            content = answer["Body"].read(_SIZE_MAX)
    except NotFound:
        return None
    return _parse(content, f"s3://{endpoint.settings.bucket}/{name}")


def write_label(endpoint: Endpoint, label: StoreLabel) -> None:
    """Mark the pool's prefix, which must hold nothing and lie in no other pool's.

    :raises Permanent: it carries another label, holds objects without one, or lies inside another pool's.
    """
    settings = endpoint.settings
    present = read_label(endpoint)
    if present is None:
        _require_unowned(endpoint)
        body = {"pool": label.pool, "uuid": label.uuid, "about": _ABOUT}
        with suppress(Exists):  # somebody was quicker, or an answer was lost: the next look tells which
            endpoint.create(
                "put_object",
                f"write {LABEL}",
                Key=settings.root + LABEL,
                Body=(json.dumps(body) + "\n").encode(),
                ContentType="application/json",
                **protection(endpoint, locked=False),
            )
        present = read_label(endpoint)
    if present != label:
        owner = f"pool {present.pool!r} ({present.uuid})" if present else "nobody"
        raise Permanent(
            f"{settings.where} belongs to {owner}, not to {label.pool!r} ({label.uuid}); give this pool "
            f"another prefix, or if that pool is really gone remove {LABEL} by hand"
        )


def require_label(endpoint: Endpoint, uuid: str, attempts: int | None = None) -> None:
    """:raises OperatorNeeded: the prefix is not the one marked with ``uuid``."""
    where = endpoint.settings.where
    present = read_label(endpoint, attempts)
    if present is None:
        raise OperatorNeeded(
            f"{where} does not carry {LABEL} with {uuid}: another bucket, prefix or endpoint than before, or "
            "the bucket was emptied; mend the pool's options, or put the object back"
        )
    if present.uuid != uuid:
        raise OperatorNeeded(f"{where} is pool {present.pool!r} ({present.uuid}), expected {uuid}")


def protection(endpoint: Endpoint, *, locked: bool) -> dict[str, Any]:
    """What every write says of encryption; with ``locked`` of legal hold too."""
    settings, said = endpoint.settings, {}
    if settings.encryption is not None:
        said["ServerSideEncryption"] = settings.encryption
    if settings.kms_key_id is not None:
        said["SSEKMSKeyId"] = settings.kms_key_id
    if locked and settings.legal_hold:
        said["ObjectLockLegalHoldStatus"] = "ON"
    return said


def _require_unowned(endpoint: Endpoint) -> None:
    settings = endpoint.settings
    listed = endpoint.ask("list_objects_v2", "list", Prefix=settings.root, MaxKeys=1).get("Contents", [])
    if listed:
        raise Permanent(
            f"{settings.where} holds {listed[0]['Key']!r} and perhaps more but no {LABEL}; "
            "give an empty bucket or prefix"
        )
    parts = settings.prefix.split("/")
    for depth in range(len(parts) if settings.prefix else 0):
        above = "/".join(parts[:depth])
        owner = read_label(endpoint, prefix=above)
        if owner is not None:
            raise Permanent(
                f"{settings.where} lies inside pool {owner.pool!r} ({owner.uuid}) at "
                f"s3://{settings.bucket}/{above}; give this pool a prefix beside it"
            )


def _parse(content: bytes, name: str) -> StoreLabel:
    try:
        values = json.loads(content)
        pool, uuid = values["pool"], values["uuid"]
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{name} is not a pool's label: {error!r}") from error
    if not (isinstance(pool, str) and isinstance(uuid, str)):
        raise Corrupt(f"{name} is not a pool's label: pool and uuid must be text")
    return StoreLabel(pool, uuid)
