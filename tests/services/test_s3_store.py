"""The S3 driver on a real server: parts, names, owners, versions, locks, quotas, and a server that dies."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3servers import BUCKET, admin, new_prefix, open_at, server

from drivers import registry
from drivers.base import Capacity, Labelled, Recallable, StoreLabel
from drivers.errors import (
    Corrupt,
    DriverError,
    NoSpace,
    NotFound,
    OperatorNeeded,
    Permanent,
    Retryable,
)
from drivers.s3.owner import LABEL
from drivers.s3.store import S3Store
from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed

LARGE = random.Random(2).randbytes(12 << 20)  # three parts of 5 MiB, the last one not full
MINE = StoreLabel("cloud", "5f0c0a3e-0000-4000-8000-000000000003")


def put(store: S3Store, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: S3Store, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.get(key, offset, length))


def owned(**changes: Any) -> S3Store:
    """A store on a fresh prefix that is marked as its own."""
    given = {"prefix": new_prefix()} | changes
    open_at(server().url, **given).write_label(MINE)
    return open_at(server().url, **given, expect_uuid=MINE.uuid)


def prefix_of(store: S3Store) -> str:
    return store._settings.prefix


def uploads(prefix: str) -> list[Any]:
    listed = admin(server().url).list_multipart_uploads(Bucket=BUCKET, Prefix=f"{prefix}/")
    found: list[Any] = listed.get("Uploads", [])
    return found


def test_a_large_object_goes_up_in_parts_with_digests_and_comes_back_whole_or_by_range() -> None:
    store = owned(threads=4)
    put(store, "a/large", LARGE)
    head = admin(server().url).head_object(
        Bucket=BUCKET, Key=f"{prefix_of(store)}/a/large", ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"].endswith("-3")
    assert head["Metadata"]["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert read(store, "a/large") == LARGE
    for offset, length in [(0, 1), (5 << 20, 5 << 20), ((5 << 20) - 1, 2), (len(LARGE) - 3, 3), (7, 9 << 20)]:
        assert read(store, "a/large", offset, length) == LARGE[offset : offset + length]
    assert uploads(prefix_of(store)) == []


def test_a_failed_put_of_many_parts_leaves_no_parts_behind() -> None:
    store = owned()

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 11 << 20:
                raise Retryable("the other drive is busy")
            return super().read(size)

    with pytest.raises(Retryable, match="drive is busy"):
        store.put("k", Breaking(LARGE), len(LARGE), None)
    with pytest.raises(Corrupt):
        store.put("k", io.BytesIO(LARGE), len(LARGE), bytes(32))
    assert uploads(prefix_of(store)) == []
    assert list(store.list()) == []


def test_memory_for_parts_is_given_back_after_whatever_end() -> None:
    store = owned(memory_bytes=20 << 20)
    put(store, "k", LARGE)
    with pytest.raises(Corrupt):
        store.put("l", io.BytesIO(LARGE), len(LARGE), bytes(32))
    pieces = store.get("k")
    next(pieces)
    del pieces
    read(store, "k")
    deadline = time.monotonic() + 10
    while store._crew.free != 20 << 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert store._crew.free == 20 << 20


def test_uploads_that_dead_processes_left_are_aborted_by_age_and_only_ones_own() -> None:
    client, prefix, beside = admin(server().url), new_prefix(), new_prefix()
    for name in (f"{prefix}/k", f"{prefix}/l", f"{beside}/k"):
        client.create_multipart_upload(Bucket=BUCKET, Key=name)
    open_at(server().url, prefix=prefix, stale_upload_seconds=3600.0)
    assert len(uploads(prefix)) == 2
    settings = open_at(server().url, prefix=prefix)._settings
    later = datetime.now(UTC) + timedelta(days=2)
    S3Store(settings, client, random.Random(1), now=lambda: later)
    assert uploads(prefix) == []
    assert len(uploads(beside)) == 1


def test_a_list_has_every_object_over_several_pages_in_order() -> None:
    store = owned()
    client, prefix = admin(server().url), prefix_of(store)
    for number in range(25):
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{number:02}", Body=b"x" * number)
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/not a key!", Body=b"")
    inner = store._endpoint._client
    pages = []

    class Small:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def list_objects_v2(self, **asked: Any) -> Any:
            pages.append(asked)
            return inner.list_objects_v2(**asked, MaxKeys=10)

    store._endpoint._client = Small()
    assert [(stat.key, stat.size) for stat in store.list()] == [(f"{n:02}", n) for n in range(25)]
    assert len(pages) >= 3


def test_a_prefix_of_another_pool_is_refused_for_everything() -> None:
    store = owned()
    put(store, "k", b"theirs")
    prefix = prefix_of(store)
    with pytest.raises(OperatorNeeded, match=r"is pool 'cloud'.*expected"):
        open_at(server().url, prefix=prefix, expect_uuid="5f0c0a3e-0000-4000-8000-00000000dead")
    stranger = open_at(server().url, prefix=prefix)
    assert isinstance(stranger, Labelled)
    with pytest.raises(Permanent, match="belongs to pool 'cloud'"):
        stranger.write_label(StoreLabel("vault", "another"))
    inside = open_at(server().url, prefix=f"{prefix}/deeper")
    with pytest.raises(Permanent, match="lies inside pool 'cloud'"):
        inside.write_label(StoreLabel("vault", "another"))
    strewn = open_at(server().url, prefix=new_prefix())
    put(strewn, "k", b"somebody's")
    with pytest.raises(Permanent, match=r"holds .* but no \.hsm-pool"):
        strewn.write_label(StoreLabel("vault", "another"))


def test_a_bucket_that_changes_hands_under_an_open_store_is_noticed_before_the_next_write() -> None:
    store = owned()
    put(store, "k", b"abc")
    label = f"{prefix_of(store)}/{LABEL}"
    admin(server().url).put_object(Bucket=BUCKET, Key=label, Body=b'{"pool": "vault", "uuid": "x"}')
    store._clock = lambda: 1e9
    for touch in (lambda: put(store, "l", b""), lambda: store.delete("k"), lambda: store.stat("absent")):
        store._labelled_at = 0.0
        with pytest.raises(OperatorNeeded, match="vault"):
            touch()
    with pytest.raises(OperatorNeeded):
        store.capacity()
    assert not store.health().ok
    admin(server().url).put_object(Bucket=BUCKET, Key=label, Body=b"<html>")
    with pytest.raises(Corrupt):
        store.read_label()


def test_a_label_is_written_once_and_is_neither_an_object_nor_a_key() -> None:
    store = owned()
    store.write_label(MINE)
    assert store.read_label() == MINE
    assert list(store.list()) == []
    for key in (LABEL, f"{LABEL}/x", ".HSM-pool"):
        with pytest.raises(Permanent, match="reserved"):
            put(store, key, b"")


def test_a_bucket_that_is_not_there_is_a_matter_for_a_person_and_not_an_empty_pool() -> None:
    with pytest.raises(OperatorNeeded, match="no-such-bucket does not exist"):
        open_at(server().url, bucket="no-such-bucket")
    store = owned()
    object.__setattr__(store._settings, "bucket", "no-such-bucket")
    store._endpoint._common["Bucket"] = "no-such-bucket"
    for touch in (lambda: store.stat("k"), lambda: read(store, "k"), lambda: list(store.list())):
        with pytest.raises(OperatorNeeded):
            touch()


def test_a_reserve_of_the_quota_is_never_filled() -> None:
    store = owned(quota_bytes=1_000_000, reserve_bytes=400_000)
    free = store.capacity().free
    assert 599_000 < free <= 600_000
    with pytest.raises(NoSpace, match="quota"):
        put(store, "k", bytes(free + 1))
    put(store, "k", bytes(free))
    assert store.capacity() == Capacity(1_000_000, 0)


def test_a_store_that_is_closed_runs_no_threads_any_more() -> None:
    store = owned()
    put(store, "k", LARGE)
    assert read(store, "k") == LARGE
    mine = set(store._crew._pool._threads)
    assert any(each.is_alive() for each in mine)
    store.close()
    store.close()
    for each in mine:
        each.join(5)
        assert not each.is_alive()


def test_a_quota_is_kept_by_puts_side_by_side_and_deletes_give_room_back() -> None:
    store = owned(quota_bytes=1_000_000)
    results = []

    def fill(number: int) -> None:
        try:
            put(store, f"k{number}", bytes(300_000))
        except NoSpace as error:
            results.append(str(error))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert "quota" in results[0]
    assert store.capacity().free == 100_000
    store.delete("k0")
    store.delete("k1")
    store.delete("k2")
    store.delete("k3")
    reopened = open_at(server().url, prefix=prefix_of(store), quota_bytes=1_000_000)
    assert store.capacity() == reopened.capacity()
    assert store.capacity().free >= 400_000


@pytest.fixture(scope="module")
def locking_bucket() -> str:
    admin(server().url).create_bucket(Bucket="hsm-locking", ObjectLockEnabledForBucket=True)
    return "hsm-locking"


def test_a_versioned_bucket_keeps_what_is_deleted_unless_told_otherwise(locking_bucket: str) -> None:
    keeps = owned(bucket=locking_bucket)
    assert keeps.traits.append_only
    client = admin(server().url)

    def versions(store: S3Store) -> int:
        listed = client.list_object_versions(Bucket=locking_bucket, Prefix=f"{prefix_of(store)}/k")
        return len(listed.get("Versions", [])) + len(listed.get("DeleteMarkers", []))

    put(keeps, "k", b"abc")
    keeps.delete("k")
    with pytest.raises(NotFound):
        keeps.stat("k")
    assert versions(keeps) == 2
    put(keeps, "k", b"new")
    assert read(keeps, "k") == b"new"

    removes = owned(bucket=locking_bucket, delete_versions=True)
    assert not removes.traits.append_only
    put(removes, "k", b"abc")
    put(removes, "k2", b"stays")
    removes.delete("k")
    assert versions(removes) == 1  # k2
    assert read(removes, "k2") == b"stays"


def test_what_is_locked_says_until_when_and_is_not_deleted(locking_bucket: str) -> None:
    store = owned(
        bucket=locking_bucket,
        delete_versions=True,
        lock_mode="GOVERNANCE",
        retention_days=3,
        legal_hold=False,
    )
    for size in (10, len(LARGE)):
        key = f"k{size}"
        put(store, key, LARGE[:size])
        head = admin(server().url).head_object(Bucket=locking_bucket, Key=f"{prefix_of(store)}/{key}")
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert head["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=2)
        with pytest.raises(Permanent, match=r"locked until \d{4}-"):
            store.delete(key)
        assert read(store, key) == LARGE[:size]
    held = owned(bucket=locking_bucket, delete_versions=True, legal_hold=True)
    put(held, "k", b"abc")
    with pytest.raises(Permanent, match="legal hold"):
        held.delete("k")


def test_a_storage_class_and_metadata_are_what_the_pool_says() -> None:
    store = owned(storage_class="STANDARD_IA")
    put(store, "k", b"abc")
    head = admin(server().url).head_object(Bucket=BUCKET, Key=f"{prefix_of(store)}/k")
    assert head["StorageClass"] == "STANDARD_IA"
    assert not store.traits.cold
    assert isinstance(store, Recallable)
    assert store.recall_state("k").warmth == "readable"


def test_an_object_whose_bytes_or_digest_were_exchanged_is_corrupt() -> None:
    store = owned()
    put(store, "k", b"what was put")
    client, name = admin(server().url), f"{prefix_of(store)}/k"
    digest = hashlib.sha256(b"what was put").hexdigest()
    client.put_object(Bucket=BUCKET, Key=name, Body=b"what was PUT", Metadata={"sha256": digest})
    with pytest.raises(Corrupt, match="SHA-256"):
        read(store, "k")


def test_an_object_that_is_exchanged_while_it_is_read_is_corrupt() -> None:
    store = owned(memory_bytes=5 << 20, read_bytes=5 << 20)
    put(store, "k", LARGE)
    pieces = store.get("k")
    next(pieces)
    store._crew.take(store._crew.free)  # nothing more is read ahead
    name = f"{prefix_of(store)}/k"
    admin(server().url).put_object(Bucket=BUCKET, Key=name, Body=LARGE[::-1])
    with pytest.raises(Corrupt, match=r"changed|SHA-256"):
        for _ in pieces:
            pass


def test_a_health_look_leaves_nothing_behind() -> None:
    store = owned()
    assert store.health().ok
    assert uploads(prefix_of(store)) == []
    assert admin(server().url).list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix_of(store)}/")["KeyCount"] == 1


def test_wrong_credentials_are_a_matter_for_a_person_and_no_secret_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    options = {"bucket": BUCKET, "endpoint_url": server().url, "prefix": new_prefix(), "addressing": "path"}
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name, key, secret in [
        ("another secret", ACCESS_KEY, "WRONGSECRETWRONGSECRET"),
        ("nobody", "AKIANOBODY", SECRET_KEY),
    ]:
        file = tmp_path / name
        file.write_text(f"[hsm]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        file.chmod(0o644)
        with pytest.raises(OperatorNeeded, match="chmod 600"):
            registry.open_store("s3", options | {"profile": "hsm", "credentials_file": str(file)})
        file.chmod(0o600)
        with pytest.raises(OperatorNeeded) as raised:
            registry.open_store("s3", options | {"profile": "hsm", "credentials_file": str(file)})
        texts.append(str(raised.value))
    good = tmp_path / "good"
    good.write_text(f"[hsm]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    good.chmod(0o600)
    store: Any = registry.open_store("s3", options | {"profile": "hsm", "credentials_file": str(good)})
    put(store, "k", b"abc")
    assert read(store, "k") == b"abc"
    texts += [repr(store), repr(store._settings), repr(store._endpoint), caplog.text]
    with pytest.raises(OperatorNeeded, match="credentials"):
        registry.open_store("s3", options | {"profile": "nobody", "credentials_file": str(good)})
    for text in texts:
        assert "WRONGSECRET" not in text
        assert SECRET_KEY not in text
        assert "Signature=" not in text
        assert ACCESS_KEY not in text


@pytest.fixture
def own_server(tmp_path: Path) -> Any:
    found = Seaweed(tmp_path / "weed")
    admin(found.url).create_bucket(Bucket=BUCKET)
    yield found
    found.kill()


@pytest.mark.campaign
def test_a_server_that_dies_in_mid_put_and_mid_get_and_comes_back_is_only_a_delay(
    own_server: Seaweed,
) -> None:
    store = open_at(own_server.url, attempts=2, connect_timeout_seconds=2.0, read_timeout_seconds=5.0)

    class Killing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 9 << 20:
                own_server.kill()
            return super().read(size)

    with pytest.raises(Retryable, match=r"reached|broke off|connection"):
        store.put("k", Killing(LARGE), len(LARGE), None)
    with pytest.raises(Retryable):
        store.stat("k")
    assert not store.health().ok
    own_server.start()
    _until_writable(store)
    with pytest.raises(NotFound):
        store.stat("k")
    put(store, "k", LARGE)

    pieces = store.get("k")
    got = next(pieces)
    own_server.kill()
    with pytest.raises(DriverError) as raised:
        for piece in pieces:
            got += piece
    assert isinstance(raised.value, Retryable)
    assert LARGE.startswith(got)
    own_server.start()
    _until_writable(store)
    assert read(store, "k") == LARGE


def _until_writable(store: S3Store) -> None:
    """A server of several processes answers before all of them do."""
    end = time.monotonic() + 30
    while True:
        try:
            put(store, "ready", b"yes")
            store.delete("ready")
            return
        except Retryable:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
