"""Group commit attacked: on both databases, with faults at every step, with equal UIDs at once."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from drivers.folder import FolderStore
from hsm import layout
from hsm.catalog import batch, chaincheck, ingest, journal
from hsm.catalog.batch import InDoubt, Registrar
from hsm.catalog.commit import GroupCommit, Ticket
from hsm.catalog.engine import Catalog
from hsm.catalog.ingest import Received
from hsm.catalog.tables import Instance, Series, Study
from hsm.clock import ManualClock
from hsm.errors import BadInput, Conflict, DriverError, HsmError, NoSpace, Permanent, Retryable
from hsm.ingest import Ingest, SameUidRule, StoreOutcome, incoming
from hsm.ingest import room as rooms
from hsm.ingest.incoming import Incoming, Slots
from hsm.model import Header, Layout, Tier
from hsm.part10 import file_head
from hsm.pools import DiskPool

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def header(uid: str, study: str = "1.2.3", series: str = "", **changes: Any) -> Header:
    values: dict[str, Any] = dict.fromkeys(Header.__slots__, "")
    values |= {"series_number": None, "instance_number": 1, "patient_id": "4711", "modality": "CT"}
    values |= {"study_uid": study, "series_uid": series or f"{study}.1", "sop_instance_uid": uid}
    return Header(**(values | {"sop_class_uid": CT} | changes))


class Place:
    """A pool and an Ingest on it."""

    def __init__(
        self, catalog: Catalog, root: Path, rule: SameUidRule = "keep both", reserve: int = 0
    ) -> None:
        root.mkdir(exist_ok=True)
        self.catalog, self.root = catalog, root
        self.pool = DiskPool("online", Tier.ONLINE, Layout.FILES, root, FolderStore(root, reserve), 1)
        self.ingest = Ingest(catalog, self.pool, rule)

    def store(self, uid: str, content: bytes = b"content", **changes: Any) -> StoreOutcome:
        return self.ingest.store(header(uid, **changes), EXPLICIT, content, "CT1")

    def at_once(self, jobs: Sequence[Callable[[], StoreOutcome]]) -> list[StoreOutcome | Exception]:
        """Run all jobs so that they meet in one batch."""
        gate = Gate(self.ingest, len(jobs))
        return gate.run(jobs)

    def rows(self) -> dict[tuple[str, int], tuple[int, bytes, str]]:
        """(UID, version) -> size, digest, key of every catalogued instance."""
        query = (
            select(Instance.uid, Instance.version, Instance.size, Instance.digest, Study.uid, Series.uid)
            .join(Series, Series.pk == Instance.series_pk)
            .join(Study, Study.pk == Series.study_pk)
        )
        with self.catalog.read() as session:
            return {
                (uid, version): (size, digest, layout.instance_path(study, series, uid, version))
                for uid, version, size, digest, study, series in session.execute(query)
            }

    def files(self) -> dict[str, bytes]:
        """Key -> digest of every file under a final name."""
        found = self.root.glob("studies/**/*.dcm")
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).digest() for path in found
        }

    def check(self, acknowledged: set[str]) -> None:
        """Rows and files tell the same, everything acknowledged is among them, and counters are right."""
        rows, files = self.rows(), self.files()
        for size, digest, key in rows.values():
            assert files[key] == digest
            assert (self.root / key).stat().st_size == size
        assert acknowledged <= {uid for uid, _ in rows}
        with self.catalog.read() as session:
            for study, count, size, unsealed in session.execute(
                select(Study.pk, Study.n_instances, Study.n_bytes, Study.unsealed)
            ):
                held = session.execute(
                    select(func.count(), func.coalesce(func.sum(Instance.size), 0))
                    .join(Series, Series.pk == Instance.series_pk)
                    .where(Series.study_pk == study)
                ).one()
                first = (
                    select(func.count()).select_from(Instance).join(Series, Series.pk == Instance.series_pk)
                )
                firsts = session.scalar(first.where(Series.study_pk == study, Instance.version == 0))
                assert (count, size, unsealed) == (firsts, held[1], held[0])
            assert not list(chaincheck.verify(session))


class Gate:
    """Holds the first batch back until all have arrived, so that the others are one batch."""

    def __init__(self, target: Ingest, expected: int) -> None:
        self._group = target._group
        self._expected = expected
        self._act = self._group._act

    def run(self, jobs: Sequence[Callable[[], StoreOutcome]]) -> list[StoreOutcome | Exception]:
        results: list[StoreOutcome | Exception] = [RuntimeError("did not end")] * len(jobs)
        held, first = threading.Event(), threading.Event()

        def act(tickets: Sequence[Ticket[Any]]) -> None:
            if not first.is_set():
                first.set()
                assert held.wait(10)
                # All have queued behind the leader: take them along, in one batch.
                with self._group._lock:
                    tickets.extend(self._group._queue)  # type: ignore[attr-defined]
                    self._group._queue.clear()
            self._act(tickets)

        def run(number: int) -> None:
            try:
                results[number] = jobs[number]()
            except (HsmError, DriverError) as error:
                results[number] = error

        self._group._act = act
        try:
            threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
            for number, thread in enumerate(threads):
                thread.start()
                while (number and len(self._group._queue) < number) or (not number and not first.is_set()):
                    thread.join(0.001)
            held.set()
            for thread in threads:
                thread.join(10)
        finally:
            self._group._act = self._act
        return results


@pytest.fixture
def place(catalog: Catalog, tmp_path: Path) -> Place:
    return Place(catalog, tmp_path / "online")


@contextlib.contextmanager
def commits(catalog: Catalog) -> Iterator[list[int]]:
    """Counts the commits meanwhile."""
    count = [0]

    def note(_: Any) -> None:
        count[0] += 1

    event.listen(catalog.engine, "commit", note)
    yield count
    event.remove(catalog.engine, "commit", note)


def test_instances_that_come_at_once_are_one_transaction(place: Place) -> None:
    place.store("1.2.0")
    with commits(place.catalog) as count:
        jobs = [lambda n=n: place.store(f"1.2.{n}", study=f"1.2.3.{n % 3}") for n in range(1, 9)]
        assert place.at_once(jobs) == [StoreOutcome.STORED] * 8
    assert count == [1]
    place.check({f"1.2.{n}" for n in range(9)})


def test_the_same_bytes_twice_in_one_batch_are_kept_once(place: Place) -> None:
    outcomes = place.at_once([lambda: place.store("1.2.1")] * 3)
    assert outcomes == [StoreOutcome.STORED, StoreOutcome.DUPLICATE, StoreOutcome.DUPLICATE]
    place.check({"1.2.1"})
    assert len(place.files()) == 1


@pytest.mark.parametrize(
    ("rule", "second", "versions"),
    [
        ("reject", Conflict, [0]),
        ("keep first", StoreOutcome.KEPT_FIRST, [0]),
        ("keep both", StoreOutcome.KEPT_BOTH, [0, 1]),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_other_bytes_under_one_uid_follow_the_rule_in_one_batch_and_in_two(
    catalog: Catalog, tmp_path: Path, rule: SameUidRule, second: Any, versions: list[int], together: bool
) -> None:
    place = Place(catalog, tmp_path / "online", rule)
    jobs = [lambda: place.store("1.2.1", b"one"), lambda: place.store("1.2.1", b"two")]
    outcomes = place.at_once(jobs) if together else [place.at_once([job])[0] for job in jobs]
    assert outcomes[0] is StoreOutcome.STORED
    assert outcomes[1] is second or (isinstance(outcomes[1], Conflict) and second is Conflict)
    assert sorted(version for _, version in place.rows()) == versions
    place.check({"1.2.1"})
    with catalog.read() as session:
        told = [entry.verb for entry in journal.history(session, "1.2.3")]
    assert told == [
        "received",
        f"same uid {rule if rule != 'reject' else 'rejected'}".replace("keep", "kept"),
    ]


def test_one_bad_instance_fails_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL refuses a NUL in text; SQLite is made to refuse a size."""
    original = batch.ingest.instance_values

    def spoil(received: Received, keys: Any) -> dict[str, Any]:
        values = original(received, keys)
        return values | ({"series_pk": 10**9} if received.header.sop_instance_uid == "1.2.13" else {})

    monkeypatch.setattr(ingest, "instance_values", spoil)
    jobs = [lambda n=n: place.store(f"1.2.{n}") for n in range(10, 16)]
    outcomes = place.at_once(jobs)
    assert [type(each) for each in outcomes].count(Permanent) == 1
    assert isinstance(outcomes[3], Permanent)
    assert outcomes[:3] + outcomes[4:] == [StoreOutcome.STORED] * 5
    place.check({f"1.2.{n}" for n in (10, 11, 12, 14, 15)})
    assert len(place.files()) == 5, "the name of what was refused is taken back"


