"""The one place that builds boto3's client, and the one through which every request goes."""

from __future__ import annotations

import logging
import os
import stat
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from drivers.errors import OperatorNeeded, Retryable
from drivers.s3.again import Patience
from drivers.s3.s3errors import NotKnown, translated
from drivers.s3.settings import Settings

_SDK_LOGGERS = ("boto3", "botocore", "urllib3")


def make_client(settings: Settings) -> Any:
    """A client with limits on every wait; it is thread-safe. The first credentials are looked up here.

    The SDK tries nothing again by itself: :class:`drivers.s3.again.Patience` does, where it can be seen.

    :raises OperatorNeeded: no credentials, or a credentials file that others may read.
    """
    _quiet()
    with translated(f"open {settings.where}"):
        core = botocore.session.Session(profile=settings.profile)
        if settings.credentials_file is not None:
            _require_private(settings.credentials_file)
            core.set_config_variable("credentials_file", settings.credentials_file)
        session = boto3.session.Session(botocore_session=core)
        if session.get_credentials() is None:
            raise OperatorNeeded(
                f"open {settings.where}: no credentials were found; give option profile or credentials_file, "
                "or set them in the environment of the daemon"
            )
        return session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region or _region(session, settings),
            verify=settings.ca_file,
            config=_config(settings),
        )


def _config(settings: Settings) -> Config:
    return Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=settings.threads + 8,
        tcp_keepalive=True,
        # Parts carry x-amz-checksum-sha256, which is signed: signing the body's digest again adds nothing.
        s3={"addressing_style": settings.addressing, "payload_signing_enabled": False},
        # What is uploaded here brings its own checksum; what is read is compared with our own digest.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="hsm-archive",
    )


def _region(session: Any, settings: Settings) -> str | None:
    """With an endpoint of one's own any region will do, but the signature wants one."""
    if session.region_name or settings.endpoint_url is None:
        region: str | None = session.region_name
        return region
    return "us-east-1"


def _require_private(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise OperatorNeeded(f"credentials file {path}: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise OperatorNeeded(f"credentials file {path} can be read by everybody; chmod 600 it")


def _quiet() -> None:
    """The SDK's own debug log shows signed headers and session tokens: it never speaks below WARNING."""
    for name in _SDK_LOGGERS:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


class Endpoint:
    """One bucket, asked with patience. Its ``repr`` and its errors show no credentials."""

    def __init__(self, client: Any, settings: Settings, patience: Patience) -> None:
        self._client = client
        self._common: dict[str, Any] = {"Bucket": settings.bucket}
        if settings.bucket_owner is not None:
            self._common["ExpectedBucketOwner"] = settings.bucket_owner
        self._conditional = True
        self.settings = settings
        self.patience = patience

    def __repr__(self) -> str:
        return f"Endpoint({self.settings.where!r})"

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def ask(
        self, operation: str, what: str, attempts: int | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Send a request of the S3 API and return its answer.

        :param operation: its name as the SDK spells it, ``head_object``.
        :param what: a verb and its object, for messages.
        :param attempts: fewer (or more) than the store's own number of them.
        :raises DriverError: see :func:`drivers.s3.s3errors.translate`.
        """
        method = getattr(self._client, operation)

        def request() -> dict[str, Any]:
            answer: dict[str, Any] = method(**self._common, **parameters)
            return answer

        try:
            return self.patience(f"{what} in {self.settings.where}", request, attempts)
        except OperatorNeeded:
            if operation.startswith("head_"):
                self._explain(what)
            raise

    def create(self, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
        """:meth:`ask` that succeeds only where the key is free. A server that refuses to know such a
        condition is asked without it from then on: callers look first.

        :raises Exists: the key is taken.
        """
        if self._conditional:
            try:
                return self.ask(operation, what, IfNoneMatch="*", **parameters)
            except NotKnown:
                self._conditional = False
        return self.ask(operation, what, **parameters)

    def _explain(self, what: str) -> None:
        """Ask something small that is refused for the same reason: the answer to a HEAD has no room for it.

        :raises DriverError: the reason.
        """
        try:
            self.ask("list_objects_v2", what, 1, Prefix=self.settings.root, MaxKeys=1)
        except Retryable:
            return
