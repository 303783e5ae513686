"""Stores in S3 and in what speaks its protocol: one bucket, or one prefix of a bucket, is one volume.

An object lies at ``PREFIX/KEY``; ``PREFIX/.hsm-pool`` says whose prefix it is (:mod:`drivers.s3.owner`).
Small objects are one PUT, large ones a multipart upload with parts side by side; both carry
``x-amz-checksum-sha256``, which the server compares with what it received, and the SHA-256 of the whole
object as metadata. Cold classes are asked for through :class:`drivers.base.Recallable`.

Credentials come from the SDK's own chain (environment, profile, credentials file, instance role) and are
never options of ours. boto3 is imported only when a store is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivers.base import Family
from drivers.s3.settings import OPTIONS, from_options

if TYPE_CHECKING:
    from drivers.s3.store import S3Store


def _open(options: Mapping[str, Any]) -> S3Store:
    from drivers.s3.store import open_store

    return open_store(options)


def _check(options: Mapping[str, Any]) -> None:
    from_options(options)


FAMILY = Family(
    name="s3",
    options=OPTIONS,
    open_store=_open,
    required=frozenset({"bucket"}),
    kind="s3",
    check=_check,
)
