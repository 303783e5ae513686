"""Sums over whole tables: kept where the archive is large, and made by one asker at a time."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from hsm.catalog.views.sums import KEPT_FROM_STUDIES, KeptSums, Sums, rest_seconds

SESSION = cast(Session, None)


def of_size(studies: int, instances: int = 0) -> Sums:
    return Sums({"studies": studies, "packages": studies, "instances": instances}, ())


class Maker:
    """A database whose sums take as long as it is told, and differ each time."""

    def __init__(self, studies: int) -> None:
        self.studies = studies
        self.made = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Event()

    def __call__(self, _session: Any) -> Sums:
        self.begun.set()
        assert self.go_on.wait(10)
        self.made += 1
        return of_size(self.studies, self.made)


def test_a_small_archive_is_summed_for_every_asker() -> None:
    maker = Maker(KEPT_FROM_STUDIES - 1)
    kept = KeptSums(lambda: 0.0, maker)
    assert [kept.of(SESSION).totals["instances"] for _ in range(3)] == [1, 2, 3]


def test_a_large_archive_is_summed_again_when_the_sums_have_rested() -> None:
    now, maker = [0.0], Maker(1_000_000)
    kept = KeptSums(lambda: now[0], maker)
    assert [kept.of(SESSION).totals["instances"] for _ in range(3)] == [1, 1, 1]
    now[0] = rest_seconds(of_size(1_000_000)) - 0.1
    assert kept.of(SESSION).totals["instances"] == 1
    now[0] += 0.1
    assert kept.of(SESSION).totals["instances"] == 2
    assert rest_seconds(of_size(10**9)) == 60, "never older than a minute"


def test_who_asks_while_somebody_sums_gets_what_there_is_at_once_or_waits_for_the_first() -> None:
    now, maker = [0.0], Maker(1_000_000)
    kept = KeptSums(lambda: now[0], maker)
    found: list[int] = []

    def ask() -> None:
        found.append(kept.of(SESSION).totals["instances"])

    maker.go_on.clear()
    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    assert maker.begun.wait(10)
    maker.go_on.set()
    for asker in askers:
        asker.join(10)
    assert found == [1, 1, 1], "one has made them for all"
    now[0] += rest_seconds(of_size(1_000_000))
    maker.go_on.clear()
    maker.begun.clear()
    renewing = threading.Thread(target=ask)
    renewing.start()
    assert maker.begun.wait(10)
    ask()
    assert found[3:] == [1], "the old ones, without waiting"
    maker.go_on.set()
    renewing.join(10)
    assert found[4:] == [2]


def test_nobody_gets_sums_of_yesterday_because_somebody_is_making_them_anew() -> None:
    now, maker = [0.0], Maker(1_000_000)
    kept = KeptSums(lambda: now[0], maker)
    kept.of(SESSION)
    now[0] += 86_400
    maker.go_on.clear()
    maker.begun.clear()
    found: list[int] = []
    askers = [
        threading.Thread(target=lambda: found.append(kept.of(SESSION).totals["instances"])) for _ in range(2)
    ]
    for asker in askers:
        asker.start()
    assert maker.begun.wait(10)
    assert found == []
    maker.go_on.set()
    for asker in askers:
        asker.join(10)
    assert found == [2, 2]


def test_sums_that_fail_are_tried_again_by_the_next_asker() -> None:
    maker = Maker(1_000_000)
    answers: list[Any] = [OSError("the database is away"), maker]

    def make(session: Session) -> Sums:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast(Sums, answer(session))

    kept = KeptSums(lambda: 0.0, make)
    with pytest.raises(OSError, match="away"):
        kept.of(SESSION)
    assert kept.of(SESSION).totals["instances"] == 1
