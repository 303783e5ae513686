"""What the plan will look like from now on: when each request's turn comes, where, and why not sooner. Pure.

It plays a :class:`~hsm.planner.course.Course` from the queue as it is, so the planner that decides is the one
that explains. What will yet arrive is not in it: a stat recall that comes later goes first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hsm.model import Priority
from hsm.planner.course import Course, Rules, Served
from hsm.planner.order import due, urgency
from hsm.planner.values import Plan, Running, Situation, Work

AHEAD_MAX = 50
"""The most requests ahead that are listed one by one."""
NAMED_MAX = 3
"""The most that a sentence names."""
_NUMBERS = ("next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, slots=True)
class Ahead:
    """A request whose turn comes earlier, and why."""

    request_pk: int
    why: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """One request's turn. Seconds are from now; None where nobody can say."""

    request_pk: int
    position: int | None
    """On its drive: 0 is under way, 1 is next. None: no drive can have it as things are."""
    library: str | None
    drive: int | None
    """Element address."""
    volume: str | None
    """Barcode."""
    starts: float | None
    finishes: float | None
    reason: str
    """A sentence for an admin: where, in which place of the queue, and behind what; or what it waits for."""
    ahead: tuple[Ahead, ...] = ()
    """At most :data:`AHEAD_MAX`, in the order of their turns."""
    ahead_total: int = 0


class Outlook:
    """The whole forecast; each request's own is worked out when it is asked for."""

    def __init__(
        self,
        work: Sequence[Work],
        running: Sequence[Running],
        served: Sequence[Served],
        rest: Plan,
        now: datetime,
    ) -> None:
        self._work = {each.request_pk: each for each in work}
        self._now = now
        self._under_way = {session.left[0].request_pk for session in running if session.left}
        self._work |= {each.request_pk: each for session in running for each in session.left}
        self._turns: dict[tuple[str, int], list[Served]] = defaultdict(list)
        for each in sorted(served, key=lambda one: (one.starts, one.work.request_pk)):
            self._turns[each.drive].append(each)
        self._served = {each.work.request_pk: each for each in served}
        self._led_by = _leaders(served)
        self._rest = _reasons(rest, [self._work[pk] for pk in self._work.keys() - self._served.keys()])

    @property
    def now(self) -> datetime:
        """What the seconds count from."""
        return self._now

    @property
    def request_pks(self) -> tuple[int, ...]:
        """Of all that was asked about: in the order of their turns, then those that no drive can have."""
        turns = sorted(self._served.values(), key=lambda one: (one.starts, one.work.request_pk))
        done = [each.work.request_pk for each in turns]
        return (*done, *sorted(self._work.keys() - self._served.keys()))

    def of(self, request_pk: int) -> Forecast | None:
        """None: the request is not among those that need a drive."""
        work = self._work.get(request_pk)
        if work is None:
            return None
        mine = self._served.get(request_pk)
        if mine is None:
            why = self._rest.get(request_pk, "waits for a drive")
            return Forecast(request_pk, None, None, None, work.volume, None, None, why)
        library, address = mine.drive
        before = [each for each in self._turns[mine.drive] if self._is_before(each, mine)]
        ahead = tuple(Ahead(each.work.request_pk, self._why(each, mine)) for each in before[:AHEAD_MAX])
        waiting = sum(each.work.request_pk not in self._under_way for each in before)
        position = 0 if request_pk in self._under_way else waiting + 1
        return Forecast(
            request_pk,
            position,
            library,
            address,
            mine.barcode,
            mine.starts,
            mine.finishes,
            self._sentence(mine, position, ahead, len(before)),
            ahead,
            len(before),
        )

    def all(self) -> tuple[Forecast, ...]:
        """In the order of :attr:`request_pks`."""
        return tuple(found for pk in self.request_pks if (found := self.of(pk)) is not None)

    def _is_before(self, other: Served, mine: Served) -> bool:
        return (other.starts, other.work.request_pk) < (mine.starts, mine.work.request_pk)

    def _why(self, other: Served, mine: Served) -> str:
        """Why another one's turn on the same drive comes before mine."""
        theirs, my = self._work[other.work.request_pk], self._work[mine.work.request_pk]
        if theirs.request_pk in self._under_way:
            return "is under way"
        classes = f"{_name(theirs)} before {_name(my)}"
        if other.session == mine.session:
            if my.kind == "write" and theirs.kind != "write":
                return f"read from {mine.barcode} before anything is written to it"
            if theirs.priority < my.priority:
                return classes
            return f"on {mine.barcode} too, and comes first on the way along it"
        if theirs.priority == Priority.STAT < my.priority:
            return classes
        if my.priority == Priority.STAT < theirs.priority and other.session > 0:
            return "overdue, and takes turns with stat recalls"
        if urgency(theirs) < urgency(my):
            if theirs.deadline is not None and due(theirs) < theirs.created + (due(my) - my.created):
                return f"is wanted by {theirs.deadline:%d %b %H:%M}"
            if theirs.priority < my.priority:
                return classes
            if theirs.priority == my.priority:
                return "has waited longer"
            return f"{_name(theirs)}, but has waited {_span(self._now - theirs.created)} already"
        leader = self._led_by.get(other.session)
        if leader is not None and leader != theirs.request_pk:
            return f"on {other.barcode}, which is in the drive for {leader}"
        return f"on {other.barcode}, which is in the drive already"

    def _sentence(self, mine: Served, position: int, ahead: Sequence[Ahead], total: int) -> str:
        library, address = mine.drive
        where = f"on {mine.barcode} in drive {address} of {library}"
        if position == 0:
            return f"under way {where}"
        if not ahead:
            return f"{_ordinal(position)} {where}"
        groups: dict[str, list[int]] = defaultdict(list)
        for each in ahead:
            groups[each.why].append(each.request_pk)
        parts = [f"{_those(pks)}: {why}" for why, pks in groups.items()]
        more = f"; and {total - len(ahead)} more" if total > len(ahead) else ""
        return f"{_ordinal(position)} {where}, after {'; '.join(parts)}{more}"


