"""The workers when the catalog itself fails under them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, ROAD, World


class Outage:
    """A catalog that stops taking writes after some, as a database that restarts does."""

    def __init__(self, world: World, after: int) -> None:
        self._world, self._left, self._write = world, after, world.catalog.write

    def begin(self) -> None:
        self._world.catalog.write = self._failing  # type: ignore[method-assign]

    def end(self) -> None:
        self._world.catalog.write = self._write  # type: ignore[method-assign]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[Session]:
        if self._left <= 0:
            raise OperationalError("BEGIN", {}, Exception("the server is restarting"))
        self._left -= 1
        with self._write() as session:
            yield session


@pytest.mark.parametrize("after", range(1, 9))
@pytest.mark.parametrize("policy", [NEARLINE, ROAD], ids=["nearline", "road"])
def test_no_request_stays_active_when_the_catalog_fails_for_a_while(
    make_world: MakeWorld, policy: str, after: int
) -> None:
    world = make_world(policies=policy)
    world.store(1, 2)
    world.seal_all()
    for _ in range(2):  # the road has two legs: to nearline, then to tape
        world.policies.run(None, dry_run=False, by="test")
        outage = Outage(world, after)
        outage.begin()
        for step in (world.workers.disk_step, world.workers.drive_step):
            with contextlib.suppress(OperationalError):
                step()
        outage.end()
        world.later()
        world.check()
        assert not [drive for drive in (256, 257) if world.drives.busy("library", drive)]
    world.follow()
    world.assert_readable(1)
    assert all(request.state == "done" for request in world.requests(kind="copy"))
