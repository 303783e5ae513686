"""botocore's and urllib3's exceptions into the four kinds of :mod:`drivers.errors`, in an admin's words.

Codes are those of the Amazon S3 API Reference, "Error responses", and the few that MinIO, Ceph and
SeaweedFS add. A message never holds a header, a signature or a key id.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from drivers.errors import (
    DriverError,
    NoSpace,
    NotFound,
    NotReadableNow,
    OperatorNeeded,
    Permanent,
    Retryable,
)


class Throttled(Retryable):
    """The service asks for fewer requests."""


class Exists(Permanent):
    """A precondition did not hold (412): a write found the key taken, a read found another object."""


class OutOfRange(Permanent):
    """The range begins where the object ends, or later (416)."""


class NotKnown(Permanent):
    """The server does not know this request, or a header of it (501)."""


class NotCold(Permanent):
    """A restore is not needed, or under way already."""


_THROTTLED = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}
    | {"BandwidthLimitExceeded", "RequestThrottled", "SlowDownRead", "SlowDownWrite"}
)
_AGAIN = frozenset(
    {"InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "ServerBusy"}
    | {"ConditionalRequestConflict", "NoSuchUpload", "XMinioServerNotInitialized"}
    | {"GlacierExpeditedRetrievalNotAvailable", "IncompleteBody"}
)
# The last three are answers to a list of parts: the SDK writes a good one, so it was changed on the way.
_DAMAGED_ON_THE_WAY = frozenset(
    {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"}
    | {"MalformedXML", "InvalidPart", "InvalidPartOrder"}
)
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull"})
_REGION = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307"}
    | {"IllegalLocationConstraintException"}
)
_CREDENTIALS = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is not the access key's",
    "ExpiredToken": "the session's credentials have expired",
    "ExpiredTokenException": "the session's credentials have expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token must be renewed",
    "AccountProblem": "the provider has a problem with the account",
    "AllAccessDisabled": "the provider has disabled access",
    "NotSignedUp": "the account is not signed up for S3",
}
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_HINT_CREDENTIALS = "check the profile or credentials file that the pool's options name, or the environment"
_NOT_COLD = frozenset({"RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"})
_MESSAGE_MAX = 300


def translate(error: Exception, what: str) -> DriverError:
    """The driver error that tells the caller of ``what`` (a verb and its object) what to do next."""
    if isinstance(error, boto.ClientError):
        return _of_response(error, what)
    if isinstance(error, boto.SSLError):
        return OperatorNeeded(
            f"{what}: the server's certificate is not accepted ({_short(error)}); "
            "check endpoint_url, the machine's CA certificates and option ca_file"
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        return OperatorNeeded(f"{what}: no usable credentials ({_short(error)}); {_HINT_CREDENTIALS}")
    if isinstance(error, boto.CredentialRetrievalError | boto.TokenRetrievalError):
        return Retryable(f"{what}: the credentials cannot be had just now ({_kind(error)})")
    if isinstance(error, boto.NoRegionError):
        return OperatorNeeded(f"{what}: no region is known; set option region")
    if isinstance(error, _ON_THE_WAY):
        return Retryable(f"{what}: {_wire(error)}")
    if isinstance(error, boto.BotoCoreError):
        return Permanent(f"{what}: {_short(error)}")
    return Retryable(f"{what}: {_wire(error)}")


_ON_THE_WAY = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)
_FOREIGN = (boto.ClientError, boto.BotoCoreError, ResponseParserError, HTTPError, HTTPException, OSError)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what the SDK raises in the block as a driver error about ``what``."""
    try:
        yield
    except _FOREIGN as error:
        # The cause is left out: a traceback of the SDK shows requests with their signed headers.
        raise translate(error, what) from None


def code_of(error: boto.ClientError) -> str:
    return str(_body(error).get("Code", ""))


def _of_response(error: boto.ClientError, what: str) -> DriverError:
    code, status = code_of(error), _status(error)
    for judge in (_of_time_and_rate, _of_object, _of_rights, _of_place):
        found = judge(code, status, what, error)
        if found is not None:
            return found
    if status >= 500 and status != 501:
        return Retryable(f"{what}: the server failed ({code or status})")
    if status == 501:
        return NotKnown(f"{what}: the server does not know this request{_detail(error)}")
    return Permanent(f"{what}: refused: {code or status}{_detail(error)}")


