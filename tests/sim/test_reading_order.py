"""A drive that recommends an order is obeyed, one that cannot be asked costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from drivers.errors import Retryable
from hsm.catalog.placement import PackageRef
from tests.sim.conftest import MakeWorld
from tests.sim.test_making_room import STUDIES, busy_world
from tests.sim.world import TWO_TAPES, Shape, Wait, World


def tried(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies that come back, in the order they were read."""
    fetch, seen = world.recall.fetch, list[str]()

    def telling(package: PackageRef, *more: Any) -> None:
        seen.append(package.key.rpartition(".p")[0].rpartition(".")[2])
        fetch(package, *more)

    monkeypatch.setattr(world.recall, "fetch", telling)
    waits = [world.retrieve(study) for study in STUDIES]
    world.settle()
    for wait in waits:
        got: Any = Wait.look(wait)
        assert (got.lost, got.waiting) == ({}, 0)
        wait.close()
    world.check()
    return seen


def test_the_order_that_a_drive_recommends_is_the_one_in_which_it_reads(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, asked = busy_world(make_world), list[Sequence[tuple[int, int]]]()
    world.run_policies()
    world.run_policies()

    def backwards(_drive: int, extents: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        asked.append(extents)
        return tuple(reversed(range(len(extents))))

    world.tapped.recommended_order = backwards  # type: ignore[attr-defined]
    assert tried(world, monkeypatch) == [str(study) for study in reversed(STUDIES)]
    ((*extents,),) = asked
    assert all(start <= end for start, end in extents)
    assert all(one[1] < other[0] for one, other in pairwise(extents))


def test_a_drive_that_cannot_be_asked_now_reads_in_our_own_order(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = busy_world(make_world)
    world.run_policies()
    world.run_policies()

    def failing(_drive: int, _extents: object) -> None:
        raise Retryable("the drive is away")

    world.tapped.recommended_order = failing  # type: ignore[attr-defined]
    assert tried(world, monkeypatch) == [str(study) for study in STUDIES]


def test_studies_that_lie_on_two_cartridges_each_are_read_from_the_one_they_share(
    make_world: MakeWorld,
) -> None:
    """Study 1 is on 1 and 2, study 2 on 2 and 3, study 3 on 3 and 1, the first copy of each elsewhere: any
    two of the cartridges will do."""
    world = make_world(policies=TWO_TAPES, shape=Shape(drives=1, cartridges=3))
    for barcode in ("HSM001L8", "HSM002L8", "HSM003L8"):
        world.library.hand_remove(barcode)
    placed = {1: ("HSM001L8", "HSM002L8"), 2: ("HSM002L8", "HSM003L8"), 3: ("HSM001L8", "HSM003L8")}
    for study, barcodes in placed.items():
        for barcode in barcodes:
            world.library.hand_insert(barcode)
        world.custody.inventory()
        world.store(study, 1, size=300_000 if study == 2 else 20_000)
        world.seal_all()
        world.run_policies()
        world.run_policies()
        for barcode in barcodes:
            world.custody.export(barcode, "B3", "alice")
        assert world.on_tape(study) == list(barcodes)
    waits = [world.retrieve(study) for study in placed]
    world.settle()
    asked = world.prompts()
    assert len(asked) == 2, "nobody is sent for the third"
    for barcode in asked:
        world.custody.import_(barcode, "alice")
    world.settle()
    for wait in waits:
        got = wait.look()
        assert (len(got.files), got.lost, got.waiting) == (1, {}, 0)
        wait.close()
    world.check()
