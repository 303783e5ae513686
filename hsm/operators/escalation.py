"""Who is to be told of which prompts now, and what follows from a message that went or did not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hsm.config.operators import QuietConfig, StepConfig
from hsm.model import Priority
from hsm.states import NOTICE, NoticeState

ATTEMPTS_MAX = 8
RETRY_FIRST_SECONDS = 60.0
RETRY_LAST_SECONDS = 900.0
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A prompt that nobody has answered."""

    pk: int
    priority: int
    since: datetime
    walker: str
    """Who is on the way; empty when nobody is."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one step has sent about one prompt."""

    state: NoticeState
    sent: int
    attempts: int
    last_at: datetime | None
    next_at: datetime
    error: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """One prompt that somebody is told of now."""

    prompt: int
    step: StepConfig


def is_quiet(quiet: QuietConfig | None, now: datetime) -> bool:
    """Whether only what is urgent is told; the night may pass midnight. Start and end that are the same are
    no night at all."""
    if quiet is None:
        return False
    local = now.astimezone(ZoneInfo(quiet.zone))
    if _DAYS[local.weekday()] in quiet.days:
        return True
    at = local.time().replace(tzinfo=None)
    if quiet.start <= quiet.end:
        return quiet.start <= at < quiet.end
    return at >= quiet.start or at < quiet.end


def due(
    waiting: Iterable[Waiting],
    steps: Sequence[StepConfig],
    notices: Mapping[tuple[int, str], Sent],
    now: datetime,
    *,
    quiet: bool,
) -> list[Due]:
    """What to send now, by step and then by urgency.

    While somebody is on the way nobody is told. What fell into quiet hours is told once when they end, and
    what fell into the time while the daemon was away is told once, however often it would have been.

    :param notices: by prompt and name of the step.
    """
    found = []
    for step in steps:
        for each in sorted(waiting, key=lambda w: (w.priority, w.since, w.pk)):
            urgent = step.urgent or each.priority <= Priority.STAT
            if each.walker or (quiet and not urgent):
                continue
            notice = notices.get((each.pk, step.name))
            if notice is None:
                ripe = now >= each.since + timedelta(seconds=step.after)
            elif notice.state is NoticeState.PENDING or step.repeat is not None:
                ripe = now >= notice.next_at
            else:
                ripe = False
            if ripe:
                found.append(Due(each.pk, step))
    return found


def begun(notice: Sent | None, now: datetime, lease_seconds: float) -> Sent:
    """A message is on its way: if that is never heard of again, it is tried anew after the lease."""
    old = notice or Sent(NoticeState.PENDING, 0, 0, None, now)
    NOTICE.check(old.state, NoticeState.PENDING)
    fresh = 0 if old.state is not NoticeState.PENDING else old.attempts
    return replace(
        old,
        state=NoticeState.PENDING,
        attempts=fresh + 1,
        next_at=now + timedelta(seconds=lease_seconds),
    )


def delivered(notice: Sent, step: StepConfig, now: datetime) -> Sent:
    """It went: the next one, where it repeats, a whole period later."""
    NOTICE.check(notice.state, NoticeState.SENT)
    following = now + timedelta(seconds=step.repeat or 0)
    return Sent(NoticeState.SENT, notice.sent + 1, 0, now, following)


def failed(notice: Sent, step: StepConfig, now: datetime, error: str) -> Sent:
    """It did not go: tried again after longer and longer pauses, and given up in the end. A step that repeats
    begins anew with its next period."""
    if notice.attempts >= ATTEMPTS_MAX:
        NOTICE.check(notice.state, NoticeState.FAILED)
        following = now + timedelta(seconds=step.repeat or 0)
        return replace(notice, state=NoticeState.FAILED, next_at=following, error=error)
    pause = min(RETRY_LAST_SECONDS, RETRY_FIRST_SECONDS * 2 ** (notice.attempts - 1))
    return replace(notice, next_at=now + timedelta(seconds=pause), error=error)
