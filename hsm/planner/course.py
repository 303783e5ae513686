"""What the drives do from now on, played forward in virtual time with the planner that decides it. Pure.

It is what a forecast is made of, and what the simulated day of ``hsm bench recall`` is played with: arrivals
that are known beforehand come in when their time comes, sessions are begun as the plan says, make room
between two packages as :mod:`hsm.planner.yields` says, and take as long as a :class:`Pace` says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from hsm.model import Place
from hsm.planner.locate import LocateCost
from hsm.planner.pace import Pace, PaceOf
from hsm.planner.values import DriveAt, Plan, Running, Session, Situation, Work
from hsm.planner.yields import Decide, yields_to

STEPS_MAX = 1_000_000
"""A course that does not end before is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Rules:
    """By which rules a course is played, and how long things take."""

    decide: Decide
    """:func:`hsm.planner.plan` with its site filled in, or another planner."""
    pace: PaceOf
    """Of the drives of a library, by its name."""
    costs: Mapping[str, LocateCost] = field(default_factory=dict)
    """By barcode, seconds that moving the head takes; else the pace's average."""
    read_back: bool = True
    """Whether what is written is read back in the same session."""
    yields: bool = True
    """Whether a session makes room for what is more urgent."""
    tick: float | None = None
    """Seconds after which idle drives are planned for again though nothing has happened, for a planner that
    waits; None: never."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was done. Seconds from the beginning of the course."""

    work: Work
    drive: tuple[str, int]
    """Library and address."""
    barcode: str
    session: int
    """Numbered in the order they began; 0 and below were under way at the beginning."""
    starts: float
    finishes: float


