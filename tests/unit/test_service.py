"""A volume that comes and goes: probes, back-off, and what hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import Figure, Health, Notice, Severity, Store
from drivers.errors import NoSpace, Retryable
from drivers.folder import FolderStore
from hsm.clock import ManualClock
from hsm.service import BACK_LAST_SECONDS, PROBE_SECONDS, OutOfService, Service, State
from hsm.servicedstore import ServicedStore


class Moody(FolderStore):
    """Fails as it is told."""

    trouble: Retryable | None = None
    healthy = True

    def capacity(self):  # type: ignore[no-untyped-def]
        if self.trouble is not None:
            raise self.trouble
        return super().capacity()

    def health(self) -> Health:
        return super().health() if self.healthy else Health(False, "Read-only file system")

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self.trouble is not None:
            raise self.trouble
        return super().get(key, offset, length)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def moody(tmp_path: Path) -> Moody:
    return Moody(tmp_path)


def service(clock: ManualClock, opener: Callable[[], Store], *, local: bool = False) -> Service:
    return Service("pool p", clock, opener, local=local)


def test_what_cannot_be_opened_is_tried_again_after_longer_and_longer_pauses(
    clock: ManualClock, moody: Moody
) -> None:
    tries = 0

    def open_it() -> Store:
        nonlocal tries
        tries += 1
        if tries <= 10:
            raise Retryable("connection refused")
        return moody

    found = service(clock, open_it)
    pauses = []
    while found.away:
        found.probe()
        before = clock.monotonic()
        while found.away and not found.due():
            clock.advance(0.5)
        pauses.append(clock.monotonic() - before)
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == BACK_LAST_SECONDS
    assert found.condition.state is State.SERVING
    clock.advance(PROBE_SECONDS - 1)
    assert not found.due()
    clock.advance(1)
    assert found.due()


def test_what_is_away_is_refused_at_once_and_asked_nothing(clock: ManualClock, moody: Moody) -> None:
    found = service(clock, lambda: moody)
    store = ServicedStore(found)
    with pytest.raises(OutOfService, match="not been opened"):
        store.capacity()
    found.probe()
    assert store.capacity().total > 0
    moody.trouble = Retryable("timed out")
    with pytest.raises(Retryable, match="timed out"):
        next(store.get("a"))
    assert found.due(), "it is looked at early"
    found.probe()
    assert found.away
    moody.trouble = None
    with pytest.raises(OutOfService, match="timed out"):
        store.stat("a")


def test_a_volume_without_room_is_no_trouble_of_the_volume(clock: ManualClock, moody: Moody) -> None:
    found = service(clock, lambda: moody)
    found.probe()
    moody.trouble = NoSpace("full")
    with pytest.raises(NoSpace):
        next(ServicedStore(found).get("a"))
    assert not found.due()


def test_one_that_takes_no_writes_can_be_read(clock: ManualClock, moody: Moody) -> None:
    moody.healthy = False
    found = service(clock, lambda: moody)
    assert found.probe().state is State.READING
    assert found.there()
    assert not found.writable
    assert "Read-only" in found.condition.reason
    assert ServicedStore(found).capacity().total > 0


def test_a_probe_that_hangs_says_that_the_storage_does_and_its_end_counts(
    clock: ManualClock, moody: Moody
) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def slow() -> Store:
        begun.set()
        assert go_on.wait(10)
        return moody

    found = service(clock, slow)
    thread = threading.Thread(target=found.probe)
    thread.start()
    assert begun.wait(10)
    assert not found.due(), "one probe at a time"
    assert found.probe() == found.condition, "a second one does not wait for the first"
    found.overdue(5.0)
    assert "not been opened" in found.condition.reason
    clock.advance(6)
    found.overdue(5.0)
    assert "does not answer within 5 s" in found.condition.reason
    go_on.set()
    thread.join()
    assert found.condition.state is State.SERVING


def test_what_changed_is_told_once(clock: ManualClock, moody: Moody) -> None:
    found = service(clock, lambda: moody)
    found.probe()
    news = found.take_news()
    assert news is not None
    assert news.state is State.SERVING
    assert found.take_news() is None
    found.bring_news_again()
    assert found.take_news() == news


def test_a_folder_of_this_machine_is_looked_at_by_who_wants_to_read(clock: ManualClock, moody: Moody) -> None:
    found = service(clock, lambda: moody, local=True)
    found.probe()
    moody.trouble = Retryable("not mounted")
    clock.advance(2)
    assert not found.there()
    moody.trouble = None
    assert not found.there(), "it is believed for a second"
    clock.advance(2)
    assert found.there()


def test_a_driver_with_a_fault_of_its_own_ends_no_probes(clock: ManualClock) -> None:
    def broken() -> Store:
        raise ZeroDivisionError("a fault")

    found = service(clock, broken)
    assert "unexpected" in found.probe().reason
    clock.advance(BACK_LAST_SECONDS)
    assert found.due()


def test_a_receiver_that_nobody_probes_for_opens_its_pool_when_it_is_asked_to_store(
    clock: ManualClock, moody: Moody
) -> None:
    there = False

    def open_it() -> Store:
        if not there:
            raise Retryable("not mounted")
        return moody

    found = Service("pool p", clock, open_it, local=True, alone=True)
    found.probe()
    assert not ServicedStore(found).health().ok
    there = True
    assert not ServicedStore(found).health().ok, "not at every store: there is a pause"
    clock.advance(2)
    assert ServicedStore(found).health().ok


def test_what_a_device_tells_is_kept_and_looked_into(clock: ManualClock, tmp_path: Path) -> None:
    class Array(FolderStore):
        tell: Callable[[Notice], None]
        closed = False

        def watch(self, tell: Callable[[Notice], None]) -> None:
            self.tell = tell

        def figures(self) -> tuple[Figure, ...]:
            return (Figure("paths_up", 1.0, (("port", "host3"),)),)

        def close(self) -> None:
            self.closed = True

    array = Array(tmp_path)
    found = service(clock, lambda: array, local=True)
    found.probe()
    array.tell(Notice(Severity.INFO, "sdb", "path came back"))
    assert found.due(), "for the better or the worse"
    found.probe()
    assert not found.due()
    array.tell(Notice(Severity.ERROR, "sdb", "path lost"))
    assert found.due()
    assert [notice.message for notice in found.notices] == ["path came back", "path lost"]
    assert found.figures()[0].name == "paths_up"
    found.close()
    assert array.closed


def test_a_volume_with_a_path_less_stays_in_service_and_says_so_once(
    clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Degraded(FolderStore):
        says = Health(True)

        def health(self) -> Health:
            return self.says

    store = Degraded(tmp_path)
    found = service(clock, lambda: store, local=True)
    found.probe()
    store.says = Health(True, "1 of 2 paths are up (sdc: host4 is Linkdown)")
    with caplog.at_level(logging.INFO, "hsm.service"):
        for _ in range(3):
            found.probe()
    assert found.condition.state is State.SERVING and found.writable
    assert found.condition.reason == store.says.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    store.says = Health(True)
    found.probe()
    assert found.condition.reason == ""
