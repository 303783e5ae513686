"""What a drive's model says, corrected by what was measured in this library. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hsm import planner
from hsm.catalog.timings import Took
from hsm.measured import Correction, correction
from hsm.stopwatch import Doing

OVERDUE = 0.1
"""What takes longer than it should still takes this part of what was expected."""


class Factors:
    """The corrections of every library."""

    def __init__(self, measured: Mapping[tuple[str, str], Sequence[Took]]) -> None:
        """
        :param measured: by library and kind.
        """
        self._of: dict[str, Correction] = {}
        for library in {library for library, _ in measured}:
            self._of[library] = correction(
                {
                    kind: [(each.seconds, each.expected) for each in took]
                    for (name, kind), took in measured.items()
                    if name == library
                }
            )

    def of(self, library: str) -> Correction:
        return self._of.get(library, Correction())

    def paces(self, models: planner.PaceOf) -> planner.PaceOf:
        """The pace of each library as it was measured."""

        def pace(library: str) -> planner.Pace:
            model, own = models(library), self.of(library)
            return replace(model.corrected(own.mount, own.read), locate=model.locate * own.locate)

        return pace

    def costs(
        self, costs: Mapping[str, planner.LocateCost], libraries: Mapping[str, str]
    ) -> dict[str, planner.LocateCost]:
        """What moving the head costs, by barcode.

        :param libraries: where each volume is.
        """
        return {
            barcode: _times(cost, self.of(libraries.get(barcode, "")).locate)
            for barcode, cost in costs.items()
        }


def _times(cost: planner.LocateCost, factor: float) -> planner.LocateCost:
    return lambda start, end: cost(start, end) * factor


def seconds_left(doing: Doing, now: float, own: Correction, pace: planner.Pace, size: int) -> float | None:
    """Until what a drive does at this moment is through, with the package under way; None where nobody can
    say.

    :param now: monotonic, as ``doing.since``.
    :param size: bytes of the package that comes first after a mount.
    """
    if doing.phase == "mount":
        return _rest(doing, now, own.mount) + pace.locate + pace.stream(size)
    if doing.phase == "locate":
        return _rest(doing, now, own.locate) + pace.stream(doing.left)
    if doing.phase == "read":
        stream = pace.stream(doing.left)
        return max(stream - (now - doing.since), stream * OVERDUE)
    return None


def _rest(doing: Doing, now: float, factor: float) -> float:
    whole = doing.expected * factor
    return max(whole - (now - doing.since), whole * OVERDUE)
