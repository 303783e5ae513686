"""What conditions can be true together: ranges and sets of values a fact, over all ways to be true.

Three answers are wanted: can this ever hold, can these two hold of one study, does this one say more
than that one. A condition becomes alternatives, each a list of tests that must all come out as said;
an alternative is impossible where no value of some fact meets its tests. Where there are too many
alternatives the answer is the careful one: it can hold.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from policies.expr import (
    Among,
    And,
    Between,
    Compare,
    Constant,
    Expression,
    Holds,
    IsNull,
    Leaf,
    Like,
    Named,
    Node,
    Not,
    Op,
    Or,
    Pattern,
    Wild,
)
from policies.facts import Argument, Kind
from policies.literals import SETS

ALTERNATIVES_MAX = 400


class Must(enum.Enum):
    """What the value of a condition must be; in three-valued logic not true is more than false."""

    TRUE = "true"
    FALSE = "false"
    NOT_TRUE = "not true"
    NOT_FALSE = "not false"


_TURNED = {
    Must.TRUE: Must.FALSE,
    Must.FALSE: Must.TRUE,
    Must.NOT_TRUE: Must.NOT_FALSE,
    Must.NOT_FALSE: Must.NOT_TRUE,
}
_POSITIVE = (Must.TRUE, Must.NOT_FALSE)


@dataclass(frozen=True, slots=True)
class Test:
    """One test that must come out true or false; ``unknown`` that its fact must not be known."""

    __test__ = False  # not a test of pytest's

    leaf: Leaf
    positive: bool = True
    unknown: bool = False


class TooMany(Exception):
    """More alternatives than are worth looking at."""


Alternative = tuple[Test, ...]


def impossible(*terms: tuple[Node, Must]) -> str:
    """Why the terms can never all be as they must, or nothing."""
    try:
        alternatives = _all([_alternatives(node, must) for node, must in terms])
    except TooMany:
        return ""
    first = ""
    for alternative in alternatives:
        why = _conflict(alternative)
        if not why:
            return ""
        first = first or why
    return first or "its condition is never true"


def disjoint(first: Expression, second: Expression) -> bool:
    """Whether no study can meet both."""
    return bool(impossible((first.root, Must.TRUE), (second.root, Must.TRUE)))


def implies(first: Expression, second: Expression) -> bool:
    """Whether every study that meets ``first`` meets ``second``; False also where it cannot be seen."""
    return bool(impossible((first.root, Must.TRUE), (second.root, Must.NOT_TRUE)))


def _alternatives(node: Node, must: Must) -> list[Alternative]:
    if isinstance(node, Constant):
        return [()] if node.value is (must in _POSITIVE) else []
    if isinstance(node, Named):
        return _alternatives(node.body.root, must)
    if isinstance(node, Not):
        return _alternatives(node.part, _TURNED[must])
    if isinstance(node, (And, Or)):
        parts = [_alternatives(part, must) for part in node.parts]
        together = isinstance(node, And) is (must in _POSITIVE)
        return _all(parts) if together else _bounded([each for part in parts for each in part])
    if isinstance(node, IsNull):
        return [(Test(node, unknown=True),)] if must in _POSITIVE else [(Test(node, positive=False),)]
    if isinstance(node, Leaf):
        found: list[Alternative] = [(Test(node, must in _POSITIVE),)]
        if must in (Must.NOT_TRUE, Must.NOT_FALSE) and (node.ref.fact.nullable or _is_fill(node)):
            found.append((Test(node, unknown=True),))
        return found
    raise TypeError(f"not a node: {node!r}")


def _is_fill(leaf: Leaf) -> bool:
    return leaf.ref.fact.kind is Kind.FRACTION


def _all(parts: Sequence[list[Alternative]]) -> list[Alternative]:
    """The alternatives of parts that must all hold."""
    found: list[Alternative] = [()]
    for part in parts:
        if len(found) * len(part) > ALTERNATIVES_MAX:
            raise TooMany
        found = [(*one, *other) for one, other in product(found, part)]
    return found


def _bounded(found: list[Alternative]) -> list[Alternative]:
    if len(found) > ALTERNATIVES_MAX:
        raise TooMany
    return found


# one alternative


def _conflict(tests: Iterable[Test]) -> str:
    """Why no study meets all tests, or nothing."""
    by_fact: dict[str, list[Test]] = {}
    for test in tests:
        by_fact.setdefault(str(test.leaf.ref), []).append(test)
    for name, each in by_fact.items():
        if not _possible(each):
            return f"no value of {name} meets all its conditions; mend the bounds of {name}"
    return _accessed_yet_idle(by_fact)


def _possible(tests: list[Test]) -> bool:
    fact = tests[0].leaf.ref.fact
    unknown = [test for test in tests if test.unknown]
    asked = [test for test in tests if not test.unknown]
    if unknown and (asked or not (fact.nullable or _is_fill(unknown[0].leaf))):
        return False
    if unknown:
        return True
    asked = [test for test in asked if not isinstance(test.leaf, IsNull)]
    if fact.kind is Kind.FLAG:
        return len({test.positive for test in asked if isinstance(test.leaf, Holds)}) <= 1
    if fact.kind in SETS:
        return _set_possible(asked)
    if fact.kind is Kind.TEXT:
        return _text_possible(asked, fact.choices)
    return _range(asked).possible


@dataclass(slots=True)
class _Range:
    """Bounds of an ordered fact; None is without bound."""

    low: Any = None
    low_open: bool = False
    high: Any = None
    high_open: bool = False
    out: tuple[Any, ...] = ()
    """Values, and pairs of values between which there is nothing."""
    only: frozenset[Any] | None = None

    def above(self, value: Any, *, open_: bool) -> None:
        if self.low is None or (value, open_) > (self.low, self.low_open):
            self.low, self.low_open = value, open_

    def below(self, value: Any, *, open_: bool) -> None:
        if self.high is None or (value, not open_) < (self.high, not self.high_open):
            self.high, self.high_open = value, open_

    def holds(self, value: Any) -> bool:
        if self.low is not None and (value < self.low or (value == self.low and self.low_open)):
            return False
        if self.high is not None and (value > self.high or (value == self.high and self.high_open)):
            return False
        return not any(
            gap[0] <= value <= gap[1] if isinstance(gap, tuple) else gap == value for gap in self.out
        )

    @property
    def possible(self) -> bool:
        if self.only is not None:
            return any(self.holds(value) for value in self.only)
        if self.low is None or self.high is None:
            return True
        if self.low > self.high or (self.low == self.high and (self.low_open or self.high_open)):
            return False
        if self.low == self.high:
            return self.holds(self.low)
        return not any(
            isinstance(gap, tuple) and gap[0] <= self.low and self.high <= gap[1] for gap in self.out
        )


_LEAST: dict[Kind, Any] = {
    Kind.COUNT: 0,
    Kind.SIZE: 0,
    Kind.FRACTION: 0.0,
}


def _range(tests: Iterable[Test]) -> _Range:
    found = _Range()
    for test in tests:
        leaf, kind = test.leaf, test.leaf.ref.fact.kind
        if kind in _LEAST:
            found.above(_LEAST[kind], open_=False)
        if kind is Kind.FRACTION:
            found.below(1.0, open_=False)
        if isinstance(leaf, Compare):
            _bound(found, leaf.op if test.positive else leaf.op.negated, leaf.value, kind)
        elif isinstance(leaf, Between) and test.positive:
            found.above(leaf.low, open_=False)
            found.below(leaf.high, open_=False)
        elif isinstance(leaf, Between):
            found.out = (*found.out, (leaf.low, leaf.high))
        elif isinstance(leaf, Among) and test.positive:
            values = frozenset(leaf.values)
            found.only = values if found.only is None else found.only & values
        elif isinstance(leaf, Among):
            found.out = (*found.out, *leaf.values)
    return found


def _bound(found: _Range, op: Op, value: Any, kind: Kind) -> None:
    whole = kind in (Kind.COUNT, Kind.SIZE)  # between 1 and 2 there is no number of copies
    if op is Op.NE:
        found.out = (*found.out, value)
    if op in (Op.GE, Op.EQ):
        found.above(value, open_=False)
    if op in (Op.LE, Op.EQ):
        found.below(value, open_=False)
    if op is Op.GT:
        found.above(value + 1 if whole else value, open_=not whole)
    if op is Op.LT:
        found.below(value - 1 if whole else value, open_=not whole)


def _values(leaf: Leaf) -> frozenset[str]:
    if isinstance(leaf, Compare):
        return frozenset({str(leaf.value)})
    return frozenset(map(str, leaf.values)) if isinstance(leaf, Among) else frozenset()


def _wants(test: Test) -> bool:
    """Whether the value is to be one of those named, != being a negation of its own."""
    leaf = test.leaf
    return test.positive is not (isinstance(leaf, Compare) and leaf.op is Op.NE)


def _text_possible(tests: list[Test], choices: tuple[str, ...]) -> bool:
    only: frozenset[str] | None = frozenset(choices) if choices else None
    out: set[str] = set()
    like: list[Pattern] = []
    unlike: list[Pattern] = []
    for test in tests:
        if isinstance(test.leaf, Like):
            (like if test.positive else unlike).append(test.leaf.pattern)
        elif _wants(test):
            only = _values(test.leaf) if only is None else only & _values(test.leaf)
        else:
            out |= _values(test.leaf)
    if only is not None:
        return any(
            text not in out
            and all(pattern.regex().fullmatch(text) for pattern in like)
            and not any(pattern.regex().fullmatch(text) for pattern in unlike)
            for text in only
        )
    if set(like) & set(unlike) or any(pattern.parts == (Wild.ANY,) for pattern in unlike):
        return False
    heads = sorted({_head(pattern) for pattern in like}, key=len)
    return all(longer.startswith(shorter) for shorter, longer in pairwise(heads))


def _head(pattern: Pattern) -> str:
    """The text before the first wildcard."""
    parts: list[str] = []
    for part in pattern.parts:
        if isinstance(part, Wild):
            break
        parts.append(part)
    return "".join(parts)


def _set_possible(tests: list[Test]) -> bool:
    wanted = [_values(test.leaf) for test in tests if not isinstance(test.leaf, Like) and _wants(test)]
    out = {
        value
        for test in tests
        if not isinstance(test.leaf, Like) and not _wants(test)
        for value in _values(test.leaf)
    }
    likes = [test for test in tests if isinstance(test.leaf, Like)]
    unlike = [test.leaf.pattern for test in likes if isinstance(test.leaf, Like) and not test.positive]
    if any(isinstance(test.leaf, Like) and test.positive and test.leaf.pattern in unlike for test in likes):
        return False
    return all(
        any(
            value not in out and not any(pattern.regex().fullmatch(value) for pattern in unlike)
            for value in some
        )
        for some in wanted
    )


def _accessed_yet_idle(by_fact: dict[str, list[Test]]) -> str:
    """A study that was retrieved within a time has not been idle for longer than it."""
    idle = by_fact.get("idle")
    if idle is None:
        return ""
    for name, tests in by_fact.items():
        ref = tests[0].leaf.ref
        if ref.fact.argument is not Argument.WINDOW or any(test.unknown for test in tests):
            continue
        accessed = _range(tests)
        least = min(accessed.only) if accessed.only else accessed.low
        within = _range(idle)
        within.below(ref.window, open_=False)
        if least is not None and least >= 1 and not within.possible:
            return f"{name} of at least {least} and such an idle exclude each other; mend one of them"
    return ""
