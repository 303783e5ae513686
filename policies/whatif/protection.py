"""Protection lag: how long studies had fewer copies than their goals, and which missed a deadline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from policies.facts import StudyFacts
from policies.whatif.moments import Micros, Timeline, length
from policies.whatif.stock import Study
from policies.whatif.tally import Tally


class Protection:
    """Told whenever a study is looked at."""

    def __init__(self, timeline: Timeline, tally: Tally) -> None:
        self._timeline = timeline
        self._tally = tally
        self._short: dict[int, Study] = {}

    def look(self, study: Study, look: Callable[[], StudyFacts]) -> None:
        """Note when the goals of its policy are met, and when they are no more."""
        policy, now = study.owner, self._timeline.now
        seen = (study.changes, id(policy))
        if policy is None or study.protection == seen:
            return
        study.protection = seen
        facts = look()
        met = True
        for number, goal in enumerate(policy.copies):
            has = goal.have(facts) >= goal.count
            met = met and has
            bit = 1 << number
            if has and not study.goals_met & bit:
                study.goals_met |= bit
                self._deadline(study, goal.within, now)
        if met and study.short_since is not None:
            self._tally.lags.append((now - study.short_since) / 1e6)
            study.short_since = None
            self._short.pop(study.number, None)
        elif not met and study.short_since is None:
            first = study.received >= self._tally.begin and study.goals_met == 0
            study.short_since = study.received if first else now
            self._short[study.number] = study

    def finish(self, end: Micros) -> int:
        """Count what is still short of its goals; returns how many studies are."""
        for study in self._short.values():
            assert study.short_since is not None
            self._tally.lags.append((end - study.short_since) / 1e6)
            policy = study.owner
            for number, goal in enumerate(policy.copies if policy is not None else ()):
                if not study.goals_met & 1 << number:
                    self._deadline(study, goal.within, end)
        return len(self._short)

    def _deadline(self, study: Study, within: timedelta | None, now: Micros) -> None:
        if (
            within is not None
            and not study.late
            and study.received >= self._tally.begin
            and now - study.received > length(within)
        ):
            study.late = True
            self._tally.late += 1
