"""A checked expression: a tree of typed nodes that compile and evaluate both walk.

Every node carries its place in the text (``start``, ``end``) so that an explanation can quote it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

from policies.facts import Fact
from policies.pools import PoolInfo
from policies.units import say_duration

Value = str | int | float | timedelta
"""Text, ``YYYYMMDD`` or a code; a count or bytes; a fraction; a duration."""


class Op(enum.Enum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def negated(self) -> Op:
        return _NEGATED[self]

    @property
    def mirrored(self) -> Op:
        """The operator when its two sides change places."""
        return _MIRRORED[self]


_NEGATED = {Op.EQ: Op.NE, Op.NE: Op.EQ, Op.LT: Op.GE, Op.GE: Op.LT, Op.GT: Op.LE, Op.LE: Op.GT}
_MIRRORED = {Op.EQ: Op.EQ, Op.NE: Op.NE, Op.LT: Op.GT, Op.GT: Op.LT, Op.LE: Op.GE, Op.GE: Op.LE}


@dataclass(frozen=True, slots=True)
class Ref:
    """A fact, with what stands in its parentheses."""

    fact: Fact
    pool: str = ""
    """The pool, kind, tier or site as written."""
    pools: tuple[PoolInfo, ...] = ()
    """Those that it stands for; of a fact about sites, all of them."""
    window: timedelta | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(pool.name for pool in self.pools) or (self.pool,)

    @property
    def site_by_pool(self) -> dict[str, str]:
        return {pool.name: pool.site for pool in self.pools}

    def __str__(self) -> str:
        if self.window is not None:
            return f"{self.fact.name}({say_duration(self.window).replace(' ', '')})"
        if not self.pool:
            return self.fact.name
        return f"{self.fact.name}({self.pool if re.fullmatch(_NAME, self.pool) else repr(self.pool)})"


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Node:
    start: int = field(compare=False)
    end: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Constant(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class And(Node):
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or(Node):
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    part: Node


@dataclass(frozen=True, slots=True)
class Leaf(Node):
    """A test of one fact."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Compare(Leaf):
    """Of a set only = and != are asked: it has the value, it has it not."""

    op: Op
    value: Value


@dataclass(frozen=True, slots=True)
class Between(Leaf):
    """Both ends count."""

    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class Among(Leaf):
    """One of the values; of a set: it has at least one of them."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like(Leaf):
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class IsNull(Leaf):
    pass


@dataclass(frozen=True, slots=True)
class Holds(Leaf):
    """A fact that is itself true or false."""


@dataclass(frozen=True, slots=True)
class Named(Node):
    """A class: an expression of its own, by its name."""

    name: str
    body: Expression


class Wild(enum.Enum):
    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text with wildcards: ``*`` any characters or none, ``?`` one character, case-sensitive."""

    parts: tuple[str | Wild, ...]

    @classmethod
    def read(cls, text: str) -> Pattern:
        r"""From the text between the quotes; ``\*`` and ``\?`` stand for themselves."""
        parts: list[str | Wild] = []
        for match in re.finditer(r"\\(.)|([*?])|([^\\*?]+|\\)", text, re.DOTALL):
            escaped, wild, plain = match.groups()
            parts.append(Wild(wild) if wild else (escaped or plain))
        return cls(tuple(parts))

    def regex(self) -> re.Pattern[str]:
        return _regex(self)

    def glob(self) -> str:
        """For SQLite's GLOB."""
        return "".join(
            part.value if isinstance(part, Wild) else re.sub(r"([*?\[])", r"[\1]", part)
            for part in self.parts
        )

    def sql_like(self) -> str:
        """For LIKE with the escape character ``!``."""
        wild = {Wild.ANY: "%", Wild.ONE: "_"}
        return "".join(
            wild[part] if isinstance(part, Wild) else re.sub(r"([%_!])", r"!\1", part) for part in self.parts
        )


@lru_cache(maxsize=512)
def _regex(pattern: Pattern) -> re.Pattern[str]:
    wild = {Wild.ANY: ".*", Wild.ONE: "."}
    text = "".join(wild[part] if isinstance(part, Wild) else re.escape(part) for part in pattern.parts)
    return re.compile(text, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression and the text it was written as."""

    text: str
    root: Node

    def __str__(self) -> str:
        return self.text

    def quote(self, node: Node) -> str:
        """The text of one node, on one line."""
        return " ".join(self.text[node.start : node.end].split())

    def leaves(self) -> Iterator[Leaf]:
        """Every test, from left to right."""
        return leaves(self.root)


def leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Named):
        yield from leaves(node.body.root)
    elif isinstance(node, Not):
        yield from leaves(node.part)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from leaves(part)


ALWAYS = Expression("always", Constant(0, 6, value=True))


def without(node: Node, dropped: Callable[[Ref], bool]) -> Node | None:
    """The condition as if the tests of some facts were always met; None if nothing else is asked."""
    if isinstance(node, Named):
        return without(node.body.root, dropped)
    if isinstance(node, Leaf):
        return None if dropped(node.ref) else node
    if isinstance(node, Not):
        inner = without(node.part, dropped)
        return None if inner is None else Not(node.start, node.end, inner)
    if isinstance(node, (And, Or)):
        parts = [without(each, dropped) for each in node.parts]
        kept = tuple(part for part in parts if part is not None)
        if isinstance(node, Or) and len(kept) < len(parts):
            return None
        return type(node)(node.start, node.end, kept) if kept else None
    return node
