"""The S3 driver's options, and its errors in an admin's words."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore import exceptions as boto

from drivers import registry
from drivers.errors import (
    DriverError,
    NoSpace,
    NotFound,
    NotReadableNow,
    OperatorNeeded,
    Permanent,
    Retryable,
)
from drivers.s3 import FAMILY
from drivers.s3.again import Patience
from drivers.s3.s3errors import NotKnown, Throttled, translate
from drivers.s3.settings import OBJECT_BYTES_MAX, PARTS_MAX, Settings, from_options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bucket": "No"}, "bucket 'No'"),
        ({"prefix": "a//b"}, "prefix"),
        ({"prefix": "/a"}, "prefix"),
        ({"endpoint_url": "http://user:secret@host"}, "no user"),
        ({"endpoint_url": "ftp://host"}, "endpoint_url"),
        ({"endpoint_url": "http://host:port"}, "endpoint_url"),
        ({"addressing": "sideways"}, "auto, path, virtual"),
        ({"restore_tier": "Soon"}, "Expedited, Standard, Bulk"),
        ({"restore_tier": "Expedited", "storage_class": "DEEP_ARCHIVE"}, "Expedited is not"),
        ({"encryption": "rot13"}, "AES256"),
        ({"kms_key_id": "k"}, "aws:kms"),
        ({"lock_mode": "GOVERNANCE"}, "need each other"),
        ({"retention_days": 1}, "need each other"),
        ({"landing_class": "STANDARD"}, "storage_class that is cold"),
        ({"storage_class": "GLACIER", "landing_class": "GLACIER"}, "read at once"),
        ({"bucket_owner": "me"}, "12 digits"),
        ({"threads": 0}, "threads"),
        ({"attempts": 21}, "attempts"),
        ({"part_bytes": "1 MiB"}, "5 MiB"),
        ({"part_bytes": "1 GiB"}, "memory_bytes"),
        ({"legal_hold": "yes"}, "true or false"),
        ({"connect_timeout_seconds": 0}, "above 0"),
        ({"restore_days": 0}, "restore_days"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_what_is_expected(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(Permanent, match=says) as raised:
        from_options({"bucket": "pool"} | options)
    assert "secret" not in str(raised.value)


def test_credentials_are_no_options() -> None:
    for name in ("aws_secret_access_key", "access_key", "secret_key", "password"):
        with pytest.raises(Permanent, match="unknown option"):
            registry.check_options(FAMILY, {"bucket": "pool", name: "x"})


def test_every_option_of_the_family_reaches_the_settings() -> None:
    assert FAMILY.options <= set(Settings.__dataclass_fields__)
    given = from_options({"bucket": "pool", "prefix": "a/b", "quota_bytes": "2 TB", "threads": 3})
    assert (given.root, given.where, given.quota_bytes) == ("a/b/", "s3://pool/a/b", 2 * 10**12)


def test_parts_grow_with_the_object_and_are_never_too_many() -> None:
    settings = Settings("pool")
    for size in (1, 40 << 20, 400 << 30, OBJECT_BYTES_MAX):
        part = settings.part_size(size)
        assert part >= settings.part_bytes
        assert -(-size // part) <= PARTS_MAX


def refusal(code: str, status: int, **headers: str) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "StringToSign AKIASECRETKEY"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return boto.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (refusal("SlowDown", 503), Throttled, "fewer requests"),
        (refusal("InternalError", 500), Retryable, "InternalError"),
        (refusal("", 504), Retryable, "504"),
        (refusal("NotImplemented", 501), NotKnown, "does not know"),
        (refusal("RequestTimeTooSkewed", 403, date="Mon, 01 Jan 2024"), OperatorNeeded, "Mon, 01 Jan"),
        (refusal("AccessDenied", 403), OperatorNeeded, "ListBucketMultipartUploads"),
        (refusal("ExpiredToken", 400), OperatorNeeded, "expired"),
        (refusal("KMS.DisabledException", 400), OperatorNeeded, "kms_key_id"),
        (refusal("NoSuchBucket", 404), OperatorNeeded, "create it"),
        (refusal("PermanentRedirect", 301, **{"x-amz-bucket-region": "eu-x"}), OperatorNeeded, "in eu-x"),
        (refusal("NoSuchKey", 404), NotFound, "not there"),
        (refusal("InvalidObjectState", 403), NotReadableNow, "restored first"),
        (refusal("QuotaExceeded", 403), NoSpace, "full"),
        (refusal("BadDigest", 400), Retryable, "damaged"),
        (refusal("MalformedXML", 400), Retryable, "damaged"),
        (refusal("InvalidArgument", 400), Permanent, "InvalidArgument"),
        (boto.EndpointConnectionError(endpoint_url="u"), Retryable, "cannot be reached"),
        (boto.ConnectTimeoutError(endpoint_url="u"), Retryable, "cannot be reached"),
        (boto.ReadTimeoutError(endpoint_url="u"), Retryable, "in time"),
        (boto.ConnectionClosedError(endpoint_url="u"), Retryable, "broke off"),
        (boto.SSLError(endpoint_url="u", error="e"), OperatorNeeded, "ca_file"),
        (boto.NoCredentialsError(), OperatorNeeded, "credentials"),
        (boto.NoRegionError(), OperatorNeeded, "region"),
        (ConnectionResetError(104, "reset"), Retryable, "broke off"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_refusal_says_what_to_do_next(error: Exception, kind: type[DriverError], says: str) -> None:
    found = translate(error, "put k in s3://pool")
    assert type(found) is kind
    assert says in str(found)
    assert "put k in s3://pool" in str(found)


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_what_a_server_repeats_of_the_signature_is_not_passed_on(code: str) -> None:
    assert "AKIASECRETKEY" not in str(translate(refusal(code, 403), "put k"))


def test_waits_are_random_grow_and_end() -> None:
    slept: list[float] = []
    patience = Patience(9, random.Random(1), slept.append)

    def fail() -> None:
        raise ConnectionResetError

    with pytest.raises(Retryable):
        patience("get k", fail)
    assert len(slept) == 8
    assert all(seconds <= min(20.0, 0.2 * 2**number) for number, seconds in enumerate(slept))
    assert len(set(slept)) == 8


def test_what_is_not_retryable_is_asked_once() -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise refusal("InvalidObjectState", 403)

    with pytest.raises(NotReadableNow):
        Patience(5, random.Random(1), lambda _: None)("get k", refuse)
    assert len(asked) == 1
