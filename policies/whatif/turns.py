"""When the passing of time may change what rules say about a study.

The simulator looks at a study again when something happened to it, and at the times that these tests
name; never at every study in every run. A time may be named at which nothing changes, but none at which
something changes may be left out: a test proves it against :func:`policies.trace.next_change`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from policies.expr import Between, Compare, Expression, Leaf, Op, leaves
from policies.facts import Argument, Kind
from policies.policy import PolicySet, Rule
from policies.whatif.moments import DAY, NEVER, Micros, length, micros
from policies.whatif.stock import Study


class Turns:
    """Of some expressions and rules together."""

    def __init__(self, expressions: Iterable[Expression], rules: Iterable[Rule] = ()) -> None:
        elapsed: dict[str, set[Micros]] = {}
        days: dict[tuple[str, int], set[int]] = {}
        pools: dict[tuple[str, str], set[Micros]] = {}
        windows: set[Micros] = set()
        for expression in expressions:
            for leaf in leaves(expression.root):
                kind, source = leaf.ref.fact.kind, leaf.ref.fact.source
                lengths = _lengths(leaf)
                if leaf.ref.fact.argument is Argument.WINDOW:
                    windows.add(length(leaf.ref.window or timedelta(0)))
                elif kind is Kind.ELAPSED and leaf.ref.fact.of_pool:
                    pools.setdefault((source, leaf.ref.pool), set()).update(_spans(leaf))
                elif kind is Kind.ELAPSED:
                    elapsed.setdefault(source, set()).update(_spans(leaf))
                elif kind in (Kind.DAYS, Kind.LEFT):
                    sign = 1 if kind is Kind.DAYS else -1
                    whole = days.setdefault((source, sign), set())
                    whole |= {
                        sign * (each // timedelta(days=1)) + more for each in lengths for more in (-1, 0, 1)
                    }
                    if kind is Kind.LEFT:
                        whole |= {0, 1}
        for rule in rules:
            if rule.leaves:  # retention refuses up to its last day
                days.setdefault(("retain_until", -1), set()).update((0, 1))
            if rule.minimum_residency is not None:
                spans = pools.setdefault(("resident_since", rule.leaves), set())
                spans.add(length(rule.minimum_residency))
        self._elapsed = {source: sorted(spans) for source, spans in elapsed.items()}
        self._days = {source: sorted(whole) for source, whole in days.items()}
        self._pools = {key: sorted(spans) for key, spans in pools.items()}
        self._windows = sorted(windows)

    @property
    def longest_window(self) -> Micros:
        return self._windows[-1] if self._windows else 0

    def next(self, study: Study, now: Micros) -> Micros:
        """The first such time after now; :data:`NEVER` if there is none."""
        found = NEVER
        for source, spans in self._elapsed.items():
            base = study.accessed if source == "accessed_at" else study.received
            found = min(found, _after(base, spans, now))
        for (source, _), whole in self._days.items():
            found = min(found, _after_days(study.values.get(source), whole, now))
        for (source, pool), spans in self._pools.items():
            for copy in study.copies:
                if copy.pool == pool:
                    base = copy.since if source == "resident_since" else copy.verified
                    found = min(found, _after(base, spans, now))
        for window in self._windows:
            for access in study.accesses:  # it counts up to the instant at which it leaves the window
                if now < access + window + 1 < found:
                    found = access + window + 1
        return found

    def since_arrival(self, study: Study, now: Micros) -> list[Micros]:
        """The times up to now at which a study that nobody has asked for would have been looked at."""
        found = {study.received + span for spans in self._elapsed.values() for span in spans}
        for (source, _), whole in self._days.items():
            day = _midnight(study.values.get(source))
            if day is not None:
                found |= {day + days * DAY for days in whole}
        return sorted(at for at in found if study.received <= at <= now)


def _after(base: Micros, spans: list[Micros], now: Micros) -> Micros:
    place = bisect_right(spans, now - base)
    return base + spans[place] if place < len(spans) else NEVER


def _after_days(day: object, whole: list[int], now: Micros) -> Micros:
    begin = _midnight(day)
    if begin is None:
        return NEVER
    place = bisect_right(whole, (now - begin) // DAY)
    return begin + whole[place] * DAY if place < len(whole) else NEVER


def _midnight(day: object) -> Micros | None:
    """At which a day of ``YYYYMMDD`` begins; None if it is not known, or in no calendar."""
    try:
        return micros(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)) if isinstance(day, str) else None
    except ValueError:
        return None


def _lengths(leaf: Leaf) -> list[timedelta]:
    values: list[object] = []
    if isinstance(leaf, Compare):
        values = [leaf.value]
    elif isinstance(leaf, Between):
        values = [leaf.low, leaf.high]
    return [value for value in values if isinstance(value, timedelta)]


def _spans(leaf: Leaf) -> set[Micros]:
    """How long after its base an elapsed time's test turns: at the length itself, or just after it."""
    after = 1  # the first microsecond that is more
    if isinstance(leaf, Compare) and isinstance(leaf.value, timedelta):
        return {length(leaf.value) + (after if leaf.op in (Op.GT, Op.LE) else 0)}
    if isinstance(leaf, Between) and isinstance(leaf.low, timedelta) and isinstance(leaf.high, timedelta):
        return {length(leaf.low), length(leaf.high) + after}
    return set()


def timed_pools(policies: PolicySet) -> frozenset[str]:
    """Pools of which some rule asks since when a study is there, or when it was read back."""
    rules = [rule for policy in policies.policies for rule in policy.rules]
    asked = {leaf.ref.pool for rule in rules for leaf in leaves(rule.when.root) if leaf.ref.fact.of_pool}
    priors = [rule.priors.when for rule in rules if rule.priors is not None]
    asked |= {leaf.ref.pool for when in priors for leaf in leaves(when.root) if leaf.ref.fact.of_pool}
    return frozenset(asked | {rule.leaves for rule in rules if rule.minimum_residency is not None})
