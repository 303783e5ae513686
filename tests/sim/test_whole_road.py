"""The good road and what policies do on it."""

from __future__ import annotations

from tests.sim.world import World


def test_a_study_goes_to_tape_and_comes_back_byte_for_byte(world: World) -> None:
    world.store(1, 3)
    world.follow()
    assert world.copies(1) == {
        ("1.p0001", "online"): "released",
        ("1.p0001", "nearline"): "released",
        ("1.p0001", "HSM001L8"): "verified",
    }
    world.assert_readable(1)
    world.check()
