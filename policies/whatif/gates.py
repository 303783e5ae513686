"""When a policy's work may begin: its windows, its bandwidth, its drives."""

from __future__ import annotations

from policies.policy import Policy
from policies.whatif.moments import NEVER, Micros, micros, moment, seconds


class Gate:
    """Of one policy. Recalls that people wait for pass no gate."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.drives_busy = 0
        self._paid_until: Micros = 0
        self._open_until: Micros = 0
        """Until then the schedule is known to be open."""
        self._shut_until: Micros = 0

    def opens(self, now: Micros) -> Micros:
        """``now`` where work may begin, else the first time when it might."""
        return max(self._window(now), self._paid_until)

    @property
    def has_drive(self) -> bool:
        """Whether the policy may occupy one more drive."""
        return self.policy.limits.drives is None or self.drives_busy < self.policy.limits.drives

    def pay(self, size: int, now: Micros) -> None:
        """Bytes are about to be moved: the next ones wait until the bandwidth allows them."""
        if self.policy.limits.bandwidth:
            self._paid_until = max(self._paid_until, now) + seconds(size / self.policy.limits.bandwidth)

    def _window(self, now: Micros) -> Micros:
        schedule = self.policy.schedule
        if schedule.always_open or now < self._open_until:
            return now
        if now < self._shut_until:
            return self._shut_until
        changes = schedule.next_change(moment(now))
        turn = NEVER if changes is None else micros(changes)
        if schedule.is_open(moment(now)):
            self._open_until = turn
            return now
        self._shut_until = turn
        return turn
