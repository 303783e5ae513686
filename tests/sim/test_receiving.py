"""What was received is there, whatever the catalog and the disk did meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from hsm.catalog import queue
from hsm.catalog.commit import Ticket
from hsm.catalog.tables import Series
from hsm.errors import BadInput
from hsm.ingest import StoreOutcome
from hsm.ingest.intake import Arrival, _Item
from tests.sim.world import EXPLICIT_LITTLE, TWO_TAPES, World, dataset, header, study_uid


def _arrived_together(world: World, numbers: Sequence[int]) -> tuple[list[Arrival], list[Ticket[_Item]]]:
    """Instances of study 1 that wait for the same transaction."""
    arrivals: list[Arrival] = []
    tickets: list[Ticket[_Item]] = []
    submit = world.ingest._group.submit
    world.ingest._group.submit = lambda value: tickets.append(Ticket(value))  # type: ignore[method-assign]
    try:
        for number in numbers:
            head = header(1, number)
            arrival = world.ingest.begin(head.sop_class_uid, head.sop_instance_uid, EXPLICIT_LITTLE)
            arrival.write([dataset(2000, number)])
            with pytest.raises(AssertionError):  # nobody has decided about it yet
                arrival.keep(head, "CT1")
            arrivals.append(arrival)
    finally:
        world.ingest._group.submit = submit  # type: ignore[method-assign]
    return arrivals, tickets


@pytest.mark.parametrize("committed", [True, False])
def test_a_batch_whose_commit_is_in_doubt_loses_no_file_when_the_next_try_fails_too(
    world: World, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    engine = world.catalog.engine
    real = engine.dialect.do_commit
    begins_to_fail = [False, True, True]

    def commit_and_lose_the_reply(connection: Any) -> None:
        if begins_to_fail:
            (real if committed else engine.dialect.do_rollback)(connection)
            raise sqlite3.OperationalError("the reply to COMMIT is lost")
        real(connection)

    def begin(_connection: Any) -> None:
        if begins_to_fail and begins_to_fail.pop(0):
            raise OperationalError("BEGIN", {}, sqlite3.OperationalError("no connection"))

    monkeypatch.setattr(engine.dialect, "do_commit", commit_and_lose_the_reply)
    event.listen(engine, "begin", begin)
    arrivals, tickets = _arrived_together(world, [1, 2])
    world.ingest._commit(tickets)
    assert all(ticket.error is not None for ticket in tickets), "nothing is acknowledged"
    for arrival in arrivals:
        arrival.close()

    again = {world.store_one(header(1, number), dataset(2000, number)) for number in (1, 2)}
    assert again == {StoreOutcome.DUPLICATE if committed else StoreOutcome.STORED}
    world.assert_readable(1)


def test_a_lost_file_of_an_unsealed_instance_is_put_back_when_the_instance_comes_again(world: World) -> None:
    world.store(1, 2)
    world.online_file(1, 1).unlink()
    with world.online_file(1, 2).open("r+b") as file:
        file.truncate(100)
    for number in (1, 2):
        again = world.store_one(header(1, number), dataset(20_000, 1100 + number))
        assert again is StoreOutcome.DUPLICATE
    world.assert_readable(1)
    world.follow()
    world.assert_readable(1)


def test_a_released_instance_that_comes_again_takes_no_room_online(world: World) -> None:
    world.store(1, 1)
    world.follow()
    assert not world.online_file(1, 1).exists()
    assert world.store_one(header(1, 1), dataset(20_000, 1101)) is StoreOutcome.DUPLICATE
    assert not world.online_file(1, 1).exists()


def test_other_bytes_never_replace_a_lost_file(world: World) -> None:
    world.store(1, 1)
    world.online_file(1, 1).unlink()
    assert world.store_one(header(1, 1), dataset(20_000, 7)) is StoreOutcome.KEPT_BOTH
    assert not world.online_file(1, 1).exists()


@pytest.mark.parametrize("syntax", ["1.2.3.bogus", "", "1.2." + "3" * 64, "1..2", "1.2/3", "1.2.3\n"])
def test_a_transfer_syntax_that_no_package_could_name_is_refused_and_the_study_is_sealed(
    world: World, syntax: str
) -> None:
    world.store(1, 1)
    with pytest.raises(BadInput, match="Transfer Syntax UID"):
        world.ingest.store(header(1, 2), syntax, dataset(500, 2), "CT1")
    world.follow()
    assert len(world.on_tape(1)) == 1
    world.assert_readable(1)


@pytest.mark.parametrize("same_study", [True, False])
def test_the_same_uid_in_another_series_hides_nothing_of_the_first(
    make_world: Callable[..., World], same_study: bool
) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 2)
    other = study_uid(1 if same_study else 2)
    astray = replace(header(1, 1), study_uid=other, series_uid=f"{other}.9")
    assert world.store_one(astray, b"other content" * 50) is StoreOutcome.KEPT_BOTH
    assert world.store_one(replace(astray, instance_number=7), b"and more" * 50) is StoreOutcome.KEPT_BOTH
    world.check()  # counters too

    def seen() -> list[tuple[str, str, int]]:
        found = [*world.instances(1), *([] if same_study else world.instances(2))]
        return [(each.series_uid, each.sop_instance_uid, each.version) for each in found]

    first, second = header(1, 1), header(1, 2)
    assert seen() == [
        (first.series_uid, first.sop_instance_uid, 0),
        (first.series_uid, second.sop_instance_uid, 0),
        (astray.series_uid, first.sop_instance_uid, 2),
    ]
    before = seen()
    world.follow()
    assert seen() == before
    with world.catalog.read() as session:
        counts = {each.uid: each.n_instances for each in session.scalars(select(Series))}
    assert counts == {first.series_uid: 2, astray.series_uid: 1}


def test_a_delivery_takes_nothing_from_another_study_with_an_instance_of_the_same_uid(world: World) -> None:
    world.store(1, 1)
    astray = replace(header(1, 1), study_uid=study_uid(2), series_uid=f"{study_uid(2)}.1")
    world.store_one(astray, b"of somebody else" * 50)
    key = world.deliveries.begin("DEST", "WS1", 1, world.instances(1))
    world.deliveries.hand_over(key, [header(1, 1).sop_instance_uid])
    with world.catalog.read() as session:
        left = world.deliveries.order(queue.get(session, key))
    assert [each.study_uid for each in left.instances] == [study_uid(1)]