def forecast(
    at: Situation,
    rules: Rules,
    *,
    running: Sequence[Running] = (),
    brought: Mapping[str, tuple[float, str]] | None = None,
) -> Outlook:
    """When each request's turn comes, if nothing else arrives.

    :param running: sessions that are under way, of the drives that are busy.
    :param brought: by barcode, in how many seconds a person is expected to put a volume into which library;
        what waits for a volume that is not named here has no time.
    """
    course = Course(at, rules, running=running, brought=brought)
    served = course.play()
    return Outlook(at.work, running, served, course.rest(), at.now)


def _leaders(served: Sequence[Served]) -> dict[int, int]:
    """By session, the most urgent request of it."""
    found: dict[int, Work] = {}
    for each in served:
        known = found.get(each.session)
        if known is None or urgency(each.work) < urgency(known):
            found[each.session] = each.work
    return {session: work.request_pk for session, work in found.items()}


def _reasons(rest: Plan, left: Sequence[Work]) -> dict[int, str]:
    """Why nothing is done for those that are left when all drives are idle."""
    found = {
        pk: f"waits for an operator: {prompt.why.split(';')[0]}"
        for prompt in rest.prompts
        for pk in prompt.request_pks
    }
    found.update(rest.unplaceable)
    for each in left:
        if each.volume is None and each.pool in rest.scratch_needed:
            found.setdefault(
                each.request_pk,
                f"waits for an operator: no volume of {each.pool} has room, a blank one is needed",
            )
    return found


def _name(work: Work) -> str:
    try:
        return Priority(work.priority).name.lower()
    except ValueError:
        return f"priority {work.priority}"


def _span(waited: timedelta) -> str:
    minutes = int(waited.total_seconds() // 60)
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"


def _those(pks: Sequence[int]) -> str:
    named = ", ".join(str(pk) for pk in pks[:NAMED_MAX])
    more = len(pks) - NAMED_MAX
    return f"{named} and {more} others" if more > 0 else named


def _ordinal(position: int) -> str:
    return _NUMBERS[position - 1] if position <= len(_NUMBERS) else f"number {position}"