@dataclass(slots=True)
class Spent:
    """What the drives did, in seconds."""

    mounts: int = 0
    mounting: float = 0.0
    locating: float = 0.0
    locates: int = 0
    streaming: float = 0.0

    @property
    def drive_seconds(self) -> float:
        return self.mounting + self.locating + self.streaming


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing a drive does; the writes of a session are followed by a flush and their reading back."""

    kind: Literal["read", "write", "flush", "prove"]
    work: Work | None
    position: int | None = None
    end: int | None = None


@dataclass(slots=True)
class _Bay:
    at: DriveAt
    free_at: float = 0.0
    head: int | None = 0
    barcode: str = ""
    session: int = 0
    doing: _Step | None = None
    steps: deque[_Step] = field(default_factory=deque)
    began: dict[int, float] = field(default_factory=dict)
    unflushed: bool = False
    news: int = 0

    @property
    def place(self) -> tuple[str, int]:
        return self.at.library, self.at.address

    def left(self) -> list[Work]:
        return [step.work for step in self.steps if step.work is not None]


class Course:
    """One playing. :meth:`play` may be called again with a later end."""

    def __init__(
        self,
        begin: Situation,
        rules: Rules,
        *,
        running: Sequence[Running] = (),
        arrivals: Sequence[tuple[float, Work]] = (),
        brought: Mapping[str, tuple[float, str]] | None = None,
        ends: Mapping[str, int] | None = None,
    ) -> None:
        """
        :param running: sessions that are under way, of the drives that are busy.
        :param arrivals: seconds from the beginning and what is asked for then.
        :param brought: by barcode, in how many seconds a person puts a volume into which library.
        :param ends: by barcode, where the next package is written.
        """
        self._waiting = {each.request_pk: each for each in begin.work}
        self._volumes = {each.barcode: each for each in begin.volumes}
        self._begin_at = begin.now
        self._rules = rules
        self._arrivals = deque(sorted(arrivals, key=lambda pair: (pair[0], pair[1].request_pk)))
        self._brought = deque(
            sorted((seconds, name, where) for name, (seconds, where) in (brought or {}).items())
        )
        self._ends = dict(ends or {})
        self.seconds = 0.0
        self.served: list[Served] = []
        self.spent = Spent()
        self.made_room = 0
        """Sessions that ended for something more urgent."""
        self._sessions = 0
        self._news = 1
        self._planned = 0
        self._bays = [
            _Bay(each, head=each.head) for each in sorted(begin.drives, key=lambda d: (d.library, d.address))
        ]
        for number, session in enumerate(running):
            self._resume(session, -number)

    def play(self, until: float = float("inf")) -> Sequence[Served]:
        """Go on until nothing more can happen, or until then; what was served so far, in the order it was
        finished."""
        for _ in range(STEPS_MAX):
            self._admit()
            self._begin_sessions()
            times = [bay.free_at for bay in self._bays if bay.doing is not None]
            times += [self._arrivals[0][0]] if self._arrivals else []
            times += [self._brought[0][0]] if self._brought else []
            if self._rules.tick is not None and self._waiting:
                times.append(self.seconds + self._rules.tick)
            if not times or min(times) > until:
                return self.served
            self.seconds = max(self.seconds, min(times))
            self._news += self._rules.tick is not None
            for bay in self._bays:
                if bay.doing is not None and bay.free_at <= self.seconds:
                    self._admit()
                    self._finished(bay)
        raise RuntimeError(f"the course of {len(self.served)} requests does not end")

    def rest(self) -> Plan:
        """What the planner says of those that nothing was done for."""
        return self._plan()

    @property
    def waiting(self) -> list[Work]:
        return list(self._waiting.values())

    def _situation(self) -> Situation:
        return Situation(
            list(self._waiting.values()),
            list(self._volumes.values()),
            [replace(bay.at, head=bay.head) for bay in self._bays],
            self._begin_at + timedelta(seconds=self.seconds),
        )

    def _plan(self) -> Plan:
        at = self._situation()
        return self._rules.decide(at.work, at.volumes, at.drives, at.now)

    def _admit(self) -> None:
        while self._arrivals and self._arrivals[0][0] <= self.seconds:
            _, work = self._arrivals.popleft()
            self._waiting[work.request_pk] = work
            self._news += 1
        while self._brought and self._brought[0][0] <= self.seconds:
            _, barcode, library = self._brought.popleft()
            volume = self._volumes.get(barcode)
            if volume is not None and not volume.in_library:
                self._volumes[barcode] = replace(volume, place=Place.SLOT, library=library, drive=None)
                self._news += 1

    def _begin_sessions(self) -> None:
        idle = any(bay.doing is None and bay.at.in_service and not bay.at.busy for bay in self._bays)
        if not idle or not self._waiting or self._planned == self._news:
            return
        self._planned = self._news
        for session in self._plan().sessions:
            self._begin(session)

    def _begin(self, session: Session) -> None:
        place = (session.drive.library, session.drive.address)
        bay = next(each for each in self._bays if each.place == place)
        work = [self._waiting.pop(pk) for pk in session.work]
        self._sessions += 1
        bay.session, bay.barcode, bay.news = self._sessions, session.barcode, self._news
        bay.began.clear()
        volume = self._volumes[session.barcode]
        if session.scratch_for:
            self._volumes[session.barcode] = replace(volume, pool=session.scratch_for)
        seconds = 0.0
        if bay.at.holds != session.barcode:
            seconds = self._rules.pace(bay.at.library).change(holds_one=bay.at.holds is not None)
            self.spent.mounts += 1
            self.spent.mounting += seconds
            bay.head = 0
        bay.steps = deque(_steps(work, prove=self._rules.read_back))
        first = min(each.priority for each in work)
        bay.at = replace(bay.at, holds=session.barcode, busy=True, priority=first, leaving=None)
        self._start(bay, self.seconds + seconds)

    def _resume(self, session: Running, number: int) -> None:
        place = (session.drive.library, session.drive.address)
        bay = next((each for each in self._bays if each.place == place), None)
        if bay is None or not session.left:
            return
        bay.barcode, bay.session, bay.head = session.barcode, number, None
        bay.steps = deque(_steps(session.left, prove=self._rules.read_back))
        first = min(each.priority for each in session.left)
        bay.at = replace(bay.at, holds=session.barcode, busy=True, priority=first, leaving=None)
        self._start(bay, 0.0)
        if session.first_takes is not None:
            bay.free_at = session.first_takes

    def _start(self, bay: _Bay, at: float) -> None:
        """Begin the next thing that the session has to do."""
        step = bay.doing = bay.steps.popleft()
        pace = self._rules.pace(bay.at.library)
        if step.work is not None:
            bay.began.setdefault(step.work.request_pk, at)
        if step.kind == "flush":
            self.spent.streaming += pace.flush
            bay.free_at = at + pace.flush
            return
        assert step.work is not None
        position = step.position
        if step.kind == "write":
            position = self._ends.get(bay.barcode)
        locate = self._locate(bay, position, pace)
        stream = pace.stream(step.work.size)
        self.spent.locating += locate
        self.spent.locates += 1
        self.spent.streaming += stream
        bay.free_at = at + locate + stream
        if step.kind == "write" and position is not None:
            bay.head = self._ends[bay.barcode] = position + step.work.size
        else:
            bay.head = step.end if step.end is not None else step.position

    def _locate(self, bay: _Bay, position: int | None, pace: Pace) -> float:
        cost = self._rules.costs.get(bay.barcode)
        if cost is None or position is None or bay.head is None:
            return pace.locate
        return cost(bay.head, position)

    def _finished(self, bay: _Bay) -> None:
        """One thing is done: note it, make room if something more urgent needs the drive, go on."""
        step, bay.doing = bay.doing, None
        assert step is not None
        work = step.work
        if step.kind == "write" and work is not None:
            self._wrote(bay, work)
        if step.kind == "flush":
            bay.unflushed = False
        if work is not None and (step.kind in ("read", "prove") or not self._rules.read_back):
            began = bay.began.pop(work.request_pk)
            self.served.append(Served(work, bay.place, bay.barcode, bay.session, began, bay.free_at))
        if bay.steps:
            self._make_room(bay)
        if bay.steps:
            left = [each.priority for each in bay.left()]
            bay.at = replace(bay.at, priority=min(left)) if left else bay.at
            self._start(bay, bay.free_at)
            return
        bay.at = replace(bay.at, busy=False)
        self._news += 1

    def _wrote(self, bay: _Bay, work: Work) -> None:
        volume = self._volumes[bay.barcode]
        self._volumes[bay.barcode] = replace(volume, free=volume.free - work.size)
        bay.unflushed = True
        position = bay.head - work.size if bay.head is not None and bay.barcode in self._ends else None
        bay.steps = deque(
            replace(step, position=position, end=bay.head if position is not None else None)
            if step.kind == "prove" and step.work is work
            else step
            for step in bay.steps
        )

    def _make_room(self, bay: _Bay) -> None:
        """End the session if something more urgent needs its drive: what was written is flushed and read back
        later, what was not begun waits again."""
        left = bay.left()
        if not self._rules.yields or bay.news == self._news or not left:
            return
        bay.news = self._news
        mine = Running(replace(bay.at, head=bay.head), bay.barcode, tuple(left))
        if yields_to(mine, self._situation(), self._rules.decide) is None:
            return
        self.made_room += 1
        for step in bay.steps:
            if step.work is None:
                continue
            written = step.kind == "prove" and not any(
                each.kind == "write" and each.work is step.work for each in bay.steps
            )
            back = step.work
            if written:
                back = replace(back, kind="verify", volume=bay.barcode, position=step.position, end=step.end)
            if step.kind != "prove" or written:
                self._waiting[back.request_pk] = back
        bay.steps = deque([_Step("flush", None)] if bay.unflushed else [])
        self._news += 1


def _steps(work: Sequence[Work], *, prove: bool) -> list[_Step]:
    reads = [_Step("read", each, each.position, each.end) for each in work if each.kind != "write"]
    writes = [each for each in work if each.kind == "write"]
    if not writes:
        return reads
    proofs = [_Step("prove", each) for each in writes] if prove else []
    return [*reads, *(_Step("write", each) for each in writes), _Step("flush", None), *proofs]