Fault = Callable[[pytest.MonkeyPatch, Callable[[], None]], None]


def wrap(target: Any, name: str) -> Fault:
    """A fault before ``target.name`` does anything."""

    def install(monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None]) -> None:
        original = getattr(target, name)

        def struck(*args: Any, **kwargs: Any) -> Any:
            strike()
            return original(*args, **kwargs)

        monkeypatch.setattr(target, name, struck)

    return install


STEPS: dict[str, Fault] = {
    "create": wrap(Slots, "take"),
    "write": wrap(Incoming, "write"),
    "flush": wrap(os, "fdatasync"),
    "link": wrap(os, "link"),
    "directory flush": wrap(os, "fsync"),
    "look-up": wrap(Registrar, "known"),
    "register": wrap(Registrar, "register"),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_at_any_step_acknowledges_nothing_that_is_not_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    monkeypatch.setattr(incoming, "AHEAD_MAX", 1)  # a name to flush for each
    dice = random.Random(number)
    lock, armed = threading.Lock(), [True]

    def strike() -> None:
        with lock:
            if armed[0] and dice.random() < 0.4:
                raise OSError(number, os.strerror(number))

    STEPS[step](monkeypatch, strike)
    results: dict[str, StoreOutcome | Exception] = {}

    def send(first: int) -> None:
        for n in range(6):
            uid = f"1.2.{first}.{n}"
            try:
                results[uid] = place.store(uid, study=f"1.2.3.{first}", content=uid.encode() * 50)
            except (HsmError, DriverError, OSError) as error:
                results[uid] = error

    threads = [threading.Thread(target=send, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    armed[0] = False
    failed = {uid for uid, result in results.items() if isinstance(result, Exception)}
    assert failed, "no fault struck"
    if step in ("create", "write", "flush", "link", "directory flush"):
        wanted = NoSpace if number == errno.ENOSPC else Retryable
        assert {type(results[uid]) for uid in failed} == {wanted}
    place.check(set(results) - failed)
    assert set(place.files()) == {key for _, _, key in place.rows().values()}, "a name was given in vain"
    place.ingest.close()
    assert not list((place.root / ".incoming").glob("*.part"))
    # What was not acknowledged is sent again and is then there once.
    for uid in failed:
        place.store(uid, study=f"1.2.3.{uid.split('.')[2]}", content=uid.encode() * 50)
    place.check(set(results))


@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_in_doubt_is_settled_when_the_instance_comes_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    place.store("1.2.1")
    dialect = place.catalog.engine.dialect
    original = type(dialect).do_commit
    error = sqlite3.OperationalError if dialect.name == "sqlite" else dialect.loaded_dbapi.OperationalError  # type: ignore[attr-defined]

    def fail(self: Any, connection: Any) -> None:
        if committed:
            original(self, connection)
        raise error("disk I/O error")

    monkeypatch.setattr(type(dialect), "do_commit", fail)
    with pytest.raises(InDoubt):
        place.store("1.2.2")
    monkeypatch.setattr(type(dialect), "do_commit", original)
    assert place.store("1.2.2") is (StoreOutcome.DUPLICATE if committed else StoreOutcome.STORED)
    place.check({"1.2.1", "1.2.2"})


def test_nothing_is_remembered_of_a_study_whose_transaction_was_rolled_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *_: Any) -> None:
        raise OSError(errno.EIO, "no")

    original = batch._journal
    monkeypatch.setattr(batch, "_journal", fail)
    with pytest.raises(OSError):
        place.store("1.2.1")
    monkeypatch.setattr(batch, "_journal", original)
    assert place.store("1.2.1") is StoreOutcome.STORED
    assert place.store("1.2.2") is StoreOutcome.STORED
    place.check({"1.2.1", "1.2.2"})


def test_a_study_that_another_process_gave_to_another_patient_is_noticed(place: Place) -> None:
    place.store("1.2.1")
    place.store("1.2.2")
    with place.catalog.write() as session:
        session.execute(text("UPDATE patient SET key = 'OTHER\\'"))
    place.store("1.2.3")
    with place.catalog.read() as session:
        told = [entry.verb for entry in journal.history(session, "1.2.3")]
    assert told == ["received", "patient-mismatch"]
    place.check({"1.2.1", "1.2.2", "1.2.3"})


def test_a_series_row_that_another_process_changed_is_not_trusted(place: Place) -> None:
    place.store("1.2.1")
    with place.catalog.write() as session:
        session.execute(text("UPDATE series SET uid = '9.9.9'"))
    assert place.store("1.2.2") is StoreOutcome.STORED
    with place.catalog.read() as session:
        rows = session.execute(select(Series.uid, Series.n_instances)).all()
        counts = {row.uid: row.n_instances for row in rows}
    assert counts == {"9.9.9": 1, "1.2.3.1": 1}


def test_modalities_are_joined_whatever_is_remembered(place: Place) -> None:
    for number, modality in enumerate(["CT", "SR", "CT", "", "SR", "PR"]):
        place.store(f"1.2.{number}", series=f"1.2.3.1{modality}".translate(LETTERS), modality=modality)
    with place.catalog.read() as session:
        assert session.scalar(select(Study.modalities)) == "\\CT\\PR\\SR\\"
        assert session.scalar(select(Study.n_series)) == 4
    place.check({f"1.2.{number}" for number in range(6)})


LETTERS = {ord(letter): str(ord(letter)) for letter in "CTSRP"}


def test_a_batch_leaves_the_same_rows_as_one_by_one(catalog: Catalog, tmp_path: Path) -> None:
    dice = random.Random(4)
    made = [
        Received(
            header(
                f"1.2.{n}",
                study=(study := f"1.2.3.{dice.randrange(3)}"),
                series=f"{study}.{dice.randrange(2)}",
                modality=dice.choice(["CT", "SR"]),
                patient_id=f"P{study[-1]}",
                instance_number=n,
            ),
            EXPLICIT, 0, 100 + n, hashlib.sha256(bytes([n])).digest(), "CT1", catalog.clock.now(),
        )
        for n in range(40)
    ]  # fmt: skip
    query = (
        select(Study.uid, Study.n_series, Study.n_instances, Study.n_bytes, Study.unsealed,
               Study.modalities, Series.uid, Series.n_instances, Series.modality, Instance.uid,
               Instance.number, Instance.digest)
        .join(Series, Series.study_pk == Study.pk)
        .join(Instance, Instance.series_pk == Series.pk)
        .order_by(Instance.uid)
    )  # fmt: skip
    with catalog.engine.connect() as connection, connection.begin() as undo:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            for each in made:
                ingest.register(session, each)
            one_by_one = session.execute(query).all()
        undo.rollback()
    registrar = Registrar(catalog.engine)
    while made:
        part, made = made[: (size := dice.randrange(1, 20))], made[size:]
        with registrar.transaction([each.header.sop_instance_uid for each in part]) as connection:
            registrar.register(connection, part)
    with catalog.read() as session:
        assert session.execute(query).all() == one_by_one


def test_a_file_that_a_crash_left_is_used_or_put_aside_and_never_overwritten(place: Place) -> None:
    for uid, content in (("1.2.1", b"same"), ("1.2.2", b"else")):
        left = place.root / layout.instance_path("1.2.3", "1.2.3.1", uid, 0)
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(file_head(CT, uid, EXPLICIT) + content)
    assert place.store("1.2.1", b"same") is StoreOutcome.STORED
    assert place.store("1.2.2", b"mine") is StoreOutcome.STORED
    place.check({"1.2.1", "1.2.2"})
    (aside,) = (place.root / ".incoming" / "aside").iterdir()
    assert aside.read_bytes().endswith(b"else")


def test_a_folder_that_was_pruned_meanwhile_is_made_again(place: Place) -> None:
    place.store("1.2.1")
    place.pool.store.delete(layout.instance_path("1.2.3", "1.2.3.1", "1.2.1", 0))
    assert not (place.root / "studies").exists()
    assert place.store("1.2.2") is StoreOutcome.STORED
    assert len(place.files()) == 1


def test_the_pool_says_no_before_its_reserve_is_touched_and_yes_when_there_is_room(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(sqlite_catalog, tmp_path / "online", reserve=0)
    free = [10_000]
    capacity = place.pool.store.capacity

    class Small(FolderStore):
        def capacity(self) -> Any:
            return type(capacity())(1 << 40, free[0])

    monkeypatch.setattr(FolderStore, "capacity", Small.capacity)
    place.store("1.2.1", bytes(5_000))
    free[0] = 4_000
    with pytest.raises(NoSpace):
        place.store("1.2.2", bytes(5_000))
    free[0] = 6_000
    place.store("1.2.2", bytes(5_000))
    place.check({"1.2.1", "1.2.2"})


def test_capacity_and_health_are_asked_once_a_second_while_there_is_room(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(sqlite_catalog, tmp_path / "online")
    asked = {"health": 0, "capacity": 0}
    for name in asked:
        original = getattr(FolderStore, name)

        def count(self: FolderStore, name: str = name, original: Any = original) -> Any:
            asked[name] += 1
            return original(self)

        monkeypatch.setattr(FolderStore, name, count)
    monkeypatch.setattr(rooms, "MARGIN_BYTES", 1)
    for number in range(5):
        place.store(f"1.2.{number}")
    assert asked == {"health": 1, "capacity": 1}
    clock = sqlite_catalog.clock
    assert isinstance(clock, ManualClock)
    clock.advance(rooms.RECHECK_SECONDS)
    place.store("1.2.9")
    assert asked == {"health": 2, "capacity": 2}


def test_an_instance_whose_uid_is_none_reaches_no_disk(place: Place) -> None:
    with pytest.raises(BadInput):
        place.ingest.begin(CT, "../../1.2", EXPLICIT).write([memoryview(b"x")])
    assert not list((place.root / ".incoming").glob("*.part"))


def test_a_leader_that_dies_takes_nobody_with_it() -> None:
    """Each submitter of the batch is told, and the next batch is led by somebody else."""
    calls = 0

    def act(tickets: Sequence[Ticket[int]]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError

    group: GroupCommit[int] = GroupCommit(act)
    with pytest.raises(MemoryError):
        group.submit(1)
    group.submit(2)
    assert calls == 2


def test_many_threads_are_each_served_once_and_in_bounded_batches() -> None:
    seen: list[int] = []
    sizes: list[int] = []

    def act(tickets: Sequence[Ticket[int]]) -> None:
        sizes.append(len(tickets))
        for ticket in tickets:
            seen.append(ticket.value)
            if ticket.value % 7 == 0:
                ticket.error = KeyError(ticket.value)

    group: GroupCommit[int] = GroupCommit(act, batch_max=4)
    failed: list[int] = []

    def submit(first: int) -> None:
        for value in range(first, first + 50):
            try:
                group.submit(value)
            except KeyError as error:
                failed.append(error.args[0])

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(0, 500, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(seen) == list(range(500))
    assert max(sizes) <= 4
    assert sorted(failed) == [value for value in range(500) if value % 7 == 0]
