"""Text of one expression -> syntax tree with offsets. Knows the grammar, not what names mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from policies.errors import Fault

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
        raise SyntaxFault(_explain(text, error)) from None
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


_FOREIGN = (
    ("==", "write = to compare"),
    ("=>", "write >= for at least"),
    ("=<", "write <= for at most"),
    ("&&", "write and"),
    ("&", "write and"),
    ("||", "write or"),
    ("|", "write or"),
    ("!", "write not, or != to compare"),
    ("≥", "write >="),
    ("≤", "write <="),
    ("≠", "write !="),
    ("‘", "write a straight quote: '"),
    ("’", "write a straight quote: '"),
    ("“", "write a straight quote: '"),
    ("”", "write a straight quote: '"),
    ("[", "write a set in parentheses: (CT, MR)"),
    ("{", "write a set in parentheses: (CT, MR)"),
    ("*", "write text with wildcards in quotes after like: description like 'CT*'"),
    ("?", "write text with wildcards in quotes after like: description like 'CT?'"),
    ("-", "there are no negative values and no subtraction: write a plain number"),
    (":", "write text with a colon in quotes"),
    (".", "write text with a dot in quotes; a number begins with a digit"),
    (";", "an expression has no ; in it"),
)
_ENDS = {"_AND", "_OR", "$END"}


def _explain(text: str, error: UnexpectedInput) -> Fault:
    """What the parser stumbled over, in the words of someone who writes policies."""
    if isinstance(error, UnexpectedCharacters):
        return _explain_character(text, error.pos_in_stream or 0)
    if isinstance(error, UnexpectedToken):
        token = error.token
        expected = set(error.accepts or error.expected)
        if token.type == "$END":
            return _explain_end(text, expected)
        return _explain_token(text, token, expected)
    return Fault(0, len(text), "this is not an expression; write a condition such as idle > 30d")


def _explain_character(text: str, at: int) -> Fault:
    if text[at] in "'\"":
        return Fault(at, len(text), f"the text is not closed: write {text[at]} at its end")
    if re.search(r"\b\d{4}(-\d+)?$", text[:at]) and text[at] == "-":
        return Fault(at, at + 1, "write dates with two digits each, as in 2024-01-31")
    for foreign, advice in _FOREIGN:
        if text.startswith(foreign, at):
            return Fault(at, at + len(foreign), f"{foreign} is not part of the language: {advice}")
    return Fault(
        at, at + 1, f"{text[at]!r} is not part of the language: write text that contains it in quotes"
    )


def _explain_end(text: str, expected: set[str]) -> Fault:
    at = len(text.rstrip())
    operator = re.search(r"\b(and|or|not)$", text[:at], re.IGNORECASE)
    if operator and "LPAR" in expected:
        return _half(operator.group(), operator.start(), at)
    if "RPAR" in expected and "_OR" in expected:
        return Fault(at, at + 1, "a parenthesis is not closed: write ) here")
    if "COMPARISON" in expected:
        return Fault(
            at, at + 1, "the condition stops after its first word: write what to compare, as in idle > 30d"
        )
    if expected & {"RPAR", "COMMA"}:
        return Fault(at, at + 1, "the set is not closed: write ) here")
    if "_NULL" in expected:
        return Fault(at, at + 1, "the condition is not finished: write null or not null after is")
    return Fault(at, at + 1, "the condition is not finished: write a value after this, as in idle > 30d")


def _explain_token(text: str, token: Token, expected: set[str]) -> Fault:
    at = token.start_pos or 0
    end = token.end_pos or at + 1
    word = str(token)
    before = text[:at].rstrip()
    # Two signs in a row are one sign of another language.
    if token.type == "COMPARISON" and before and before[-1] in "=<>!":
        for foreign, advice in _FOREIGN:
            if text.startswith(foreign, len(before) - 1):
                return Fault(len(before) - 1, end, f"{foreign} is not part of the language: {advice}")
    if token.type == "COMPARISON" and "_AND" in expected:
        return Fault(
            at, end, "only one comparison at a time: write age between 10d and 30d, or join two with and"
        )
    if "LPAR" in expected and re.search(r"\bin$", before, re.IGNORECASE):
        return Fault(at, end, f"in needs a set in parentheses: write in ({word})")
    if "_NULL" in expected:
        return Fault(at, end, f"after is only null or not null may stand: write = {word} to compare")
    if token.type in ("NAME", "NUMBER", "STRING", "DATE") and "COMPARISON" in expected:
        advice = "write a comparison (=, !=, <, <=, >, >=, in, between, like, is null)"
        return Fault(at, end, f"unexpected {word!r}: {advice} before it, as in idle > 30d")
    if token.type in ("NAME", "NUMBER", "STRING", "DATE") and expected & _ENDS:
        return Fault(
            at, end, f"two conditions need and or or between them; text with spaces needs quotes: {word!r}"
        )
    if token.type == "RPAR":
        empty = before.endswith("(")
        return Fault(
            at,
            end,
            "the parentheses are empty: write a value in them"
            if empty
            else "this ) closes nothing, or a value is missing before it: write the value or leave ) out",
        )
    if token.type in ("_AND", "_OR", "_NOT"):
        return _half(word, at, end)
    if "NAME" in expected or "NUMBER" in expected:
        return Fault(at, end, f"unexpected {word!r}: write a value here, as in idle > 30d")
    return Fault(at, end, f"unexpected {word!r}: write and or or before a further condition")


def _half(word: str, start: int, end: int) -> Fault:
    example = "not idle > 30d" if word.lower() == "not" else f"idle > 30d {word} age > 1 year"
    return Fault(start, end, f"{word} needs a whole condition on each side, as in {example}")
