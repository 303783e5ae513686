"""Whether a policy's schedule and limits can carry its load, from an estimate made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from policies import units
from policies.expr import Constant, Expression, Ref, without
from policies.facts import Kind
from policies.policy import Policy


@dataclass(frozen=True, slots=True)
class Load:
    """What one rule is expected to move on an average day."""

    rule: str
    studies_per_day: float
    bytes_per_day: float
    bytes_per_second: float
    """That the devices behind it take together, mounts and waits reckoned in; limits not."""
    backlog_bytes: float = 0.0
    """What matches now and waits already."""

    def __post_init__(self) -> None:
        values = (self.studies_per_day, self.bytes_per_day, self.backlog_bytes)
        if min(values) < 0 or self.bytes_per_second <= 0:
            raise ValueError(f"{self}: no value may be negative, and the rate must be above 0")


def in_the_end(expression: Expression) -> Expression:
    """The condition as if its time had come: without what passes (``received > 1 day``) and what changes
    because policies ran. What arrives and meets it is the load of its rule."""
    root = without(expression.root, _passes) or Constant(0, 0, value=True)
    return Expression(expression.text, root)


def _passes(ref: Ref) -> bool:
    fact = ref.fact
    timed = fact.kind in (Kind.ELAPSED, Kind.DAYS, Kind.LEFT) and fact.name != "patient_age"
    return timed or not fact.in_scope or fact.name in ("accesses", "recalls")


@dataclass(frozen=True, slots=True)
class Carriage:
    """How a policy's load compares with what its schedule gives."""

    policy: str
    needed: timedelta
    """Transfer time of an average day that it may run."""
    open: timedelta
    """Of such a day."""
    backlog: timedelta | None
    """Until what waits is done, as time of the calendar; None if never, or if nothing waits."""
    warnings: tuple[str, ...]
    """In words that follow ``policy 'NAME':``; empty where it carries its load."""


def carriage(policy: Policy, loads: Sequence[Load]) -> Carriage:
    """Compare ``loads``, one a rule, with the policy's windows, blackout weekdays and limits.

    :raises LookupError: a load is of a rule that the policy does not have.
    """
    for load in loads:
        policy.rule(load.rule)
    # What comes on days without a run is moved on the others.
    share = 7 / (7 - len(policy.schedule.blackout_weekdays))
    seconds = share * sum(load.bytes_per_day / _rate(policy, load) for load in loads)
    backlog_seconds = sum(load.backlog_bytes / _rate(policy, load) for load in loads)
    opened = policy.schedule.open_per_day
    spare = opened.total_seconds() - seconds
    backlog = None
    if backlog_seconds and spare > 0:
        backlog = timedelta(days=backlog_seconds / spare * share)
    needed = timedelta(seconds=seconds)
    return Carriage(
        policy.name, needed, opened, backlog, tuple(_warnings(policy, loads, needed, opened, share))
    )


def _rate(policy: Policy, load: Load) -> float:
    bandwidth = policy.limits.bandwidth
    return min(load.bytes_per_second, bandwidth) if bandwidth else load.bytes_per_second


def _warnings(
    policy: Policy, loads: Sequence[Load], needed: timedelta, opened: timedelta, share: float
) -> Iterator[str]:
    if needed > opened:
        most = max(loads, key=lambda load: load.bytes_per_day / _rate(policy, load))
        limited = policy.limits.bandwidth is not None and policy.limits.bandwidth < most.bytes_per_second
        mend = "raise the bandwidth" if limited else "widen the schedule, add drives"
        window = "window" if opened < timedelta(days=1) else "day"
        yield (
            f"its schedule cannot carry its load: needs {_hours(needed)} of a {_hours(opened)} {window}, "
            f"most of it rule '{most.rule}' with {units.say_size(most.bytes_per_day)} a day at "
            f"{units.say_rate(_rate(policy, most))}; {mend}, or let the rule match less"
        )
    runs = policy.schedule.starts_a_day
    limits = policy.limits
    studies = share * sum(load.studies_per_day for load in loads)
    size = share * sum(load.bytes_per_day for load in loads)
    if limits.studies_per_run is not None and runs * limits.studies_per_run < studies:
        most_studies = runs * limits.studies_per_run
        yield (
            f"its limit of {limits.studies_per_run} studies per run lets {most_studies:.0f} a day go and "
            f"{studies:.0f} come: raise the limit or run more often"
        )
    if limits.bytes_per_run is not None and runs * limits.bytes_per_run < size:
        yield (
            f"its limit of {units.say_size(limits.bytes_per_run)} per run lets "
            f"{units.say_size(runs * limits.bytes_per_run)} a day go and {units.say_size(size)} come: raise "
            "the limit or run more often"
        )


def _hours(length: timedelta) -> str:
    """``31 h``, ``0.5 h``."""
    return f"{length.total_seconds() / 3600:.3g} h"
