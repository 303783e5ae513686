"""The periodic routines. APScheduler 3 runs them, and nothing outside this module knows it.

A routine never runs twice at once, runs once for all the times it missed, and when it raises
the error is logged with its name and it runs again when next due. Times are UTC unless said.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.exc import InterfaceError, OperationalError

from hsm.clock import Clock, FastClock
from hsm.log import context, get_logger
from policies import Schedule

log = get_logger(__name__)

WORKERS = 10
"""Routines that may run at the same time; further ones wait."""
DEFAULT_SECONDS = 60.0
"""The interval of a schedule that names none."""

_HURRIED_PAUSE = timedelta(milliseconds=50)
"""The shortest interval of the machine's between two runs by a fast clock."""
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY_RANGE = re.compile(r"([0-7])(?:-([0-7]))?(/[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Routine:
    """A routine as it stands: when it runs next (UTC; None when the scheduler is stopped)."""

    name: str
    next_run: datetime | None
    running: bool


class Scheduler:
    """Runs named functions at intervals or at times of a calendar, each in a thread of its own."""

    def __init__(self, clock: Clock | None = None) -> None:
        """
        :param clock: by which routines are due; the machine's by default.
        """
        self._fast = clock if isinstance(clock, FastClock) else None
        # Its notes about every run, and about one that is still running when due, are noise here.
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
        executor = ThreadPoolExecutor(WORKERS, pool_kwargs={"thread_name_prefix": "routine"})
        self._engine = BackgroundScheduler(
            timezone=UTC,
            executors={"default": executor},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()

    def every(self, name: str, seconds: float, function: Callable[[], object]) -> None:
        """Run ``function`` every ``seconds``, first when they are over. Replaces a routine of that name.

        :raises ValueError: ``seconds`` is not above 0.
        """
        if not seconds > 0:
            raise ValueError(f"routine {name}: an interval of {seconds} s; expected more than 0")
        first = None if self._fast is None else self._fast.now() + timedelta(seconds=seconds)
        self._add(name, IntervalTrigger(seconds=seconds, timezone=UTC, start_date=first), function)

    def cron(self, name: str, expression: str, function: Callable[[], object], zone: tzinfo = UTC) -> None:
        """Run ``function`` at the times of a cron ``expression``, local times of ``zone``. Replaces a
        routine of that name.

        :raises ValueError: see :func:`check_cron`.
        """
        self._add(name, _cron_trigger(expression, zone), function)

    def replace(self, wanted: Mapping[str, tuple[Schedule, Callable[[], object]]]) -> None:
        """From now on exactly these routines; one that stays as it is begins its interval anew."""
        for routine in self.routines():
            if routine.name not in wanted:
                self.remove(routine.name)
        for name, (schedule, function) in wanted.items():
            if schedule.cron is not None:
                self.cron(name, schedule.cron, function, schedule.zone)
            else:
                self.every(name, schedule.every_seconds or DEFAULT_SECONDS, function)

    def remove(self, name: str) -> None:
        """Forget a routine; a run that is under way goes on. Unknown names are not an error."""
        with self._lock:
            if self._tasks.pop(name, None) is not None:
                self._engine.remove_job(name)

    def trigger_now(self, name: str) -> None:
        """Run a routine as soon as possible, and once more if it is running now.

        :raises KeyError: no such routine.
        """
        with self._lock:
            task = self._tasks.get(name)
            if task is None:
                raise KeyError(f"no routine is named {name!r} (known: {', '.join(sorted(self._tasks))})")
            if not task.again_if_running():
                try:
                    self._engine.modify_job(name, next_run_time=datetime.now(UTC))
                except JobLookupError:
                    log.debug("routine %s was triggered after the scheduler had stopped", name)

    def routines(self) -> tuple[Routine, ...]:
        """Every routine, by name."""
        with self._lock:
            return tuple(
                Routine(name, self._next_run(name), self._tasks[name].running) for name in sorted(self._tasks)
            )

    def start(self) -> None:
        """Begin; routines that were added before are counted from now."""
        self._engine.start()

    def stop(self, wait: bool = True) -> None:
        """Start nothing more, and when ``wait`` return only when nothing runs. May be called twice."""
        for task in list(self._tasks.values()):
            task.stop()
        try:
            self._engine.shutdown(wait=wait)
        except SchedulerNotRunningError:
            log.debug("the scheduler was not running")

    def _add(self, name: str, trigger: BaseTrigger, function: Callable[[], object]) -> None:
        with self._lock:
            task = self._tasks.setdefault(name, _Task(name))
            task.function = function
            if self._fast is not None:
                trigger = _Hurried(trigger, self._fast)
            self._engine.add_job(task.run, trigger, id=name, name=name, replace_existing=True)

    def _next_run(self, name: str) -> datetime | None:
        job = self._engine.get_job(name)
        found = getattr(job, "next_run_time", None)  # absent until the scheduler has started
        if not isinstance(found, datetime):
            return None
        return found.astimezone(UTC) if self._fast is None else self._fast.shown_at(found)


class _Hurried(BaseTrigger):
    """A trigger whose times are those of a fast clock, told to the scheduler in the machine's."""

    def __init__(self, trigger: BaseTrigger, clock: FastClock) -> None:
        self._trigger = trigger
        self._clock = clock

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        before = None if previous_fire_time is None else self._clock.shown_at(previous_fire_time)
        due = self._trigger.get_next_fire_time(before, self._clock.shown_at(now))
        # Never again in the same instant: the conversion rounds.
        return None if due is None else max(self._clock.machine_at(due), now + _HURRIED_PAUSE)


class _Task:
    """One routine: its function, whether it runs, and whether it must run once more."""

    def __init__(self, name: str) -> None:
        self.function: Callable[[], object] = lambda: None
        self._name = name
        self._lock = threading.Lock()
        self._running = False
        self._again = False
        self._stopped = False

    @property
    def running(self) -> bool:
        return self._running

    def again_if_running(self) -> bool:
        """Whether it is running; if so it will run once more, as what triggered it may have come too late."""
        with self._lock:
            self._again = self._running
            return self._running

    def stop(self) -> None:
        with self._lock:
            self._stopped = True

    def run(self) -> None:
        with self._lock:
            if self._running or self._stopped:
                return
            self._running = True
        while True:
            with context(routine=self._name):
                try:
                    self.function()
                except (OperationalError, InterfaceError) as error:  # no fault of ours, and no trace of one
                    log.error("routine %s: %s; it runs again when it is next due", self._name, error.orig)
                except Exception:  # whatever a routine raises, it is due again later
                    log.exception("routine %s failed; it runs again when it is next due", self._name)
            with self._lock:
                if not self._again or self._stopped:
                    self._running = self._again = False
                    return
                self._again = False


def check_cron(expression: str) -> None:
    """Refuse what cannot be scheduled: five fields of crontab(5), times in UTC, 0 and 7 are Sunday.

    :raises ValueError: not five fields, a field out of range, a time that never comes, or both a day
        of the month and a weekday (which crontab(5) would join by "or").
    """
    _cron_trigger(expression)


def _cron_trigger(expression: str, zone: tzinfo = UTC) -> CronTrigger:
    expected = "expected five fields: minute hour day month weekday, such as '30 2 * * sun'"
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"cron expression {expression!r} has {len(fields)} fields; {expected}")
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise ValueError(
            f"cron expression {expression!r} gives a day and a weekday; expected * in one of them"
        )
    try:
        trigger = CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_weekday_names(weekday),
            timezone=zone,
        )
    except ValueError as error:
        raise ValueError(f"cron expression {expression!r}: {error}; {expected}") from error
    if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        raise ValueError(f"cron expression {expression!r} names a time that never comes; {expected}")
    return trigger


def _weekday_names(field: str) -> str:
    """Weekday numbers as names: APScheduler 3 counts from Monday and crontab(5) from Sunday."""
    parts = []
    for part in field.split(","):
        match = _WEEKDAY_RANGE.fullmatch(part)
        if match is None:
            parts.append(part)
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        step = int(match[3][1:]) if match[3] else 1
        if match[3] and match[2] is None:
            last = 6  # crontab(5): N/STEP runs from N to the end
        if last < first or step < 1:
            raise ValueError(f"weekday {part!r} is not a range")
        parts += [_WEEKDAYS[number] for number in range(first, last + 1, step)]
    return ",".join(parts)
