"""When a recall will be through, and why not sooner: for whoever waits.

Seconds are what the planner's own forecast says, corrected by what was measured; where nobody can say, there
is no figure. What is said of it fits a C-MOVE's Error Comment (64 characters) in the usual cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hsm.catalog import standing, timings
from hsm.catalog.engine import Catalog
from hsm.catalog.standing import Standing
from hsm.measured import in_words, still_to_wait
from hsm.planner import Forecast
from hsm.planning import Planning
from hsm.states import RequestState
from hsm.stopwatch import Doing

ORDINALS = ("next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
PHASES = {"mount": "being loaded", "locate": "being found on {}", "read": "being read", "write": "under way"}


@dataclass(frozen=True, slots=True)
class Eta:
    """Of one request."""

    request_pk: int
    seconds: float | None
    """From now until all of it can be read; None where nobody can say."""
    reason: str
    """``drive 256, third in queue, 4 min``; ``shelf B3, waiting for an operator since 02:10``."""

    def record(self, now: datetime) -> dict[str, object]:
        """In plain values: ``eta`` in words, ``eta_seconds``, ``eta_at``."""
        at = None if self.seconds is None else now + timedelta(seconds=round(self.seconds))
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return {"eta": self.reason, "eta_seconds": seconds, "eta_at": at}


class Etas:
    """Any thread may ask."""

    def __init__(self, catalog: Catalog, planning: Planning) -> None:
        self._catalog = catalog
        self._planning = planning

    def of(self, request_pks: Sequence[int]) -> dict[int, Eta]:
        """Of those of these requests that there are."""
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            stand = standing.of(session, request_pks, now)
            waits = any(each.state is RequestState.WAITING for each in stand.values())
            answers = timings.answers(session) if waits else []
        outlook, doing = None, self._planning.stopwatch.now
        if any(each.state in (RequestState.QUEUED, RequestState.ACTIVE) for each in stand.values()):
            outlook = self._planning.outlook()
        found = {}
        for pk, each in stand.items():
            turn = outlook.of(pk) if outlook is not None else None
            if outlook is not None and turn is not None:
                turn = since(turn, (now - outlook.now).total_seconds())
            if each.state is RequestState.WAITING:
                after = self._planning.seconds_once_there(each.volume, each.library, each.position, each.size)
                found[pk] = at_the_shelf(each, now, answers, after)
            else:
                found[pk] = at_a_drive(each, now, turn, doing)
        return found

    def waiting_for(self, request_pks: Sequence[int]) -> str:
        """In words: what the slowest of these waits for; empty when none does."""
        found = [each for each in self.of(request_pks).values() if each.seconds != 0.0]
        last = max(found, key=lambda each: (each.seconds is None, each.seconds or 0.0), default=None)
        return last.reason if last is not None else ""


def since(turn: Forecast, seconds: float) -> Forecast:
    """A turn that was worked out some seconds ago, as it is now. Pure."""
    if turn.finishes is None:
        return turn
    starts = None if turn.starts is None else max(turn.starts - seconds, 0.0)
    return replace(turn, starts=starts, finishes=max(turn.finishes - seconds, 0.0))


def at_a_drive(
    stand: Standing, now: datetime, turn: Forecast | None, doing: Mapping[tuple[str, int], Doing]
) -> Eta:
    """Of a request that is queued or under way, or has ended. Pure."""
    if stand.state is RequestState.DONE:
        return Eta(stand.pk, 0.0, "here")
    if stand.state not in (RequestState.QUEUED, RequestState.ACTIVE):
        return Eta(stand.pk, None, f"{stand.state}: {stand.error}".rstrip(": "))
    if turn is None or turn.position is None:
        if stand.state is RequestState.QUEUED and stand.not_before > now:
            why = f": {stand.error}" if stand.error else ""
            return Eta(stand.pk, None, f"tried again at {_clock(stand.not_before, now)}{why}")
        if stand.state is RequestState.ACTIVE:
            return Eta(stand.pk, None, "under way")
        return Eta(stand.pk, None, stand.error or (turn.reason if turn is not None else "queued"))
    where = f"drive {turn.drive}"
    if turn.position == 0:
        now_there = doing.get((turn.library or "", turn.drive or 0))
        place = PHASES[now_there.phase].format(now_there.barcode) if now_there is not None else "under way"
    elif turn.position <= len(ORDINALS):
        place = f"{ORDINALS[turn.position - 1]} in queue"
    else:
        place = f"number {turn.position} in queue"
    span = f", {in_words(turn.finishes)}" if turn.finishes is not None else ""
    return Eta(stand.pk, turn.finishes, f"{where}, {place}{span}")


def at_the_shelf(stand: Standing, now: datetime, answers: Sequence[float], after: float) -> Eta:
    """Of a request that waits for a person. Pure.

    :param answers: seconds that operators took lately.
    :param after: seconds from the volume's coming to the last byte.
    """
    shelf = f"shelf {stand.shelf}" if stand.shelf else f"{stand.volume} on the shelf"
    if stand.asked_at is None:
        return Eta(stand.pk, None, f"{shelf}, an operator will be asked")
    reason = f"{shelf}, waiting for an operator since {_clock(stand.asked_at, now)}"
    if stand.walker:
        reason += f", {stand.walker} is on the way"
    left = still_to_wait(answers, (now - stand.asked_at).total_seconds())
    if left is None:
        return Eta(stand.pk, None, reason)
    return Eta(stand.pk, left + after, f"{reason}, usually {in_words(left + after)} more")


def _clock(at: datetime, now: datetime) -> str:
    """As the archive's own clock on the wall shows it."""
    here = at.astimezone()
    return f"{here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%d %b %H:%M}"
