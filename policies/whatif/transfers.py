"""Copies onto disks: one at a time into each pool, at the pace of the slower side, then read back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from policies.policy import Policy
from policies.whatif.gates import Gate
from policies.whatif.moments import NEVER, Micros, Timeline, seconds
from policies.whatif.stock import Copy, Room, Stock, Study
from policies.whatif.tally import Tally


@dataclass(slots=True, eq=False)
class Job:
    study: Study
    policy: Policy
    created: Micros
    number: int
    done: Callable[[Copy | None], None]
    """Gets None where the study came into the pool by another way meanwhile."""


class Lane:
    """The copies into one disk or object pool."""

    def __init__(
        self,
        room: Room,
        stock: Stock,
        timeline: Timeline,
        tally: Tally,
        gates: dict[str, Gate],
        source_rate: Callable[[Study], float | None],
    ) -> None:
        self.room = room
        self._stock = stock
        self._timeline = timeline
        self._tally = tally
        self._gates = gates
        self._source_rate = source_rate
        self._waiting: dict[str, deque[Job]] = {}
        self._busy = False
        self._armed: Micros = NEVER
        self._jobs = 0

    def put(self, study: Study, policy: Policy, done: Callable[[Copy | None], None]) -> None:
        """Copy a study that is on some disk into the pool."""
        self._jobs += 1
        job = Job(study, policy, self._timeline.now, self._jobs, done)
        self._waiting.setdefault(policy.name, deque()).append(job)
        self.pump()

    def pump(self) -> None:
        """Begin the oldest copy that may begin, if nothing is under way."""
        while not self._busy:
            job = self._next()
            if job is None:
                return
            pool, size = self.room.pool, job.study.size
            if job.study.is_in(pool.name):
                self._take(job)
                job.done(None)
                continue
            if size > self.room.free:
                if pool.name not in self._tally.full_waits:
                    self._tally.full_waits[pool.name] = self._timeline.now
                return  # whoever frees room calls again
            self._take(job)
            self._start(job)

    def _next(self) -> Job | None:
        now, opens = self._timeline.now, NEVER
        best: Job | None = None
        for name, queue in self._waiting.items():
            at = self._gates[name].opens(now)
            if at > now:
                opens = min(opens, at)
            elif best is None or queue[0].number < best.number:
                best = queue[0]
        if opens < self._armed:
            self._armed = opens
            self._timeline.at(opens, self._rearm)
        return best

    def _rearm(self) -> None:
        self._armed = NEVER
        self.pump()

    def _take(self, job: Job) -> None:
        queue = self._waiting[job.policy.name]
        queue.popleft()
        if not queue:
            del self._waiting[job.policy.name]

    def _start(self, job: Job) -> None:
        pool, size, now = self.room.pool, job.study.size, self._timeline.now
        self._busy = True
        self.room.reserved += size
        self._gates[job.policy.name].pay(size, now)
        rate = min(pool.write_bytes_per_second, self._source_rate(job.study) or pool.write_bytes_per_second)
        took = size / rate
        if not pool.cold:  # what cannot be read back at once is proved by what the service says of it
            took += 2 * pool.latency_seconds + size / pool.read_bytes_per_second
        self._timeline.at(now + seconds(took), self._finish, job)

    def _finish(self, job: Job) -> None:
        self._busy = False
        self.room.reserved -= job.study.size
        job.done(self._stock.add(job.study, self.room.pool.name, None, 0, self._timeline.now))
        self.pump()
