"""The operator: trips between the shelf and the libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from policies.whatif.moments import DAY, Timeline, micros, moment, seconds
from policies.whatif.site import Operator
from policies.whatif.stock import Volume
from policies.whatif.tally import Tally

if TYPE_CHECKING:
    from policies.whatif.library import Robot


class Walker:
    """One person serves all libraries; what is asked for while a trip is under way waits for the next."""

    def __init__(self, operator: Operator, timeline: Timeline, tally: Tally) -> None:
        self._operator = operator
        self._timeline = timeline
        self._tally = tally
        self._wanted: dict[int, tuple[Robot, Volume]] = {}
        self._shelving: dict[int, tuple[Robot, Volume]] = {}
        self._blanks: dict[str, Robot] = {}
        self._planned = False

    def bring(self, robot: Robot, volume: Volume) -> None:
        """The volume is needed in the library."""
        self._shelving.pop(volume.number, None)
        volume.leaving = False
        self._wanted.setdefault(volume.number, (robot, volume))
        self._plan()

    def shelve(self, robot: Robot, volume: Volume) -> None:
        """The volume shall lie on the shelf."""
        if volume.number not in self._wanted:
            volume.leaving = True
            self._shelving.setdefault(volume.number, (robot, volume))
            self._plan()

    def blanks(self, robot: Robot) -> None:
        """The library needs blank volumes."""
        self._blanks.setdefault(robot.library.name, robot)
        self._plan()

    def _plan(self) -> None:
        if self._planned:
            return
        self._planned = True
        start = self._operator.on_duty_at(moment(self._timeline.now))
        self._timeline.at(micros(start), self._go)

    def _go(self) -> None:
        """A trip begins: what is asked for now is done, up to what can be carried."""
        room = self._operator.cartridges_a_trip
        handled = 0
        deeds: list[Callable[[], int]] = []
        for robot, volume in list(self._wanted.values())[:room]:
            deeds.append(lambda robot=robot, volume=volume: robot.insert(volume))  # type: ignore[misc]
            handled += 1
        for robot, volume in list(self._shelving.values())[: room - handled]:
            deeds.append(lambda robot=robot, volume=volume: robot.take_out(volume))  # type: ignore[misc]
            handled += 1
        for robot in self._blanks.values():
            many = max(1, (room - handled) // 2)
            deeds.append(lambda robot=robot, many=many: robot.insert_blanks(many))  # type: ignore[misc]
            handled += many
        self._tally.day(self._timeline.now).trips += 1
        took = self._operator.walk_seconds + handled * self._operator.cartridge_seconds
        self._tally.operator_seconds += took
        self._timeline.at(self._timeline.now + seconds(took), self._arrive, deeds)

    def _arrive(self, deeds: list[Callable[[], int]]) -> None:
        done = sum(deed() for deed in deeds)
        self._wanted = {n: each for n, each in self._wanted.items() if not each[1].in_library}
        self._shelving = {n: each for n, each in self._shelving.items() if each[1].in_library}
        self._blanks = {name: robot for name, robot in self._blanks.items() if not robot.has_blanks}
        self._planned = False
        if not (self._wanted or self._shelving or self._blanks):
            return
        if done:
            self._plan()
        else:  # nothing could be put in or taken out: every slot is in use; look again tomorrow
            self._planned = True
            self._timeline.at(self._timeline.now + DAY, self._again)

    def _again(self) -> None:
        self._planned = False
        self._plan()
