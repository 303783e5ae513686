"""Syntax tree -> typed expression: names, pools, classes, types and units, every finding at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from policies import units
from policies.errors import Fault, did_you_mean
from policies.expr import (
    Among,
    And,
    Between,
    Compare,
    Constant,
    Expression,
    Holds,
    IsNull,
    Like,
    Named,
    Node,
    Not,
    Op,
    Or,
    Pattern,
    Ref,
    Value,
    leaves,
)
from policies.facts import FACTS, MODALITIES, OTHER_NAMES, Argument, Fact, Kind
from policies.literals import ELAPSED, ORDERED, SETS, Wrong, a_kind, duration, read_value, wrong
from policies.parse import Item, Syntax, SyntaxFault, parse
from policies.pools import PoolInfo, PoolTable

TESTS_MAX = 300
"""Databases bound the depth of an expression; SQLite at 1000."""
CLASS = "class"
_FLAG_WORDS = {"yes": True, "true": True, "no": False, "false": False}


class Classes(Protocol):
    """The named expressions that ``class(NAME)`` stands for."""

    @property
    def names(self) -> Collection[str]: ...

    def get(self, name: str) -> Expression | None:
        """None if there is an error in it, which is noted where it stands.

        :raises LookupError: no such class, or it stands for itself; the message says which.
        """


@dataclass(frozen=True, slots=True)
class Checked:
    """``expression`` is None if any of ``faults`` is an error, or a class of it has one."""

    expression: Expression | None
    faults: tuple[Fault, ...]


def check_expression(
    text: str, pools: Iterable[PoolInfo | str], *, scope: bool = False, classes: Classes | None = None
) -> Checked:
    """Parse and check one expression against the fact table and the known ``pools``.

    ``scope`` forbids facts that change because a policy ran (copies, fill).
    """
    try:
        tree = parse(text)
    except SyntaxFault as error:
        return Checked(None, (_in_two_words(text) or error.fault,))
    table = pools if isinstance(pools, PoolTable) else PoolTable(pools)
    checker = _Checker(table, scope, classes)
    root = checker.node(tree)
    if checker.tests > TESTS_MAX:
        checker.fault(0, len(text), f"more than {TESTS_MAX} conditions: use in (...) or split the rule")
    faults = tuple(sorted(checker.faults, key=lambda fault: fault.start))
    bad = root is None or any(not fault.warning for fault in faults)
    return Checked(None if bad or root is None else Expression(text, root), faults)


def _in_two_words(text: str) -> Fault | None:
    """A fact whose name is written with a space, which no grammar reads."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"", lambda quoted: " " * len(quoted.group()), text)
    for name in FACTS:
        found = re.search(rf"\b{name.replace('_', ' +')}\b", plain, re.IGNORECASE) if "_" in name else None
        if found is not None:
            return Fault(*found.span(), f"the fact is one word: write {name}")
    return None


