"""Text of one expression -> syntax tree with offsets. Knows the grammar, not what names mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from policies.errors import Fault
from policies.stumble import explain_syntax

LENGTH_MAX = 20_000
DEPTH_MAX = 40


@dataclass(frozen=True, slots=True)
class Item:
    """A value as written: ``kind`` is number, quantity, percent, date, string, name or call."""

    kind: str
    start: int
    end: int
    text: str
    """The word, the text between the quotes as written, the date, or the unit of a quantity."""
    number: Decimal | None = None
    argument: Item | None = None
    """What stands in the parentheses of a call."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """An operator as written: ``kind`` is or, and, not, always, never, or a test of the grammar."""

    kind: str
    start: int
    end: int
    parts: tuple[Syntax, ...] = ()
    items: tuple[Item, ...] = ()
    operator: str = ""
    operator_at: int = 0


class SyntaxFault(Exception):
    """The text is not an expression."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    return Lark.open(
        "grammar.lark",
        rel_to=__file__,
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=False,
    )


def parse(text: str) -> Syntax:
    """The syntax tree of ``text``.

    :raises SyntaxFault: at the first place where it cannot go on, with what to write there.
    """
    _refuse_excess(text)
    try:
        tree = _grammar().parse(text)
    except UnexpectedInput as error:
        raise SyntaxFault(explain_syntax(text, error)) from None
    return _syntax(tree)


def _refuse_excess(text: str) -> None:
    if not text.strip():
        raise SyntaxFault(
            Fault(0, 0, "the expression is empty: write a condition such as idle > 30d, or always")
        )
    if len(text) > LENGTH_MAX:
        raise SyntaxFault(
            Fault(0, 1, f"the expression is longer than {LENGTH_MAX} characters: split the rule")
        )
    depth = 0
    for match in re.finditer(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[()]|\bnot\b", text, re.IGNORECASE):
        found = match.group()
        depth += {"(": 1, ")": -1, "not": 0}.get(found.lower(), 0)
        if depth > DEPTH_MAX:
            raise SyntaxFault(
                Fault(match.start(), match.end(), f"nested more than {DEPTH_MAX} deep: split the rule")
            )
    repeated = re.search(rf"(\bnot\s+){{{DEPTH_MAX}}}", text, re.IGNORECASE)
    if repeated:
        raise SyntaxFault(
            Fault(repeated.start(), repeated.start() + 3, "not is repeated: write it once or not at all")
        )


def _syntax(tree: Tree[Token]) -> Syntax:
    kind = str(tree.data)
    start, end = tree.meta.start_pos, tree.meta.end_pos
    if kind in ("disjunction", "conjunction", "negation"):
        parts = tuple(_syntax(child) for child in tree.children if isinstance(child, Tree))
        return Syntax({"disjunction": "or", "conjunction": "and", "negation": "not"}[kind], start, end, parts)
    items: list[Item] = []
    operator, operator_at = "", start
    for child in tree.children:
        if isinstance(child, Token):
            operator, operator_at = str(child), child.start_pos or 0
        elif child.data == "values":
            items += [_item(value) for value in child.children if isinstance(value, Tree)]
        else:
            items.append(_item(child))
    return Syntax(kind, start, end, (), tuple(items), "!=" if operator == "<>" else operator, operator_at)


def _item(tree: Tree[Token]) -> Item:
    kind = str(tree.data)
    tokens = [child for child in tree.children if isinstance(child, Token)]
    start, end = tree.meta.start_pos, tree.meta.end_pos
    first = str(tokens[0])
    if kind == "call":
        inner = next(child for child in tree.children if isinstance(child, Tree))
        return Item(kind, start, end, first, None, _item(inner))
    if kind in ("number", "percent"):
        return Item(kind, start, end, first, Decimal(first))
    if kind == "quantity":
        return Item(kind, start, end, str(tokens[1]), Decimal(first))
    if kind == "string":
        return Item(kind, start, end, first[1:-1])
    return Item(kind, start, end, first)
