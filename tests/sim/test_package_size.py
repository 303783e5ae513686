"""A study that is larger than a package may be is sealed into several, and comes back whole."""

from __future__ import annotations

from hsm.seal import FRAME_BYTES, MEMBER_BYTES, fitting
from tests.sim.conftest import MakeWorld
from tests.sim.world import World


def test_a_study_is_cut_where_it_is_sealed_and_comes_back_whole(world: World) -> None:
    world.store(1, 5)
    sizes = [instance.size for instance in world.instances(1)]
    world.seal.package_bytes_max = FRAME_BYTES + 2 * (max(sizes) + MEMBER_BYTES)
    world.seal_all()
    keys = {key for key, _ in world.copies(1)}
    assert keys == {"1.p0001", "1.p0002", "1.p0003"}
    world.follow()
    world.assert_readable(1)
    world.check()


def test_a_bound_below_one_instance_makes_a_package_of_each(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 3)
    world.seal.package_bytes_max = 1
    world.seal_all()
    assert len({key for key, _ in world.copies(1)}) == 3
    world.assert_readable(1)
    world.check()


def test_nothing_is_cut_where_it_fits_or_where_there_is_no_bound() -> None:
    assert fitting([], 1) == []
    assert fitting([], None) == []
