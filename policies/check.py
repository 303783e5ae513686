"""Syntax tree -> typed expression: names, pools, types and units, every finding at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from policies import units
from policies.errors import Fault, did_you_mean
from policies.expr import (
    Among,
    And,
    Between,
    Compare,
    Constant,
    Expression,
    IsNull,
    Like,
    Node,
    Not,
    Op,
    Or,
    Pattern,
    Ref,
    Value,
)
from policies.facts import FACTS, MODALITIES, Kind
from policies.parse import Item, Syntax, SyntaxFault, parse

TESTS_MAX = 300
"""Databases bound the depth of an expression; SQLite at 1000."""

_NAMES = ("name", "call")
_ELAPSED = (Kind.ELAPSED, Kind.DAYS)
_ORDERED = (*_ELAPSED, Kind.COUNT, Kind.SIZE, Kind.DATE, Kind.FRACTION)
_EXAMPLES = {
    Kind.TEXT: "text such as 'St. Mary'",
    Kind.CODES: "a code such as CT",
    Kind.COUNT: "a whole number such as 2",
    Kind.SIZE: "a size such as 500 MB or 1.5 TiB",
    Kind.ELAPSED: "a length of time such as 90d or 18 months",
    Kind.DAYS: "a length of time such as 90d or 18 months",
    Kind.DATE: "a date such as 2024-01-31",
    Kind.FRACTION: "a percentage such as 85%",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """``expression`` is None if any of ``faults`` is an error."""

    expression: Expression | None
    faults: tuple[Fault, ...]


class _Wrong(Exception):
    """Abandons one test; its fault is already noted."""


def check_expression(text: str, pools: Collection[str], *, scope: bool = False) -> Checked:
    """Parse and check one expression against the fact table and the known ``pools``.

    ``scope`` forbids facts that change because a policy ran (copies, fill).
    """
    try:
        tree = parse(text)
    except SyntaxFault as error:
        return Checked(None, (error.fault,))
    checker = _Checker(pools, scope)
    root = checker.node(tree)
    if checker.tests > TESTS_MAX:
        checker.fault(0, len(text), f"more than {TESTS_MAX} conditions: use in (...) or split the rule")
    faults = tuple(sorted(checker.faults, key=lambda fault: fault.start))
    bad = root is None or any(not fault.warning for fault in faults)
    return Checked(None if bad or root is None else Expression(text, root), faults)


class _Checker:
    def __init__(self, pools: Collection[str], scope: bool) -> None:
        self.pools = pools
        self.scope = scope
        self.faults: list[Fault] = []
        self.tests = 0

    def fault(self, start: int, end: int, message: str, *, warning: bool = False) -> None:
        self.faults.append(Fault(start, end, message, warning))

    def wrong(self, item: Item, message: str) -> _Wrong:
        self.fault(item.start, item.end, message)
        return _Wrong()

    def node(self, tree: Syntax) -> Node | None:
        """The checked node; None where there is an error in it."""
        if tree.kind in ("or", "and", "not"):
            parts = [self.node(part) for part in tree.parts]
            good = tuple(part for part in parts if part is not None)
            if len(good) < len(parts):
                return None
            if tree.kind == "not":
                return Not(tree.start, tree.end, good[0])
            return (And if tree.kind == "and" else Or)(tree.start, tree.end, good)
        if tree.kind in ("always", "never"):
            return Constant(tree.start, tree.end, tree.kind == "always")
        self.tests += 1
        try:
            return self.test(tree)
        except _Wrong:
            return None

    def test(self, tree: Syntax) -> Node:
        kind = tree.kind.removeprefix("not_")
        handlers: dict[str, Callable[[Syntax], Node]] = {
            "comparison": self.comparison,
            "among": self.among,
            "between": self.between,
            "like": self.like,
            "null": self.null,
        }
        node = handlers[kind](tree)
        return Not(tree.start, tree.end, node) if kind != tree.kind else node

    # facts

    def ref(self, item: Item) -> Ref:
        if item.kind not in ("name", "call"):
            raise self.wrong(item, f"expected the name of a fact.{did_you_mean('', FACTS)}")
        fact = FACTS.get(item.text) or FACTS.get(item.text.lower())
        if fact is None:
            raise self.wrong(item, f"'{item.text}' is not a fact.{did_you_mean(item.text, FACTS)}")
        if self.scope and not fact.in_scope:
            self.fault(
                item.start,
                item.end,
                f"a scope says which studies a policy owns and may not depend on {fact.name}: "
                "write this condition in the when of a rule",
            )
        if not fact.of_pool:
            if item.argument is not None:
                raise self.wrong(item, f"{fact.name} takes no parentheses: write {fact.name}")
            return Ref(fact)
        if item.argument is None:
            known = ", ".join(sorted(self.pools)) or "none"
            raise self.wrong(
                item, f"{fact.name} needs a pool: write {fact.name}(POOL). Known pools: {known}."
            )
        pool = item.argument.text
        if pool not in self.pools:
            raise self.wrong(item.argument, f"there is no pool '{pool}'.{did_you_mean(pool, self.pools)}")
        return Ref(fact, pool)

    def is_fact(self, item: Item) -> bool:
        return item.kind == "call" or (item.kind == "name" and item.text.lower() in FACTS)

    # tests

    def comparison(self, tree: Syntax) -> Node:
        left, right = tree.items
        op = Op(tree.operator)
        if self.is_fact(left) and self.is_fact(right):
            raise self.wrong(right, f"compare {left.text} with a value, not with another fact")
        if not self.is_fact(left) and (
            self.is_fact(right) or (left.kind not in _NAMES and right.kind in _NAMES)
        ):
            left, right, op = right, left, op.mirrored
        ref = self.ref(left)
        kind = ref.fact.kind
        sign_end = tree.operator_at + len(tree.operator)
        if op in (Op.EQ, Op.NE) and kind in _ELAPSED:
            self.fault(
                tree.operator_at,
                sign_end,
                f"{ref} is never exactly a length of time: write < or >, or between",
            )
            raise _Wrong
        if op not in (Op.EQ, Op.NE) and kind not in _ORDERED:
            self.fault(
                tree.operator_at,
                sign_end,
                f"{ref} is {_a(kind)} and has no order: write =, != or in{_or_like(kind)}",
            )
            raise _Wrong
        return Compare(tree.start, tree.end, ref, op, self.value(right, ref))

    def among(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        if ref.fact.kind in (*_ELAPSED, Kind.FRACTION):
            raise self.wrong(
                tree.items[0], f"{ref} is {_a(ref.fact.kind)}: write between, or < and >, instead of in"
            )
        values = self.all_values(tree.items[1:], ref)
        if ref.fact.kind is Kind.CODES:
            self.tests += len(values) - 1  # each code becomes a test of its own in SQL
        return Among(tree.start, tree.end, ref, tuple(dict.fromkeys(values)))

    def between(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        if ref.fact.kind not in _ORDERED:
            raise self.wrong(
                tree.items[0],
                f"{ref} is {_a(ref.fact.kind)} and has no order: write in (...) instead of between",
            )
        low, high = self.all_values(tree.items[1:], ref)
        if low > high:  # type: ignore[operator]  # both are of the one type of the fact's kind
            first, second = tree.items[1:]
            self.fault(
                first.start,
                second.end,
                "between has its ends the wrong way round: write the smaller one first",
            )
            raise _Wrong
        return Between(tree.start, tree.end, ref, low, high)

    def like(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        pattern = tree.items[1]
        if ref.fact.kind is not Kind.TEXT:
            instead = "in (CT, MR)" if ref.fact.kind is Kind.CODES else "=, <, > or between"
            raise self.wrong(
                pattern, f"like is for text and {ref} is {_a(ref.fact.kind)}: write {ref} with {instead}"
            )
        if pattern.kind not in ("string", "name"):
            raise self.wrong(pattern, f"like needs text in quotes: write {ref} like 'CT*'")
        if "%" in pattern.text and "*" not in pattern.text:
            self.fault(
                pattern.start,
                pattern.end,
                "% is an ordinary character here: any characters are written *",
                warning=True,
            )
        return Like(tree.start, tree.end, ref, Pattern.read(pattern.text))

    def null(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        if not ref.fact.nullable:
            raise self.wrong(tree.items[0], f"{ref} is always known: leave out is null")
        return IsNull(tree.start, tree.end, ref)

    # values

    def all_values(self, items: tuple[Item, ...], ref: Ref) -> list[Value]:
        values: list[Value] = []
        for item in items:
            try:
                values.append(self.value(item, ref))
            except _Wrong:
                continue
        if len(values) < len(items):
            raise _Wrong
        return values

    def value(self, item: Item, ref: Ref) -> Value:
        """``item`` as the type of ``ref``."""
        kind = ref.fact.kind
        if kind in (Kind.TEXT, Kind.CODES):
            return self.text(item, ref)
        if kind is Kind.DATE:
            return self.date(item, ref)
        try:
            if kind in _ELAPSED and item.number is not None:
                if item.kind == "quantity":
                    return units.duration(item.number, item.text)
                if item.kind == "number":
                    if item.number == 0:
                        return units.duration(Decimal(0), "s")
                    raise self.wrong(
                        item, f"{item.text} of what? write a unit, as in {item.text}d or {item.text} min"
                    )
            if kind is Kind.SIZE and item.number is not None:
                if item.kind == "quantity":
                    return units.size(item.number, item.text)
                if item.kind == "number":
                    if item.number == 0:
                        return 0
                    raise self.wrong(
                        item, f"{item.text} of what? write a unit, as in {item.text} MB or {item.text} GiB"
                    )
        except units.UnitError as error:
            raise self.wrong(item, str(error)) from None
        if kind is Kind.COUNT and item.kind == "number" and item.number is not None:
            return self.count(item, item.number, ref)
        if kind is Kind.FRACTION and item.kind == "percent" and item.number is not None:
            if item.number > 100:
                raise self.wrong(item, f"{item.number}% is more than the whole pool: write at most 100%")
            return float(item.number / 100)
        raise self.mismatch(item, ref)

    def mismatch(self, item: Item, ref: Ref) -> _Wrong:
        kind = ref.fact.kind
        extra = ""
        if kind in _ELAPSED and item.kind == "date":
            extra = "; for dates write study_date"
        if kind is Kind.FRACTION and item.kind == "number" and item.number is not None:
            extra = f"; did you mean {_percentage(item.number)}?"
        return self.wrong(item, f"{ref} is {_a(kind)}: expected {_EXAMPLES[kind]}{extra}")

    def count(self, item: Item, number: Decimal, ref: Ref) -> int:
        if number != int(number):
            raise self.wrong(item, f"{ref} is a whole number: write {int(number)} or {int(number) + 1}")
        if number > units.LARGEST:
            raise self.wrong(item, f"{number} is too large: write at most {units.LARGEST}")
        return int(number)

    def date(self, item: Item, ref: Ref) -> str:
        if item.kind != "date":
            if item.kind == "quantity":
                raise self.wrong(
                    item,
                    f"{ref} is a date: expected a date such as 2024-01-31; for lengths of time write age",
                )
            raise self.mismatch(item, ref)
        try:
            return date.fromisoformat(item.text).strftime("%Y%m%d").rjust(8, "0")
        except ValueError:
            raise self.wrong(
                item, f"{item.text} is not in the calendar: expected year-month-day, as in 2024-01-31"
            ) from None

    def text(self, item: Item, ref: Ref) -> str:
        if item.kind not in ("string", "name"):
            written = item.text if item.kind != "quantity" else f"{item.number}{item.text}"
            raise self.wrong(item, f"{ref} is {_a(ref.fact.kind)}: write the value in quotes: '{written}'")
        if item.kind == "string" and re.search(r"(?<!\\)\*", item.text):
            advice = (
                "write the codes one by one: in (CT, MR)"
                if ref.fact.kind is Kind.CODES
                else f"write {ref} like '{item.text}'"
            )
            raise self.wrong(
                item, rf"* is a wildcard only after like: {advice}, or \* for the character itself"
            )
        text = re.sub(r"\\(.)", r"\1", item.text)
        if not text.strip():
            raise self.wrong(item, f"{ref} that is empty is not known: write {ref} is null")
        if ref.fact.kind is Kind.CODES:
            self.code(item, text)
        return text

    def code(self, item: Item, text: str) -> None:
        if "\\" in text:
            raise self.wrong(
                item, f"a code holds no backslash: write {text.split(chr(92), maxsplit=1)[0] or 'CT'}"
            )
        if text not in MODALITIES:
            close = {"MRI": "MR", "CAT": "CT", "XR": "DX", "PET": "PT", "USG": "US"}.get(text.upper())
            hint = f" Did you mean '{close}'?" if close else did_you_mean(text, MODALITIES)
            hint = hint if "Did" in hint else ""
            self.fault(
                item.start, item.end, f"'{text}' is not a modality that DICOM defines.{hint}", warning=True
            )


def _percentage(number: Decimal) -> str:
    """What was probably meant: 0.85 and 85 are both 85%."""
    return f"{(number * 100 if number <= 1 else number).normalize():f}%"


def _a(kind: Kind) -> str:
    name = {Kind.ELAPSED: "length of time", Kind.DAYS: "length of time"}.get(kind, kind.value)
    return name if kind is Kind.TEXT else f"a {name}"


def _or_like(kind: Kind) -> str:
    return ", or like for text with wildcards" if kind is Kind.TEXT else ""
