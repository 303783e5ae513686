"""The S3 driver behind a proxy that does harm: every fault ends in the right bytes or the right error."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from s3proxy import Fault, Proxy, Request, proxy
from s3servers import BUCKET, admin, new_prefix, open_at, server

from drivers.errors import Corrupt, DriverError, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.s3.store import TRIAL_BYTES, S3Store

LARGE = random.Random(3).randbytes((5 << 20) + 300_000)  # two parts
SMALL = LARGE[:50_000]


@pytest.fixture(scope="module")
def way() -> Iterator[Proxy]:
    with proxy(server().url) as found:
        yield found


@pytest.fixture
def bad(way: Proxy) -> Iterator[Proxy]:
    way.harmless()
    yield way
    way.harmless()


def store_at(way: Proxy, sleeps: list[float] | None = None, **changes: Any) -> S3Store:
    slept = [] if sleeps is None else sleeps
    return open_at(way.url, sleep=slept.append, **({"prefix": new_prefix(), "attempts": 4} | changes))


def put(store: S3Store, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: S3Store, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.get(key, offset, length))


def is_get(request: Request) -> bool:
    return request.method == "GET" and "list-type" not in request.query


def is_write(request: Request) -> bool:
    return request.method in ("PUT", "POST")


PASSING = [
    Fault("answer"),
    Fault("answer", status=500, code="InternalError"),
    Fault("answer", status=429, code="TooManyRequests"),
    Fault("answer", status=400, code="RequestTimeout"),
    Fault("answer", status=502, code=""),
    Fault("reset"),
    Fault("lost"),
    Fault("flip request", at=1234),
]


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind} {fault.code}")
def test_a_put_gets_over_what_passes(bad: Proxy, fault: Fault, data: bytes) -> None:
    store = store_at(bad)
    bad.once(fault, is_write, times=2)
    put(store, "k", data)
    assert read(store, "k") == data
    listed = admin(server().url).list_multipart_uploads(Bucket=BUCKET, Prefix=store._settings.prefix + "/")
    # A begun upload whose id was lost on the way is aborted by its age; nothing else is left.
    assert len(listed.get("Uploads", [])) <= (2 if fault.kind == "lost" else 0)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
@pytest.mark.parametrize("fault", [*PASSING[:2], *PASSING[-3:]], ids=lambda fault: fault.kind + fault.code)
def test_a_put_that_never_gets_through_leaves_nothing_and_says_why(
    bad: Proxy, fault: Fault, data: bytes
) -> None:
    store = store_at(bad)
    bad.choose = lambda request: fault if is_write(request) else None
    if fault.kind == "lost" and data is SMALL:
        put(store, "k", data)  # what arrived has arrived: a look at the object shows whose it is
        assert read(store, "k") == data
        return
    with pytest.raises(Retryable, match="k"):
        put(store, "k", data)
    bad.harmless()
    with pytest.raises(NotFound):
        store.stat("k")
    put(store, "k", data)
    assert read(store, "k") == data


def test_a_put_whose_answer_and_whose_look_are_lost_is_undone_before_the_key_is_used_again(
    bad: Proxy,
) -> None:
    store = store_at(bad)
    seen: list[str] = []

    def choose(request: Request) -> Fault | None:
        seen.append(request.method)
        return Fault("lost") if "PUT" in seen else None

    bad.choose = choose
    with pytest.raises(Retryable):
        put(store, "k", SMALL)
    bad.harmless()
    inside = admin(server().url).list_objects_v2(Bucket=BUCKET, Prefix=store._settings.prefix + "/")
    assert inside["KeyCount"] == 1
    with pytest.raises(NotFound):
        store.stat("k")
    assert list(store.list()) == []
    put(store, "k", LARGE)
    assert read(store, "k") == LARGE


def test_a_list_of_parts_that_is_damaged_on_the_way_is_sent_again(bad: Proxy) -> None:
    store = store_at(bad)
    for at in (5, 60, 200, 330):
        bad.once(
            Fault("flip request", at=at), lambda request: "uploadId" in request.query and not request.is_part
        )
        put(store, f"k{at}", LARGE[: 100_000 + at])
        assert read(store, f"k{at}") == LARGE[: 100_000 + at]


def test_a_server_that_knows_no_conditional_writes_keeps_objects_immutable_all_the_same(bad: Proxy) -> None:
    unknown = Fault("answer", status=501, code="NotImplemented")
    bad.choose = lambda request: unknown if "if-none-match" in request.headers else None
    for data in (SMALL, LARGE):
        store = store_at(bad)
        start = threading.Barrier(3)

        def contend(number: int, store: S3Store = store, data: bytes = data, start: Any = start) -> bool:
            start.wait()
            try:
                put(store, "k", data[number:])
            except Permanent:
                return False
            return True

        with ThreadPoolExecutor(3) as pool:
            won = list(pool.map(contend, range(3)))
        assert won.count(True) == 1
        assert read(store, "k") == data[won.index(True) :]


def test_somebody_elses_object_is_never_taken_for_ones_own(bad: Proxy) -> None:
    store = store_at(bad)
    other = open_at(server().url, prefix=store._settings.prefix)

    def choose(request: Request) -> Fault | None:
        if request.method == "PUT":
            bad.harmless()
            put(other, "k", b"theirs")
        return None

    bad.choose = choose
    with pytest.raises(Permanent, match="already"):
        put(store, "k", SMALL)
    assert read(store, "k") == b"theirs"


@pytest.mark.parametrize("kind", ["cut", "short"])
@pytest.mark.parametrize("at", [0, 1, 70_000, (1 << 20) - 1, 1 << 20])
def test_a_body_that_breaks_off_is_resumed_where_it_had_come_to(bad: Proxy, kind: str, at: int) -> None:
    store = store_at(bad)
    put(store, "k", LARGE)
    bad.seen.clear()
    bad.once(Fault(kind, at=at), is_get, times=3)
    assert read(store, "k") == LARGE
    bad.once(Fault(kind, at=at), is_get, times=3)
    assert read(store, "k", 99, 3 << 20) == LARGE[99 : 99 + (3 << 20)]
    resumed = [each.headers["range"] for each in bad.seen if "range" in each.headers]
    assert len(resumed) > 3


def test_a_body_that_always_breaks_off_ends_in_an_error_and_gives_no_byte_twice(bad: Proxy) -> None:
    store = store_at(bad)
    put(store, "k", LARGE)
    bad.choose = lambda request: Fault("cut", at=1000) if is_get(request) else None
    got = b""
    with pytest.raises(Retryable, match="k"):
        for piece in store.get("k"):
            got += piece
    assert LARGE.startswith(got)


def test_a_body_that_stalls_is_given_up_in_time_and_resumed(bad: Proxy) -> None:
    store = store_at(bad, read_timeout_seconds=0.3)
    put(store, "k", SMALL)
    bad.once(Fault("stall", at=20_000), is_get)
    assert read(store, "k") == SMALL


def test_a_byte_that_was_changed_on_the_way_is_noticed(bad: Proxy) -> None:
    store = store_at(bad)
    put(store, "k", LARGE)
    bad.once(Fault("flip", at=77), is_get)
    with pytest.raises(Corrupt, match="SHA-256"):
        read(store, "k")


def test_a_clock_that_is_wrong_is_said_in_words_that_help(bad: Proxy) -> None:
    store = store_at(bad)
    bad.choose = lambda _: Fault("answer", status=403, code="RequestTimeTooSkewed")
    for touch in (lambda: put(store, "k", SMALL), lambda: read(store, "k"), lambda: list(store.list())):
        with pytest.raises(OperatorNeeded, match=r"clock.*15 minutes.*says .*GMT.*chronyc"):
            touch()


def test_throttling_slows_the_whole_store_down_and_passes_again(bad: Proxy) -> None:
    sleeps: list[float] = []
    store = store_at(bad, sleeps, attempts=8)
    put(store, "k", SMALL)
    bad.once(Fault("answer"), times=6)
    read(store, "k")
    assert len(sleeps) > 6  # the pauses after each refusal, and holding back before the next request
    assert max(sleeps) <= 20.0
    while store._endpoint.patience._pressure:
        store.stat("k")
    sleeps.clear()
    store.stat("k")
    assert sleeps == []


@pytest.mark.parametrize("left", [0, 100_000])
def test_a_full_server_that_answers_500_takes_no_writes_until_it_takes_as_much_as_it_refused(
    bad: Proxy, left: int
) -> None:
    store = store_at(bad)
    put(store, "before", SMALL)

    def full(request: Request) -> Fault | None:
        refused = request.method == "PUT" and int(request.headers.get("content-length", 0)) > left
        return Fault("answer", status=500, code="InternalError") if refused else None

    bad.choose = full
    with pytest.raises(Retryable):
        put(store, "k", LARGE)
    health = store.health()
    assert not health.ok and "InternalError" in health.message
    assert store.capacity().free > 0, "it answers"
    assert read(store, "before") == SMALL
    bad.harmless()
    assert store.health().ok
    bad.seen.clear()
    assert store.health().ok
    sent = [int(each.headers.get("content-length", 0)) for each in bad.seen if each.is_part]
    assert sent == [TRIAL_BYTES], "only the first look after a failed put is a large one"
    assert (
        not admin(server().url)
        .list_multipart_uploads(Bucket=BUCKET, Prefix=store._settings.prefix)
        .get("Uploads")
    )


def test_looks_are_not_tried_again_so_that_they_answer_soon(bad: Proxy) -> None:
    store = store_at(bad)
    bad.seen.clear()
    bad.choose = lambda _: Fault("answer", status=500, code="InternalError")
    assert "InternalError" in store.health().message or "500" in store.health().message
    with pytest.raises(Retryable):
        store.capacity()
    assert len(bad.seen) <= 3


faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        Fault,
        kind=st.sampled_from(["reset", "lost", "cut", "short", "flip request"]),
        at=st.integers(0, 2 << 20),
    ),
    st.builds(Fault, kind=st.just("answer"), status=st.just(503)),
    st.builds(Fault, kind=st.just("answer"), status=st.just(500), code=st.just("InternalError")),
)


@settings(max_examples=int(os.environ.get("HSM_S3_EXAMPLES", "10")), deadline=None, database=None)
@given(
    script=st.lists(faults, max_size=40),
    sizes=st.lists(st.sampled_from([0, 1, 60_000, 200_000, 1_500_000]), min_size=1, max_size=3),
)
def test_whatever_happens_on_the_way_a_key_is_absent_or_holds_what_was_put(
    way: Proxy, script: list[Fault | None], sizes: list[int]
) -> None:
    way.harmless()
    store = store_at(way, attempts=3)
    want: dict[str, bytes | None] = {}
    first = len(way.seen)

    def choose(request: Request) -> Fault | None:
        at = request.number - first
        return script[at] if 0 <= at < len(script) else None

    way.choose = choose
    try:
        for number, size in enumerate(sizes):
            key, data = f"k{number}", LARGE[number : number + size]
            try:
                put(store, key, data)
                want[key] = data
            except Retryable:
                want[key] = None
            if want[key] is not None:
                try:
                    assert read(store, key) == data
                except DriverError as error:
                    assert isinstance(error, Retryable)
    finally:
        way.harmless()
    for key, wanted in want.items():
        if wanted is None:
            with pytest.raises(NotFound):
                store.stat(key)
        else:
            assert read(store, key) == wanted
    assert {stat.key for stat in store.list()} == {key for key, data in want.items() if data is not None}
