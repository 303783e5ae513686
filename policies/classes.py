"""Named expressions that rules share: ``classes:`` in a document of its own, or in one policy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from policies.check import check_expression
from policies.errors import did_you_mean
from policies.expr import And, Expression, Named, Node, Not, Or
from policies.pools import PoolTable
from policies.yamlsource import Entry, MappingNode, ScalarNode, Source
from policies.yamlsource import Node as YamlNode

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
DEPTH_MAX = 20
_EXAMPLE = "old-trauma: modality = CT and age > 5 years"


@dataclass(slots=True)
class _Entry:
    source: Source
    key: ScalarNode
    value: ScalarNode
    expression: Expression | None = None
    checked: bool = False
    line: int = field(default=0)


class ClassTable:
    """Classes by name. Each is checked when it is first asked for, so that they may stand in any order."""

    def __init__(self, pools: PoolTable, outer: ClassTable | None = None) -> None:
        """:param outer: classes shared by all policies, for those of one policy."""
        self.pools = pools
        self.outer = outer
        self.used: set[str] = set()
        self._entries: dict[str, _Entry] = {}
        self._checking: list[str] = []

    @property
    def names(self) -> Collection[str]:
        return {*self._entries, *(self.outer.names if self.outer else ())}

    def add(self, source: Source, node: YamlNode) -> None:
        """Take over the mapping of ``classes``; what is wrong with it is noted."""
        if isinstance(node, MappingNode) and not node.value:
            source.on(node, f"there are no classes here: write for example {_EXAMPLE}")
        if not isinstance(node, MappingNode):
            source.on(node, f"classes must be a mapping of names to conditions, as in {_EXAMPLE}")
            return
        for name, entry in source.entries(node, "classes", ()).items():
            self._add(source, name, entry)

    def _add(self, source: Source, name: str, entry: Entry) -> None:
        if not _NAME.fullmatch(name):
            source.on(entry.key, "a class is named by letters, digits, _ and -: write for example old-trauma")
            return
        first = self._entries.get(name) or (self.outer._entries.get(name) if self.outer else None)
        if first is not None:
            where = f"{first.source.file}:{first.line}"
            source.on(entry.key, f"class '{name}' is already in {where}: rename one")
            return
        value = source.scalar(entry.value, f"class '{name}'", _EXAMPLE)
        if value is not None:
            self._entries[name] = _Entry(source, entry.key, value, line=source.line_of(entry.key))

    def get(self, name: str) -> Expression | None:
        """The class's expression; None if there is an error in it, which is noted where it stands.

        :raises LookupError: no such class, or it stands for itself.
        """
        entry = self._entries.get(name)
        if entry is None and self.outer is not None and name in self.outer.names:
            return self.outer.get(name)
        if entry is None:
            hint = did_you_mean(name, self.names) or " Write it under classes."
            raise LookupError(f"there is no class '{name}'.{hint}")
        self.used.add(name)
        if name in self._checking:
            way = " -> ".join([*self._checking[self._checking.index(name) :], name])
            raise LookupError(f"class '{name}' stands for itself ({way}): write one of them out")
        if len(self._checking) >= DEPTH_MAX:
            raise LookupError(f"classes in classes more than {DEPTH_MAX} deep: write '{name}' out")
        if not entry.checked:
            self._checking.append(name)
            entry.expression = self._check(entry)
            self._checking.pop()
            entry.checked = True
        return entry.expression

    def _check(self, entry: _Entry) -> Expression | None:
        checked = check_expression(str(entry.value.value), self.pools, classes=self)
        for fault in checked.faults:
            entry.source.inside(entry.value, fault.start, fault.end, fault.message, warning=fault.warning)
        return checked.expression

    def finish(self) -> None:
        """Check those that nothing has asked for too, and warn about them."""
        unused = [name for name in self._entries if name not in self.used]
        for name in unused:
            self.get(name)
        for name in unused:
            entry = self._entries[name]
            entry.source.on(
                entry.key,
                f"class '{name}' is used nowhere: write class({name}) in a condition, or remove it",
                warning=True,
            )


def named_in(expression: Expression) -> Iterator[tuple[str, str]]:
    """Name and text of every class that an expression uses, those within classes too."""
    yield from _named(expression.root)


def _named(node: Node) -> Iterator[tuple[str, str]]:
    if isinstance(node, Named):
        yield node.name, node.body.text
        yield from _named(node.body.root)
    elif isinstance(node, Not):
        yield from _named(node.part)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _named(part)
