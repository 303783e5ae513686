"""Every study names its placement: always the one that its copies have, and found by an index."""

from __future__ import annotations

import threading
from random import Random

import pytest
from catalog_rows import add_copy, add_package, add_packaged_study, add_patient, add_study, add_volume
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import and_, event, func, not_, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm import states
from hsm.bench import archive
from hsm.bench.archive import Shape
from hsm.bench.fill import fill, settle
from hsm.catalog import check_studies, journal, media, placement, placements, selecting
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Copy, Package, Placement, Study, Volume
from hsm.states import CopyState, VolumeState
from tests.examples import examples

UID = "1.2.3"


def _pattern(session: Session, uid: str = UID) -> str | None:
    query = select(Placement.pattern).join(Study, Study.placement_pk == Placement.pk)
    return session.execute(query.where(Study.uid == uid)).scalar_one_or_none()


def _wrong(session: Session) -> list[str]:
    return [each.message for each in check_studies.placements(session, 100)]


# --- the pattern

packages = st.lists(
    st.dictionaries(st.sampled_from(["online", "tape-a", "tape_b", "n2"]), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@given(packages)
def test_a_pattern_says_what_it_was_made_of(some: list[dict[str, int]]) -> None:
    found = placements.parse(placements.pattern_of(some))
    unique = {tuple(sorted(package.items())) for package in some}
    assert {tuple(sorted(package.items())) for package in found} == unique
    assert len(found) == len(unique)


@given(packages, st.randoms(use_true_random=False))
def test_a_pattern_does_not_depend_on_any_order(some: list[dict[str, int]], random: Random) -> None:
    shuffled = [dict(random.sample(list(package.items()), len(package))) for package in some]
    random.shuffle(shuffled)
    assert placements.pattern_of(shuffled) == placements.pattern_of(some)


# --- kept while copies and volumes change


def test_a_study_follows_its_copies_from_pool_to_pool(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        pk = add_study(session, add_patient(session), UID, packages=1)
        package = add_package(session, pk)
        disk, tape = add_volume(session, "online"), add_volume(session, "T1")
        session.execute(
            text("UPDATE volume SET pool = 'online', removable = :no WHERE name = 'online'"), {"no": False}
        )
        first = placement.begin_copy(session, package, disk, "a", now, "test")
        assert _pattern(session) == "online=0"
        placement.move_copy(session, first, CopyState.WRITTEN, now, "test")
        placement.move_copy(session, first, CopyState.VERIFIED, now, "test")
        assert _pattern(session) == "online=1"
        second = placement.begin_copy(session, package, tape, "b", now, "test")
        assert _pattern(session) == "online=1,tape-a=0"
        placement.move_copy(session, second, CopyState.WRITTEN, now, "test")
        placement.move_copy(session, second, CopyState.VERIFIED, now, "test")
        assert _pattern(session) == "online=1,tape-a=1"
        assert placement.release(session, first, [], now, "test").allowed
        assert _pattern(session) == "online=0,tape-a=1"
        placement.move_copy(session, first, CopyState.RELEASED, now, "test")
        assert _pattern(session) == "tape-a=1"


def test_a_volume_that_goes_bad_and_comes_back_changes_every_study_on_it(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        volume = add_volume(session, "T1")
        for number in range(30):
            pk = add_study(session, add_patient(session, f"P{number}"), f"1.2.{number}", packages=1)
            add_copy(session, add_package(session, pk), volume)
        placements.refresh(session, session.scalars(select(Study.pk)).all())
        media.missing(session, volume, now, "test", "not on the shelf")
        assert {_pattern(session, f"1.2.{number}") for number in range(30)} == {"tape-a=0"}
        media.found_again(session, volume, now, "test")
        assert {_pattern(session, f"1.2.{number}") for number in range(30)} == {"tape-a=1"}
        assert _wrong(session) == []


def test_a_late_package_makes_the_study_what_both_are(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified", "B": "verified"}, UID)
        pk = session.execute(select(Study.pk)).scalar_one()
        late = add_package(session, pk, 2)
        volume = add_volume(session, "online")
        session.execute(text("UPDATE volume SET pool = 'online' WHERE name = 'online'"))
        placement.begin_copy(session, late, volume, "x", catalog.clock.now(), "test")
        assert _pattern(session) == "online=0;tape-a=2"


def test_whatever_happens_to_copies_and_volumes_the_placement_says_so(sqlite_catalog: Catalog) -> None:
    """Random steps through the transition tables, compared in SQL after each twenty."""
    random, catalog, tried = Random(4711), sqlite_catalog, examples(300)
    with catalog.write() as session:
        volumes = [add_volume(session, f"V{number}") for number in range(5)]
        for number in range(5):
            pool = f"UPDATE volume SET pool = 'pool-{number % 3}' WHERE name = 'V{number}'"
            session.execute(text(pool))
        keys = []
        for number in range(8):
            pk = add_study(session, add_patient(session, f"P{number}"), f"1.2.{number}", packages=2)
            keys += [add_package(session, pk, each) for each in (1, 2)]
        placements.refresh(session, session.scalars(select(Study.pk)).all())
    steps = 0
    for step in range(tried):
        with catalog.write() as session:
            steps += _step(session, random, volumes, keys)
        if step % 20 == 0:
            with catalog.read() as session:
                assert _wrong(session) == []
    assert steps > 0.3 * tried


def _step(session: Session, random: Random, volumes: list[int], packages: list[int]) -> bool:
    """One random act; False where the tables or the database forbid it."""
    now = session.scalar(select(func.min(Package.sealed_at)))
    assert now is not None
    try:
        with session.begin_nested():
            if random.random() < 0.15:
                volume = random.choice(volumes)
                state = VolumeState(
                    session.execute(select(Volume.state).where(Volume.pk == volume)).scalar_one()
                )
                choices = sorted(states.VOLUME.table[state] - {VolumeState.RETIRED})
                media.move_volume(session, volume, random.choice(choices), now, "test")
            else:
                copy_pk = placement.begin_copy(
                    session, random.choice(packages), random.choice(volumes), "x", now, "test"
                )
                old = CopyState(session.execute(select(Copy.state).where(Copy.pk == copy_pk)).scalar_one())
                new = random.choice(sorted(states.COPY.table[old]))
                placement.move_copy(session, copy_pk, new, now, "test")
    except (ValueError, IntegrityError):
        return False
    return True


def test_two_nodes_that_change_copies_of_one_study_leave_it_right(pg_catalog: Catalog) -> None:
    now = pg_catalog.clock.now()
    with pg_catalog.write() as session:
        pk = add_study(session, add_patient(session), UID, packages=1)
        package = add_package(session, pk)
        copies = [
            placement.begin_copy(session, package, add_volume(session, name), "x", now, "test")
            for name in ("A", "B", "C", "D")
        ]
    errors: list[BaseException] = []

    def verify(copy_pk: int) -> None:
        try:
            for new in (CopyState.WRITTEN, CopyState.VERIFIED, CopyState.SUSPECT, CopyState.VERIFIED):
                with pg_catalog.write() as session:
                    placement.move_copy(session, copy_pk, new, now, "test")
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)

    threads = [threading.Thread(target=verify, args=(copy_pk,)) for copy_pk in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with pg_catalog.read() as session:
        assert _pattern(session) == "tape-a=4"


# --- asked for by runs


def _placed(catalog: Catalog) -> None:
    with catalog.write() as session:
        for number, copies in enumerate(({"A": "verified"}, {"B": "suspect"}, {"C": "verified"}, {})):
            add_packaged_study(session, copies, f"1.2.{number}")
        session.execute(text("UPDATE volume SET pool = 'online' WHERE name = 'C'"))
        placements.refresh(session, session.scalars(select(Study.pk)).all())


def test_conditions_about_placements_become_a_list_that_an_index_serves(catalog: Catalog) -> None:
    _placed(catalog)
    big = Study.n_bytes >= 0
    with catalog.read() as session:
        where = [and_(big, placements.copies_in("tape-a") >= 1), not_(placements.held_in("online"))]
        narrowed = placements.narrowed(session, where)
        assert len(narrowed) == 2
        assert "placement_pk IN" in str(narrowed[0]) and narrowed[1] is big
        found = session.scalars(select(Study.uid).where(*narrowed)).all()
    assert found == ["1.2.0"]


def test_a_condition_that_asks_for_more_than_the_placement_is_left_as_it_is(catalog: Catalog) -> None:
    _placed(catalog)
    with catalog.read() as session:
        mixed = or_(placements.copies_in("tape-a") >= 1, Study.uid == "1.2.3")
        assert placements.narrowed(session, [mixed]) == [mixed]
        assert set(session.scalars(select(Study.uid).where(mixed))) == {"1.2.0", "1.2.3"}


def test_nothing_that_lies_so_finds_nothing(catalog: Catalog) -> None:
    _placed(catalog)
    with catalog.read() as session:
        assert list(selecting.pages(session, [placements.copies_in("vault") >= 1])) == []


def test_sites_are_counted_of_the_package_that_is_worst_off(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified", "B": "verified", "C": "verified"}, UID)
        session.execute(text("UPDATE volume SET pool = 'online' WHERE name = 'A'"))
        session.execute(text("UPDATE volume SET pool = 'vault' WHERE name = 'B'"))
        placements.refresh(session, session.scalars(select(Study.pk)).all())
    sites = {"online": "main", "vault": "bunker", "tape-a": "main", "gone": "moon"}
    with catalog.read() as session:
        assert session.scalar(select(placements.sites_of(sites)).select_from(Study)) == 2
        assert session.scalar(select(placements.sites_of({})).select_from(Study)) == 0
        assert (
            session.scalar(select(placements.copies_in("online", "vault", "tape-a")).select_from(Study)) == 3
        )


@pytest.mark.parametrize("asked", ["in order of idleness", "without order"])
def test_a_run_reads_what_lies_as_it_asks_and_not_the_whole_table(catalog: Catalog, asked: str) -> None:
    """Of 3000 studies 30 lie otherwise: a run finds those by the index."""
    fill(catalog, archive.batches(Shape(3000, studies_per_day=20, series=1, instances=1)))
    with catalog.write() as session:
        pks = session.scalars(select(Study.pk)).all()
        session.execute(text("UPDATE copy SET state = 'lost' WHERE volume_pk = 2 AND package_pk % 100 = 0"))
        placements.refresh(session, pks)
    settle(catalog)
    order = [Study.last_accessed.asc()] if asked == "in order of idleness" else []
    statements: list[tuple[str, object]] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        statements.append((statement, parameters))

    with catalog.read() as session:
        event.listen(catalog.engine, "before_cursor_execute", note)
        found = [
            key
            for page in selecting.pages(session, [placements.copies_in("nearline") < 1], order)
            for key in page.keys
        ]
        event.remove(catalog.engine, "before_cursor_execute", note)
        statement, parameters = statements[-1]
        sqlite = catalog.engine.dialect.name == "sqlite"
        rows = session.connection().exec_driver_sql(
            ("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement,
            parameters,  # type: ignore[arg-type]
        )
        plan = "\n".join(str(row[-1]) for row in rows)
    assert len(found) == 30
    assert "ix_study_placed" in plan, plan


def test_a_new_pattern_is_never_waited_for_by_who_holds_the_journal(pg_catalog: Catalog) -> None:
    """One transaction has made a pattern and waits for the journal's head; the other holds that head, and
    needs the same pattern."""
    now = pg_catalog.clock.now()
    with pg_catalog.write() as session:
        found = []
        for number in (1, 2):
            pk = add_study(session, add_patient(session, f"P{number}"), f"1.2.{number}", packages=1)
            found.append((add_package(session, pk), add_volume(session, f"V{number}")))
    errors: list[BaseException] = []

    def other() -> None:
        try:
            with pg_catalog.write() as session:
                placement.begin_copy(session, *found[1], "x", now, "test")
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)

    thread = threading.Thread(target=other)
    with pg_catalog.write() as session:
        journal.append(session, now, "test", "holds the head", "test", "x", {})
        thread.start()
        _wait_for_a_lock(pg_catalog)
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        placement.begin_copy(session, *found[0], "x", now, "test")
    thread.join(30)
    assert errors == []
    with pg_catalog.read() as session:
        assert {_pattern(session, uid) for uid in ("1.2.1", "1.2.2")} == {"tape-a=0"}


def _wait_for_a_lock(catalog: Catalog) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    tick = threading.Event()
    for _ in range(2000):
        with catalog.read() as session:
            if session.execute(waiting).scalar_one():
                return
        tick.wait(0.005)
    pytest.fail("nobody waits for a lock")


def test_a_page_that_is_left_behind_by_a_connection_that_is_lost_complains_of_nothing(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified"}, UID)
        placements.refresh(session, session.scalars(select(Study.pk)).all())
    with catalog.read() as session:
        found = selecting.pages(session, [], size=1)
        next(found)
        session.connection().invalidate()
        found.close()
    with catalog.read() as session:
        found = selecting.pages(session, [], size=1)
        next(found)
    found.close()
    assert caplog.text == ""
