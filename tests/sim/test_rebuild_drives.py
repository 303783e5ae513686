"""A rebuild on several drives at the same time makes the catalog that one drive makes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select

from drivers.simulated.medium import flip_byte
from hsm.catalog.tables import Copy, Package, Volume
from tests.sim.aftermath import LoseCatalog, facts, in_lives, rebuild
from tests.sim.conftest import MakeWorld
from tests.sim.world import TWO_TAPES, Shape, World

SHAPE = Shape(cartridges=6, drives=2, capacity_bytes=100_000)
CARTRIDGES = [f"HSM00{number}L8" for number in range(1, 7)]


@pytest.fixture
def burnt(make_world: MakeWorld) -> World:
    """Six cartridges, of which two each hold the same."""
    world = make_world(policies=TWO_TAPES, shape=SHAPE)
    for study in range(1, 5):
        world.store(study, 2)
    world.follow()
    world.store(1, 1, first=9)
    world.follow()
    assert {world.volume(each).pool for each in CARTRIDGES} == {"tape"}
    return world


def damage(world: World) -> None:
    flip_byte(world.library.medium_folder(CARTRIDGES[0]), world.tar_of(1), 20_000)


def states(world: World) -> list[tuple[str, str, str]]:
    query = select(Package.key, Volume.name, Copy.state).select_from(Copy)
    query = query.join(Package, Package.pk == Copy.package_pk).join(Volume, Volume.pk == Copy.volume_pk)
    with world.catalog.read() as session:
        return sorted((key, name, state) for key, name, state in session.execute(query))


@pytest.mark.campaign
def test_two_drives_at_once_make_the_catalog_that_one_makes_in_whatever_order(
    burnt: World, lose_catalog: LoseCatalog
) -> None:
    damage(burnt)
    one = lose_catalog(burnt, "one.db")
    alone = rebuild(one, drives_max=1)
    two = lose_catalog(one, "two.db")
    both_in = threading.Barrier(2, timeout=20)
    two.tapped.on_mount = _first_calls(2, both_in.wait)
    abreast = rebuild(two)
    assert not both_in.broken, "two cartridges were in the drives at the same time"
    assert facts(two) == facts(one) and states(two) == states(one)
    assert abreast.differs == alone.differs and len(alone.differs) == 1
    assert [each.volume for each in abreast.volumes] == [each.volume for each in alone.volumes]
    two.check()
    other = lose_catalog(two, "other.db")
    for some in (CARTRIDGES[3:5], CARTRIDGES[5:], CARTRIDGES[:3], []):
        rebuild(other, *some)
    assert facts(other) == facts(one)
    for study in (1, 4):
        other.assert_readable(study)
    other.check()


@pytest.mark.campaign
def test_a_rebuild_on_two_drives_that_is_killed_at_any_moment_goes_on_to_the_same_catalog(
    burnt: World, lose_catalog: LoseCatalog
) -> None:
    damage(burnt)
    one = lose_catalog(burnt, "one.db")
    rebuild(one, drives_max=1)
    anew, report = in_lives(lose_catalog(one, "two.db"), 3, rebuild)
    assert report.complete
    assert facts(anew) == facts(one)
    anew.check()


@pytest.mark.campaign
def test_one_drive_that_fails_costs_only_what_was_in_it(burnt: World, lose_catalog: LoseCatalog) -> None:
    one = lose_catalog(burnt, "one.db")
    rebuild(one, drives_max=1)
    anew = lose_catalog(one, "two.db")
    drive = anew.library.inventory().drives()[0].address
    anew.fault("read", "retryable", drive=drive, times=1)
    first = rebuild(anew)
    assert sum(bool(each.failed) for each in first.volumes) == 1
    anew.heal()
    assert rebuild(anew).complete
    assert facts(anew) == facts(one)


def _first_calls(count: int, act: Any) -> Any:
    left = iter(range(count))

    def call(_barcode: str) -> None:
        if next(left, None) is not None:
            act()

    return call
