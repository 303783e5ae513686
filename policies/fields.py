"""Single values of a policy document: each is read, or what is wrong with it is noted at its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from policies import units
from policies.check import Classes, check_expression
from policies.errors import did_you_mean
from policies.expr import Expression
from policies.pools import PoolTable
from policies.yamlsource import Entry, MappingNode, Node, ScalarNode, SequenceNode, Source

_NAME = re.compile(r"[^\s].{0,99}")
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+(?:/[A-Za-z]+)?)")
T = TypeVar("T")


class Fields:
    """Readers of values of one source. None stands for what is not usable; the finding is noted."""

    def __init__(self, source: Source, pools: PoolTable, classes: Classes) -> None:
        self.source = source
        self.pools = pools
        self.classes = classes

    def errors(self) -> int:
        return sum(not finding.warning for finding in self.source.findings)

    def first(self, node: Node) -> Node:
        """Where to note that something lacks in a mapping: at its first key."""
        return node.value[0][0] if isinstance(node, MappingNode) and node.value else node

    def name(self, entry: Entry | None, parent: Node, key: str, example: str) -> str:
        if entry is None:
            self.source.on(self.first(parent), f"there is no '{key}' here: add a line such as {example}")
            return ""
        node = self.source.scalar(entry.value, f"'{key}'", example)
        if node is None:
            return ""
        if not _NAME.fullmatch(str(node.value)):
            self.source.on(node, f"'{key}' must be one line of at most 100 characters: shorten it")
        return str(node.value)

    def integer(self, node: Node, what: str, low: int, high: int, example: str) -> int | None:
        scalar = self.source.scalar(node, what, example)
        if scalar is None:
            return None
        text = str(scalar.value)
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            self.source.on(scalar, f"{what} must be a whole number from {low} to {high}, as in {example}")
            return None
        return int(text)

    def expression(self, node: Node, what: str, *, scope: bool = False) -> Expression | None:
        example = "modality in (CT, MR)" if scope else "idle > 30d"
        scalar = self.source.scalar(node, f"'{what}'", example)
        if scalar is None:
            return None
        checked = check_expression(str(scalar.value), self.pools, scope=scope, classes=self.classes)
        if checked.expression is None and self.source.cut_by_comma(scalar):
            self.source.on(
                scalar, f"a comma within {{ }} or [ ] ends the value here: put the whole '{what}' in quotes"
            )
            return None
        for fault in checked.faults:
            self.source.inside(scalar, fault.start, fault.end, fault.message, warning=fault.warning)
        return checked.expression

    def pool(self, node: ScalarNode, *also: str) -> str:
        """The name of a pool, or one of ``also``; noted if it is neither, and empty."""
        name = str(node.value)
        if name in self.pools or name in also:
            return name
        group = self.pools.group(name)
        if group is not None:
            message = f"'{name}' is a {group.by.value}: name one of its pools: {', '.join(group.names)}"
        else:
            message = f"there is no pool '{name}'.{did_you_mean(name, [*self.pools, *also])}"
        self.source.on(node, message)
        return ""

    def percent(self, entry: Entry) -> float | None:
        scalar = self.source.scalar(entry.value, f"'{entry.name}'", f"{entry.name}: 85%")
        if scalar is None:
            return None
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", str(scalar.value).strip())
        if match is None or not 0 < Decimal(match.group(1)) <= 100:
            self.source.on(
                scalar, f"'{entry.name}' must be a percentage of the pool above 0% and up to 100%, as in 85%"
            )
            return None
        return float(Decimal(match.group(1)) / 100)

    def quantity(
        self, entry: Entry, expected: str, example: str, read: Callable[[Decimal, str], T], least: T
    ) -> T | None:
        """A number and a unit, of at least ``least``."""
        what = f"'{entry.name}'"
        scalar = self.source.scalar(entry.value, what, f"{entry.name}: {example}")
        if scalar is None:
            return None
        match = _QUANTITY.fullmatch(str(scalar.value).strip())
        try:
            value = read(Decimal(match.group(1)), match.group(2)) if match else None
        except units.UnitError as error:
            self.source.on(scalar, str(error))
            return None
        if value is None or value < least:  # type: ignore[operator]  # T is int or timedelta
            self.source.on(scalar, f"{what} must be {expected} above 0 with its unit, as in {example}")
            return None
        return value

    def size(self, entry: Entry) -> int | None:
        return self.quantity(entry, "a size", "2 TB or 500 GiB", units.size, 1)

    def rate(self, entry: Entry) -> int | None:
        return self.quantity(entry, "a rate", "200 MB/s", units.rate, 1)

    def duration(self, entry: Entry) -> timedelta | None:
        least = timedelta(microseconds=1)
        return self.quantity(entry, "a length of time", "14d or 24 h", units.duration, least)

    def words(self, node: Node, what: str, known: Collection[str], example: str) -> list[str] | None:
        """One or more of the known words: a list, or text with commas between them; each once."""
        nodes: list[tuple[ScalarNode, int, int]] = []
        if isinstance(node, SequenceNode):
            for each in node.value:
                scalar = self.source.scalar(each, f"an entry of {what}", example)
                if scalar is None:
                    return None
                nodes.append((scalar, 0, len(str(scalar.value))))
        else:
            scalar = self.source.scalar(node, what, example)
            if scalar is None:
                return None
            nodes += [(scalar, *match.span()) for match in re.finditer(r"[^,]+", str(scalar.value))]
        words: list[str] = []
        for scalar, start, end in nodes:
            word = re.sub(r"\s+", " ", str(scalar.value)[start:end].strip().lower().replace("_", " "))
            word = word.removeprefix("by ") if not words else word
            if word not in known:
                self.source.inside(
                    scalar, start, end, f"'{word}' cannot stand in {what}.{did_you_mean(word, known)}"
                )
                return None
            if word in words:
                self.source.inside(scalar, start, end, f"'{word}' is given twice in {what}: keep one")
                return None
            words.append(word)
        return words