class _Checker:
    def __init__(self, pools: PoolTable, scope: bool, classes: Classes | None) -> None:
        self.pools = pools
        self.scope = scope
        self.classes = classes
        self.faults: list[Fault] = []
        self.tests = 0

    def fault(self, start: int, end: int, message: str, *, warning: bool = False) -> None:
        self.faults.append(Fault(start, end, message, warning))

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
        except Wrong as error:
            if error.fault is not None:
                self.faults.append(error.fault)
            return None

    def test(self, tree: Syntax) -> Node:
        kind = tree.kind.removeprefix("not_")
        handlers: dict[str, Callable[[Syntax], Node]] = {
            "bare": self.bare,
            "comparison": self.comparison,
            "among": self.among,
            "between": self.between,
            "like": self.like,
            "null": self.null,
        }
        node = handlers[kind](tree)
        return Not(tree.start, tree.end, node) if kind != tree.kind else node

    # facts and classes

    def ref(self, item: Item) -> Ref:
        if item.kind not in ("name", "call"):
            if item.kind == "string" and item.text.lower() in FACTS:
                raise wrong(item, f"the name of a fact has no quotes: write {item.text.lower()}")
            raise wrong(
                item,
                f"a condition begins with the name of a fact, as in idle > 30d.{did_you_mean('', FACTS)}",
            )
        fact = FACTS.get(item.text) or FACTS.get(item.text.lower())
        if fact is None and item.text.lower() == CLASS:
            raise wrong(item, "a class is itself true or false: write class(NAME) without a comparison")
        if fact is None:
            raise wrong(item, f"'{item.text}' is not a fact.{self.meant(item)}")
        if self.scope and not fact.in_scope:
            raise wrong(
                item,
                f"a scope says which studies a policy owns and may not depend on {fact.name}: "
                "write this condition in the when of a rule",
            )
        if fact.argument in (Argument.NONE, Argument.SITES):
            if item.argument is not None:
                raise wrong(item, f"{fact.name} takes no parentheses: write {fact.name}")
            return Ref(fact, pools=self.pools.sites.pools if fact.argument is Argument.SITES else ())
        if fact.argument is Argument.WINDOW:
            return self.window(item, fact)
        return self.of_pool(item, fact)

    def meant(self, item: Item) -> str:
        if self.classes is not None and item.text in self.classes.names:
            return f" Write class({item.text}) for the class of that name."
        if item.text in MODALITIES:
            other = "MR" if item.text == "CT" else "CT"
            return f" Write modality = {item.text}, or for several modality in ({other}, {item.text})."
        known = OTHER_NAMES.get(item.text.lower().replace("-", "_"))
        if known is not None:
            return f" Write {known}: {FACTS[known].help}."
        return did_you_mean(item.text, [*FACTS, CLASS])

    def window(self, item: Item, fact: Fact) -> Ref:
        if item.argument is None or item.argument.kind not in ("quantity", "number"):
            raise wrong(
                item,
                f"{fact.name} needs a length of time up to now: write {fact.usage} or {fact.name}(1 year)",
            )
        try:
            length = duration(item.argument)
        except units.UnitError as error:
            raise wrong(item.argument, str(error)) from None
        if not isinstance(length, timedelta) or length <= timedelta(0):
            raise wrong(item.argument, f"{fact.name} needs a length of time above 0: write {fact.usage}")
        return Ref(fact, window=length)

    def of_pool(self, item: Item, fact: Fact) -> Ref:
        if item.argument is None:
            known = ", ".join(sorted(self.pools)) or "none"
            raise wrong(item, f"{fact.name} needs a pool: write {fact.name}(POOL). Known pools: {known}.")
        if item.argument.kind not in ("name", "string"):
            raise wrong(item.argument, f"{fact.name} needs the name of a pool: write {fact.name}(POOL)")
        name = item.argument.text
        group = self.pools.group(name)
        if group is None:
            words = self.pools.words if fact.argument is Argument.POOL else self.pools
            also = " nor a kind, tier or site of one" if len(words) > len(self.pools) else ""
            raise wrong(item.argument, f"there is no pool '{name}'{also}.{did_you_mean(name, words)}")
        if fact.argument is Argument.ONE_POOL and name not in self.pools:
            each = " or ".join(f"{fact.name}({pool})" for pool in group.names)
            raise wrong(
                item.argument, f"'{name}' is a {group.by.value} and {fact.name} needs one pool: write {each}"
            )
        return Ref(fact, name, group.pools)

    def is_fact(self, item: Item) -> bool:
        return item.kind == "call" or (item.kind == "name" and item.text.lower() in FACTS)

    def bare(self, tree: Syntax) -> Node:
        (item,) = tree.items
        if item.kind == "call" and item.text.lower() == CLASS:
            return self.named(tree, item)
        ref = self.ref(item)
        if ref.fact.kind is not Kind.FLAG:
            raise Wrong(
                Fault(
                    item.end,
                    item.end + 1,
                    f"the condition stops after its first word: {ref} is {a_kind(ref)}; "
                    "write what to compare, as in idle > 30d",
                )
            )
        return Holds(tree.start, tree.end, ref)

    def named(self, tree: Syntax, item: Item) -> Node:
        argument = item.argument
        if argument is None or argument.kind not in ("name", "string"):
            raise wrong(item, "class needs the name of a class: write class(NAME)")
        if self.classes is None:
            raise wrong(item, "no classes can be used here: write the condition itself")
        try:
            body = self.classes.get(argument.text)
        except LookupError as error:
            raise wrong(argument, str(error.args[0])) from None
        if body is None:
            raise Wrong
        inner = list(leaves(body.root))
        self.tests += len(inner) - 1
        changing = [leaf.ref.fact.name for leaf in inner if not leaf.ref.fact.in_scope]
        if self.scope and changing:
            raise wrong(
                item,
                f"class {argument.text} depends on {changing[0]}, which a scope may not: "
                "write it in the when of a rule",
            )
        return Named(tree.start, tree.end, argument.text, body)

    # tests

    def comparison(self, tree: Syntax) -> Node:
        left, right = tree.items
        op = Op(tree.operator)
        if self.is_fact(left) and self.is_fact(right):
            raise wrong(right, f"compare {left.text} with a value, not with another fact")
        names = ("name", "call")
        if not self.is_fact(left) and (
            self.is_fact(right) or (left.kind not in names and right.kind in names)
        ):
            left, right, op = right, left, op.mirrored
        ref = self.ref(left)
        kind = ref.fact.kind
        sign = (tree.operator_at, tree.operator_at + len(tree.operator))
        if kind is Kind.FLAG:
            return self.flag(tree, ref, op, right)
        if op in (Op.EQ, Op.NE) and kind in ELAPSED:
            message = f"{ref} is never exactly a length of time: write < or >, or between"
            raise Wrong(Fault(*sign, message))
        if op not in (Op.EQ, Op.NE) and kind not in ORDERED:
            like = ", or like for text with wildcards" if self.may_be_like(ref) else ""
            message = f"{ref} is {a_kind(ref)} and has no order: write =, != or in{like}"
            raise Wrong(Fault(*sign, message))
        return Compare(tree.start, tree.end, ref, op, self.value(right, ref))

    def flag(self, tree: Syntax, ref: Ref, op: Op, right: Item) -> Node:
        word = right.text.lower()
        if op not in (Op.EQ, Op.NE) or right.kind != "name" or word not in _FLAG_WORDS:
            raise wrong(right, f"{ref} is itself true or false: write {ref}, or not {ref}")
        node = Holds(tree.start, tree.end, ref)
        return node if _FLAG_WORDS[word] is (op is Op.EQ) else Not(tree.start, tree.end, node)

    def among(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        self.refuse_flag(tree.items[0], ref)
        if ref.fact.kind in (*ELAPSED, Kind.FRACTION):
            raise wrong(tree.items[0], f"{ref} is {a_kind(ref)}: write between, or < and >, instead of in")
        values = self.all_values(tree.items[1:], ref)
        if ref.fact.kind in SETS:
            self.tests += len(values) - 1  # each value becomes a test of its own in SQL
        return Among(tree.start, tree.end, ref, tuple(dict.fromkeys(values)))

    def between(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        self.refuse_flag(tree.items[0], ref)
        if ref.fact.kind not in ORDERED:
            raise wrong(
                tree.items[0], f"{ref} is {a_kind(ref)} and has no order: write in (...) instead of between"
            )
        low, high = self.all_values(tree.items[1:], ref)
        if low > high:  # type: ignore[operator]  # both are of the one type of the fact's kind
            first, second = tree.items[1:]
            message = "between has its ends the wrong way round: write the smaller one first"
            raise Wrong(Fault(first.start, second.end, message))
        return Between(tree.start, tree.end, ref, low, high)

    def may_be_like(self, ref: Ref) -> bool:
        return ref.fact.kind in (Kind.TEXT, Kind.TEXTS) and not ref.fact.choices

    def like(self, tree: Syntax) -> Node:
        ref = self.ref(tree.items[0])
        self.refuse_flag(tree.items[0], ref)
        pattern = tree.items[1]
        if not self.may_be_like(ref):
            instead = {Kind.CODES: "in (CT, MR)", Kind.TEXT: "= or in"}.get(
                ref.fact.kind, "=, <, > or between"
            )
            raise wrong(pattern, f"like is for text and {ref} is {a_kind(ref)}: write {ref} with {instead}")
        if pattern.kind not in ("string", "name"):
            raise wrong(pattern, f"like needs text in quotes: write {ref} like 'CT*'")
        if "%" in pattern.text and "*" not in pattern.text:
            message = "% is an ordinary character here: any characters are written *"
            self.fault(pattern.start, pattern.end, message, warning=True)
        return Like(tree.start, tree.end, ref, Pattern.read(pattern.text))

    def null(self, tree: Syntax) -> Node:
        item = tree.items[0]
        ref = self.ref(item)
        self.refuse_flag(item, ref)
        if not ref.fact.nullable:
            instead = f"; for a study without any write not {ref} like '*'" if ref.fact.kind in SETS else ""
            raise wrong(item, f"{ref} is always known: leave out is null{instead}")
        return IsNull(tree.start, tree.end, ref)

    def refuse_flag(self, item: Item, ref: Ref) -> None:
        if ref.fact.kind is Kind.FLAG:
            raise wrong(item, f"{ref} is itself true or false: write {ref}, or not {ref}")

    # values

    def value(self, item: Item, ref: Ref) -> Value:
        return read_value(item, ref, self.faults)

    def all_values(self, items: tuple[Item, ...], ref: Ref) -> list[Value]:
        values: list[Value] = []
        for item in items:
            try:
                values.append(self.value(item, ref))
            except Wrong as error:
                if error.fault is not None:
                    self.faults.append(error.fault)
        if len(values) < len(items):
            raise Wrong
        return values
