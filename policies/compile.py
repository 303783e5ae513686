"""The same tree as one SQL condition. Knows no tables: columns are handed in by source.

Negations are pushed down to the tests, which three-valued logic allows, so that every test compares
a bare column with constants and an index can serve it. A row matches where the condition is true;
false and null are not told apart.

What a rule still has to do is the caller's to add, since it knows the tables: to a copy rule "fewer
verified copies in the pool than wanted, and no live request", to a release rule "has a copy there".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, and_, case, false, func, literal, not_, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import SQLColumnExpression
from sqlalchemy.sql.functions import FunctionElement

from policies.dates import day_ranges
from policies.evaluate import DAY_KINDS, Circumstances
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
    Ref,
    Wild,
)
from policies.facts import EARLIEST_DATE, Argument, Fact, Kind
from policies.policy import Order, Policy, PolicySet

ColumnFactory = SQLColumnExpression[Any] | Callable[..., SQLColumnExpression[Any]]
"""A column, or a function that makes one: :class:`policies.facts.Argument` and
:attr:`policies.facts.Kind.TEXTS` say from what."""

Condition = ColumnElement[bool]

_OPS: dict[Op, Callable[[Any, Any], Any]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}
_NO_CODES = ("", "\\", "\\\\")


class matches(FunctionElement[bool]):
    """A case-sensitive wildcard match: GLOB on SQLite, whose LIKE ignores case, LIKE elsewhere."""

    type = Boolean()
    name = "matches"
    inherit_cache = True

    def __init__(self, column: SQLColumnExpression[Any], pattern: Pattern) -> None:
        super().__init__(column, literal(pattern.glob()), literal(pattern.sql_like()))


@compiles(matches)
def _like(element: matches, compiler: Any, **options: Any) -> str:
    column, _glob, pattern = element.clauses
    return f"({compiler.process(column, **options)} LIKE {compiler.process(pattern, **options)} ESCAPE '!')"


@compiles(matches, "sqlite")
def _glob(element: matches, compiler: Any, **options: Any) -> str:
    column, pattern, _like = element.clauses
    return f"({compiler.process(column, **options)} GLOB {compiler.process(pattern, **options)})"


def compile_expression(
    expression: Expression, columns: Mapping[str, ColumnFactory], now: datetime, fills: Mapping[str, float]
) -> Condition:
    """The condition that is true for exactly the rows for which ``evaluate`` says True.

    :param columns: by source; what each must hold is said at :class:`policies.facts.Kind` and
        :class:`policies.facts.Argument`.
    :param now: aware; ages count days up to its own date.
    :param fills: fraction of each pool in use, 0 to 1.
    :raises LookupError: ``columns`` lacks a source that the expression uses.
    """
    return _Compiler(columns, Circumstances(now, fills)).node(expression.root, negate=False)


def compile_ownership(
    policies: PolicySet,
    policy: Policy,
    columns: Mapping[str, ColumnFactory],
    now: datetime,
    fills: Mapping[str, float],
) -> Condition:
    """True for the studies that ``policy`` owns: its scope holds and that of no policy before it does."""
    own = compile_expression(policy.scope, columns, now, fills)
    earlier = [other for other in policies.policies if other.priority < policy.priority]
    others = [
        not_(func.coalesce(compile_expression(other.scope, columns, now, fills), false()))
        for other in earlier
    ]
    return and_(own, *others)


def compile_order(
    order: tuple[Order, ...], columns: Mapping[str, ColumnFactory]
) -> tuple[ColumnElement[Any], ...]:
    """ORDER BY terms; unknown values come last whatever the direction."""
    terms: list[ColumnElement[Any]] = []
    for term in order:
        column = _column(columns, term.fact)
        kind = term.fact.kind
        if kind in (*DAY_KINDS, Kind.DATE):
            terms.append(case((column >= EARLIEST_DATE, 0), else_=1))
        # An elapsed time grows as its start goes back.
        descending = term.descending is not (kind in (Kind.ELAPSED, Kind.DAYS))
        terms.append(column.desc() if descending else column.asc())
    return tuple(terms)


def _column(columns: Mapping[str, ColumnFactory], fact: Fact) -> SQLColumnExpression[Any]:
    column = columns.get(fact.source)
    if column is None:
        raise LookupError(f"no column for {fact.source!r}, which the fact {fact.name} needs")
    return column  # type: ignore[return-value]  # facts without an argument are columns


class _Compiler:
    def __init__(self, columns: Mapping[str, ColumnFactory], at: Circumstances) -> None:
        self.columns = columns
        self.at = at

    def node(self, node: Node, *, negate: bool) -> Condition:
        if isinstance(node, Constant):
            return _constant(node.value is not negate)
        if isinstance(node, Named):
            return self.node(node.body.root, negate=negate)
        if isinstance(node, Not):
            return self.node(node.part, negate=not negate)
        if isinstance(node, (And, Or)):
            parts = [self.node(part, negate=negate) for part in node.parts]
            return and_(*parts) if isinstance(node, And) is not negate else or_(*parts)
        if isinstance(node, Leaf):
            return self.leaf(node, negate)
        raise TypeError(f"not a node: {node!r}")

    def leaf(self, leaf: Leaf, negate: bool) -> Condition:
        kind = leaf.ref.fact.kind
        if kind is Kind.FRACTION:
            return self.fraction(leaf, negate)
        column = self.column(leaf.ref)
        if kind is Kind.TEXTS:
            return _texts(leaf, column, negate)
        if isinstance(leaf, IsNull):
            return _known(column, kind) if negate else _unknown(column, kind)
        if isinstance(leaf, Holds):
            return not_(column) if negate else column  # type: ignore[no-any-return]
        if kind is Kind.CODES:
            return _codes(leaf, column, negate)
        if kind in DAY_KINDS and isinstance(leaf, (Compare, Between)):
            ranges = day_ranges(leaf, negate, self.at.now)
            return or_(*(_in_range(column, dates.first, dates.last) for dates in ranges))
        if kind is Kind.ELAPSED and isinstance(leaf, (Compare, Between)):
            return self.elapsed(leaf, column, negate)
        test = _plain(leaf, column, negate)
        equals = isinstance(leaf, Among) or (isinstance(leaf, Compare) and leaf.op is Op.EQ)
        if kind not in (Kind.TEXT, Kind.DATE) or (equals and not negate):
            return test
        return and_(test, _known(column, kind))

    def column(self, ref: Ref) -> Any:
        """A column, or of a set of texts the function that tests them."""
        factory: Any = _column(self.columns, ref.fact)
        match ref.fact.argument:
            case Argument.POOL:
                return factory(*ref.names)
            case Argument.ONE_POOL:
                return factory(ref.pool)
            case Argument.SITES:
                return factory(ref.site_by_pool)
            case Argument.WINDOW:
                assert ref.window is not None
                return factory(self.at.now - ref.window)
            case _:
                return factory

    def fraction(self, leaf: Leaf, negate: bool) -> Condition:
        fill = self.at.fills.get(leaf.ref.pool)
        if fill is None:
            return _constant(False)
        if isinstance(leaf, Compare):
            value = _OPS[leaf.op](fill, leaf.value)
        elif isinstance(leaf, Between):
            low: Any = leaf.low
            high: Any = leaf.high
            value = low <= fill <= high
        else:
            raise TypeError(f"{leaf.ref} cannot be tested with {type(leaf).__name__}")
        return _constant(bool(value) is not negate)

    def elapsed(self, leaf: Compare | Between, column: Any, negate: bool) -> Condition:
        now: Any = self.at.now
        if isinstance(leaf, Between):
            if negate:
                return or_(column > now - leaf.low, column < now - leaf.high)
            return and_(column <= now - leaf.low, column >= now - leaf.high)
        op = leaf.op.negated if negate else leaf.op
        result: Condition = _OPS[op.mirrored](column, now - leaf.value)
        return result


def _constant(value: bool) -> Condition:
    return true() if value else false()


def _plain(leaf: Leaf, column: Any, negate: bool) -> Condition:
    result: Condition
    if isinstance(leaf, Compare):
        result = _OPS[leaf.op.negated if negate else leaf.op](column, leaf.value)
    elif isinstance(leaf, Between):
        result = or_(column < leaf.low, column > leaf.high) if negate else column.between(leaf.low, leaf.high)
    elif isinstance(leaf, Among):
        result = column.not_in(leaf.values) if negate else column.in_(leaf.values)
    elif isinstance(leaf, Like):
        result = not_(matches(column, leaf.pattern)) if negate else matches(column, leaf.pattern)
    else:
        raise TypeError(f"not a test: {leaf!r}")
    return result


def _codes(leaf: Leaf, column: Any, negate: bool) -> Condition:
    if isinstance(leaf, Compare):
        codes, wanted = [str(leaf.value)], leaf.op is Op.EQ
    elif isinstance(leaf, Among):
        codes, wanted = [str(code) for code in leaf.values], True
    else:
        raise TypeError(f"{leaf.ref} is a set of codes and cannot be tested with {type(leaf).__name__}")
    having = [matches(column, Pattern((Wild.ANY, f"\\{code}\\", Wild.ANY))) for code in codes]
    if wanted is not negate:
        return or_(*having)
    return and_(*(not_(have) for have in having), _known(column, Kind.CODES))


def _texts(leaf: Leaf, having: Callable[[Callable[[Any], Condition]], Condition], negate: bool) -> Condition:
    """A test of a set of texts; ``having`` is the condition that one of them meets a test."""
    any_at_all = having(lambda column: column != "")
    if isinstance(leaf, IsNull):
        return any_at_all if negate else not_(any_at_all)
    positive = not (isinstance(leaf, Compare) and leaf.op is Op.NE)
    if isinstance(leaf, Compare):
        values = [leaf.value]
    elif isinstance(leaf, Among):
        values = list(leaf.values)
    elif isinstance(leaf, Like):
        pattern = leaf.pattern
        values = []
    else:
        raise TypeError(f"{leaf.ref} is a set of texts and cannot be tested with {type(leaf).__name__}")
    if values:
        found = having(lambda column: column.in_(values) if len(values) > 1 else column == values[0])
    else:
        found = having(lambda column: and_(column != "", matches(column, pattern)))
    if positive is not negate:
        return found
    return not_(found) if leaf.ref.fact.empty_is_known else and_(not_(found), any_at_all)


def _in_range(column: Any, first: str | None, last: str | None) -> Condition:
    """Dates before the earliest, the empty one among them, are in no range."""
    first = max(first or EARLIEST_DATE, EARLIEST_DATE)
    after: Condition = column >= first
    return and_(after, column <= last) if last is not None else after


def _known(column: Any, kind: Kind) -> Condition:
    if kind in (*DAY_KINDS, Kind.DATE):
        return column >= EARLIEST_DATE  # type: ignore[no-any-return]
    if kind is Kind.ELAPSED:
        return column.is_not(None)  # type: ignore[no-any-return]
    if kind is Kind.CODES:
        return column.not_in(_NO_CODES)  # type: ignore[no-any-return]
    known: Condition = column != ""
    return known


def _unknown(column: Any, kind: Kind) -> Condition:
    if kind is Kind.ELAPSED:
        return column.is_(None)  # type: ignore[no-any-return]
    if kind in (*DAY_KINDS, Kind.DATE):
        return or_(column.is_(None), column < EARLIEST_DATE)
    if kind is Kind.CODES:
        return or_(column.is_(None), column.in_(_NO_CODES))
    return or_(column.is_(None), column == "")
