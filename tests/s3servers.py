"""S3 servers for tests: one SeaweedFS a pytest process, started when first asked for, ended with it."""

from __future__ import annotations

import atexit
import functools
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from drivers.s3.client import make_client
from drivers.s3.settings import Settings
from drivers.s3.store import S3Store
from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed

BUCKET = "hsm-tests"
_numbers = itertools.count()


def server() -> Seaweed:
    """The process's server, with the bucket ``BUCKET``."""
    return _started()


@functools.cache
def _started() -> Seaweed:
    folder = Path(tempfile.mkdtemp(prefix="hsm-seaweed-"))
    found = Seaweed(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(found.kill)
    admin(found.url).create_bucket(Bucket=BUCKET)
    return found


@functools.cache
def admin(url: str) -> Any:
    """A client of the tests' own, for looking at what a store does from outside, and for harm."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
    )


def new_prefix() -> str:
    """A prefix that no other test uses."""
    return f"p{next(_numbers)}"


@functools.cache
def client(settings: Settings) -> Any:
    """The driver's own client; making one takes a fifth of a second, so they are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        return make_client(settings)


def open_at(url: str, *, sleep: Callable[[float], None] = lambda _: None, **changes: Any) -> S3Store:
    """A store on ``url`` with small parts, that never really waits between attempts."""
    given: dict[str, Any] = {"bucket": BUCKET, "endpoint_url": url, "threads": 4}
    small = {
        "part_bytes": 5 << 20,
        "single_bytes": 64 << 10,
        "read_bytes": 1 << 20,
        "memory_bytes": 10 << 20,
    }
    settings = Settings(**(given | small | {"addressing": "path"} | changes))
    key = Settings(
        bucket=settings.bucket,
        endpoint_url=url,
        threads=settings.threads,
        addressing=settings.addressing,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
    )
    return S3Store(settings, client(key), random.Random(next(_numbers)), sleep)
