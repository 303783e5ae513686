"""Cold classes against a moto server: what is put can be read back, then goes cold, and is asked for."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3proxy import Fault, Proxy, Request, proxy
from s3servers import new_prefix, open_at

from drivers.base import Recallable, Warmth
from drivers.errors import NotFound, NotReadableNow, Permanent, Retryable
from drivers.s3 import cold
from drivers.s3.store import S3Store
from drivers.wrappers import RetryingStore, recallable

BUCKET = "cold-pool"
DATA = random.Random(4).randbytes(300_000)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    look(url).create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


def look(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture
def way(moto: str) -> Iterator[Proxy]:
    with proxy(moto) as found:
        yield found


def cold_store(url: str, **changes: Any) -> S3Store:
    given = {"bucket": BUCKET, "prefix": new_prefix(), "storage_class": "DEEP_ARCHIVE", "attempts": 2}
    return open_at(url, **(given | changes))


def put(store: S3Store, key: str, data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: S3Store, key: str) -> bytes:
    return b"".join(store.get(key))


def is_restore(request: Request) -> bool:
    return "restore" in request.query


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_copy_is_read_back_before_it_goes_cold_and_recalled_afterwards(
    moto: str, storage_class: str
) -> None:
    store = cold_store(moto, storage_class=storage_class)
    assert store.traits.cold
    put(store, "k")
    assert read(store, "k") == DATA
    assert store.recall_state("k").warmth is Warmth.READABLE

    store.make_cold("k")
    name = f"{store._settings.prefix}/k"
    head = look(moto).head_object(Bucket=BUCKET, Key=name)
    assert head["StorageClass"] == storage_class
    assert head["Metadata"]["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert store.recall_state("k").warmth is Warmth.COLD
    with pytest.raises(NotReadableNow):
        read(store, "k")
    store.make_cold("k")

    before = datetime.now(UTC)
    state = store.request_recall("k")
    while state.warmth is Warmth.RECALLING:
        assert state.ask_again_seconds > 0
        state = store.recall_state("k")
    assert state.warmth is Warmth.READABLE
    assert state.until is not None
    assert 6 <= (state.until - before).total_seconds() / 86400 <= 8
    assert read(store, "k") == DATA
    assert store.request_recall("k").warmth is Warmth.READABLE


def test_what_is_on_its_way_is_not_asked_for_twice_and_not_given(way: Proxy) -> None:
    store = cold_store(way.url, restore_tier="Bulk")
    put(store, "k")
    store.make_cold("k")

    def choose(request: Request) -> Fault | None:
        if request.method == "HEAD":
            return Fault("header", code="x-amz-restore", value='ongoing-request="true"')
        if request.method == "GET":
            return Fault("answer", status=403, code="InvalidObjectState")
        return None

    way.choose = choose
    way.seen.clear()
    for _ in range(3):
        state = store.request_recall("k")
        assert (state.warmth, state.until) == (Warmth.RECALLING, None)
        assert state.ask_again_seconds == 1800.0
        with pytest.raises(NotReadableNow):
            read(store, "k")
    assert not any(is_restore(request) for request in way.seen)


@pytest.mark.parametrize(
    ("status", "code"), [(409, "RestoreAlreadyInProgress"), (403, "ObjectAlreadyInActiveTierError")]
)
def test_somebody_elses_restore_is_as_good_as_ones_own(way: Proxy, status: int, code: str) -> None:
    store = cold_store(way.url)
    put(store, "k")
    store.make_cold("k")
    way.once(Fault("answer", status=status, code=code), is_restore)
    assert store.request_recall("k").warmth is Warmth.RECALLING


def test_a_restore_that_is_refused_or_throttled_is_an_error_and_not_under_way(way: Proxy) -> None:
    store = cold_store(way.url)
    put(store, "k")
    store.make_cold("k")
    way.choose = lambda request: Fault("answer") if is_restore(request) else None
    with pytest.raises(Retryable, match="fewer requests"):
        store.request_recall("k")
    refused = Fault("answer", status=503, code="GlacierExpeditedRetrievalNotAvailable")
    way.choose = lambda request: refused if is_restore(request) else None
    with pytest.raises(Retryable):
        store.request_recall("k")
    way.harmless()
    assert store.recall_state("k").warmth is Warmth.COLD


def test_a_restored_copy_that_has_expired_is_cold_again(way: Proxy) -> None:
    store = cold_store(way.url)
    put(store, "k")
    store.make_cold("k")
    text = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"'
    way.choose = lambda request: (
        Fault("header", code="x-amz-restore", value=text) if request.method == "HEAD" else None
    )
    assert store.recall_state("k").warmth is Warmth.COLD


def test_what_is_absent_is_not_cold(moto: str) -> None:
    store = cold_store(moto)
    for ask in (store.request_recall, store.recall_state, store.make_cold):
        with pytest.raises(NotFound):
            ask("absent")
    with pytest.raises(Permanent):
        store.request_recall("../k")


def test_a_large_object_goes_cold_part_by_part(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "COPY_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(cold, "COPY_PART_BYTES", 5 << 20)
    store = cold_store(moto)
    data = DATA * 40
    put(store, "k", data)
    store.make_cold("k")
    assert store.recall_state("k").warmth is Warmth.COLD
    store.request_recall("k")
    assert read(store, "k") == data
    uploads = look(moto).list_multipart_uploads(Bucket=BUCKET, Prefix=store._settings.prefix + "/")
    assert "Uploads" not in uploads


def test_a_warm_pool_leaves_its_objects_where_they_are_and_wrappers_do_not_hide_it(moto: str) -> None:
    store = cold_store(moto, storage_class="STANDARD_IA")
    put(store, "k")
    store.make_cold("k")
    assert read(store, "k") == DATA
    assert recallable(RetryingStore(store, 3, random.Random(1), lambda _: None)) is store
    assert isinstance(store, Recallable)


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"encryption": "AES256"}, {"ServerSideEncryption": "AES256"}),
        (
            {"encryption": "aws:kms", "kms_key_id": "a-key"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key"},
        ),
    ],
)
def test_what_is_put_and_what_goes_cold_is_encrypted_as_the_pool_says(
    moto: str, options: dict[str, str], headers: dict[str, str]
) -> None:
    store = cold_store(moto, storage_class="GLACIER", **options)
    for key, data in (("small", b"abc"), ("parts", DATA)):
        put(store, key, data)
        for _ in range(2):
            head = look(moto).head_object(Bucket=BUCKET, Key=f"{store._settings.prefix}/{key}")
            assert headers.items() <= head.items()
            store.make_cold(key)