def _of_time_and_rate(code: str, status: int, what: str, error: boto.ClientError) -> DriverError | None:
    if code in _SKEWED:
        theirs = _headers(error).get("date", "")
        return OperatorNeeded(
            f"{what}: this machine's clock is more than 15 minutes off the server's"
            + (f", which says {theirs[:40]}" if theirs else "")
            + "; mend the time synchronisation (timedatectl, chronyc tracking)"
        )
    if code in _THROTTLED or status in (429, 503):
        return Throttled(f"{what}: the server asks for fewer requests ({code or status})")
    if code in _AGAIN:
        return Retryable(f"{what}: the server could not do it just now ({code})")
    if code in _DAMAGED_ON_THE_WAY:
        return Retryable(f"{what}: the bytes were damaged on the way, says the server ({code})")
    return None


def _of_object(code: str, status: int, what: str, error: boto.ClientError) -> DriverError | None:
    if code in _NOT_COLD:
        return NotCold(f"{what}: it is restored already, or soon will be ({code})")
    if code == "InvalidRange" or status == 416:
        return OutOfRange(f"{what}: the object has no such bytes")
    if code == "InvalidObjectState":
        return NotReadableNow(f"{what}: it lies in a cold class and must be restored first")
    if code == "NoSuchBucket":
        return OperatorNeeded(f"{what}: there is no such bucket; create it, or mend option bucket")
    if code in ("NoSuchKey", "NoSuchVersion", "NotFound", "404") or status == 404:
        return NotFound(f"{what}: it is not there")
    if code == "PreconditionFailed" or status == 412:
        return Exists(f"{what}: the server says that a precondition did not hold")
    if code in _FULL or status == 507:
        return NoSpace(f"{what}: the storage is full ({code or status})")
    return None


def _of_rights(code: str, status: int, what: str, error: boto.ClientError) -> DriverError | None:
    if code in _CREDENTIALS:
        # Without the server's own words: for these codes they repeat what was signed.
        return OperatorNeeded(f"{what}: {_CREDENTIALS[code]} ({code}); {_HINT_CREDENTIALS}")
    if code.startswith("KMS"):
        return OperatorNeeded(
            f"{what}: the encryption key cannot be used ({code}); check kms_key_id and its key policy"
        )
    if status in (401, 403):
        return OperatorNeeded(
            f"{what}: access is denied{_detail(error)}; the pool's user needs GetObject, PutObject, "
            "DeleteObject, AbortMultipartUpload, ListBucket and ListBucketMultipartUploads here, and what "
            "its options use besides (docs/drivers/s3.md)"
        )
    return None


def _of_place(code: str, status: int, what: str, error: boto.ClientError) -> DriverError | None:
    if code not in _REGION and status not in (301, 307):
        return None
    region = _headers(error).get("x-amz-bucket-region") or _body(error).get("Region")
    return OperatorNeeded(
        f"{what}: the bucket is not in this region"
        + (f" but in {region}" if region else "")
        + "; set option region (or endpoint_url)"
    )


def _body(error: boto.ClientError) -> dict[str, Any]:
    found: dict[str, Any] = error.response.get("Error", {})
    return found


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _headers(error: boto.ClientError) -> dict[str, str]:
    found: dict[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return found


def _detail(error: boto.ClientError) -> str:
    words = " ".join(str(_body(error).get("Message", "")).split())[:_MESSAGE_MAX]
    return f" ({words})" if words else ""


def _wire(error: Exception) -> str:
    """What happened on the way, in short."""
    for kinds, words in _WIRE:
        if isinstance(error, kinds):
            return words
    return f"the connection failed ({_kind(error)})"


_WIRE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (boto.ConnectTimeoutError, "the server cannot be reached (no answer to the connection)"),
    (boto.EndpointConnectionError, "the server cannot be reached"),
    (boto.ReadTimeoutError, "the server did not answer in time"),
    (boto.ProxyConnectionError, "the proxy cannot be reached"),
    (TimeoutError, "the server did not answer in time"),
    (
        (boto.ConnectionClosedError, boto.ResponseStreamingError, boto.IncompleteReadError, ConnectionError),
        "the connection broke off",
    ),
    (ResponseParserError, "the server's answer makes no sense"),
)


def _kind(error: Exception) -> str:
    return type(error).__name__


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:_MESSAGE_MAX]
