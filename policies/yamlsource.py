"""YAML 1.2 text as nodes that know their place, down to each character of a value."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from policies.errors import PolicyError, did_you_mean

__all__ = ["MappingNode", "Node", "ScalarNode", "SequenceNode", "Source"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping, with its value."""

    key: ScalarNode
    value: Node

    @property
    def name(self) -> str:
        return str(self.key.value)


class Source:
    """One file's text; collects what is wrong with it."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text.removeprefix("\ufeff")
        self.findings: list[PolicyError] = []
        self._keys: dict[int, Node] = {}
        self._starts = [0, *(match.end() for match in re.finditer(r"\n", self.text))]

    @property
    def failed(self) -> bool:
        return any(not finding.warning for finding in self.findings)

    def at(self, index: int, message: str, *, width: int = 1, warning: bool = False) -> None:
        """Note a finding at a character of the text."""
        index = max(0, min(index, len(self.text)))
        row = bisect_right(self._starts, index) - 1
        end = self.text.find("\n", self._starts[row])
        line = self.text[self._starts[row] : end if end >= 0 else len(self.text)].rstrip("\r")
        column = index - self._starts[row]
        self.findings.append(
            PolicyError(self.file, row + 1, column + 1, message, line, max(1, width), warning)
        )

    def at_line(self, line: int, message: str, *, warning: bool = False) -> None:
        """Note a finding about a line, from 1."""
        start = self._starts[line - 1]
        text = self.text[start:].split("\n", 1)[0]
        indent = len(text) - len(text.lstrip())
        self.at(start + indent, message, width=len(text.strip()), warning=warning)

    def line_of(self, node: Node) -> int:
        return bisect_right(self._starts, node.start_mark.index)

    def on(self, node: Node, message: str, *, warning: bool = False) -> None:
        """Note a finding about a whole node, its first line underlined; about its key if it is empty."""
        start, end = node.start_mark.index, node.end_mark.index
        key = self._keys.get(id(node))
        if start == end and key is not None:
            start, end = key.start_mark.index, key.end_mark.index
        first = self.text[start:end].split("\n", 1)[0].rstrip()
        self.at(start, message, width=len(first), warning=warning)

    def inside(self, node: ScalarNode, start: int, end: int, message: str, *, warning: bool = False) -> None:
        """Note a finding about characters ``start`` to ``end`` of a scalar's value."""
        places = self._places(node)
        if not places:
            self.on(node, message, warning=warning)
            return
        value = str(node.value)
        # Folding changes white space only, so the n-th other character is the same in both texts.
        before = sum(not char.isspace() for char in value[:start])
        within = sum(not char.isspace() for char in value[start:end])
        if before >= len(places):
            self.at(places[-1] + 1, message, warning=warning)
            return
        first = places[before]
        last = places[min(before + max(within, 1), len(places)) - 1]
        self.at(first, message, width=last - first + 1, warning=warning)

    def _places(self, node: ScalarNode) -> list[int]:
        """Index in the file of every character of a scalar's value that is not white space."""
        start, end = node.start_mark.index, node.end_mark.index
        raw = self.text[start:end]
        skip: set[int] = set()
        if node.style in ("|", ">"):
            skip.update(range(raw.find("\n") if "\n" in raw else len(raw)))
        elif node.style in ("'", '"'):
            escapes = "''" if node.style == "'" else r'\\["\\]'
            skip |= {0, len(raw) - 1} | {match.start() + 1 for match in re.finditer(escapes, raw[1:-1])}
        places = [start + place for place, char in enumerate(raw) if not char.isspace() and place not in skip]
        wanted = sum(not char.isspace() for char in str(node.value))
        return places if len(places) >= wanted else []

    # reading

    def documents(self) -> list[Node]:
        """The file's documents that hold anything; what YAML itself refuses is noted."""
        found: list[Node] = []
        try:
            yaml = YAML(typ="safe", pure=True)
            yaml.composer.warn_double_anchors = False
            for node in yaml.compose_all(self.text):
                empty = isinstance(node, ScalarNode) and not node.value
                if node is not None and not empty:
                    found.append(node)
        except MarkedYAMLError as error:
            self._refused_by_yaml(error)
        except RecursionError:
            self.at(0, "the YAML is nested too deep to be a policy: write it flat, as docs/policies.md shows")
        except YAMLError as error:
            place = getattr(error, "position", 0)
            reason = getattr(error, "reason", str(error))
            self.at(place, f"not YAML: {reason}; remove this character")
        return found

    def _refused_by_yaml(self, error: MarkedYAMLError) -> None:
        context, opened = str(error.context or ""), error.context_mark
        ended = "end of stream" in str(error.problem) or "<stream end>" in str(error.problem)
        if opened is not None and ended and "quoted" in context:
            self.at(
                opened.index, "the quotes that open here are not closed: write the same quote at their end"
            )
        elif opened is not None and "flow" in context and (ended or self._later_line(opened, error)):
            self.at(opened.index, "the bracket that opens here is not closed: write ] or } at its end")
        elif opened is not None and "simple key" in context:
            line = self.text[opened.index :].split("\n", 1)[0]
            self.at(
                opened.index,
                "this line is no key with its value: write a space after the colon, as in priority: 100",
                width=len(line.rstrip()),
            )
        elif (item := self._item_without_space(error)) is not None:
            self.at(item, "an entry of a list begins with '- ': write a space after the -")
        else:
            mark = error.problem_mark or opened
            self.at(mark.index if mark else 0, _explain_yaml(error, self.text))

    def _later_line(self, opened: Any, error: MarkedYAMLError) -> bool:
        return error.problem_mark is not None and error.problem_mark.line > opened.line

    def _item_without_space(self, error: MarkedYAMLError) -> int | None:
        """Where a line just before the error begins with a - that something follows at once."""
        mark = error.problem_mark
        if mark is None:
            return None
        for row in (mark.line, mark.line - 1):
            if 0 <= row < len(self._starts):
                line = self.text[self._starts[row] :].split("\n", 1)[0]
                found = re.match(r"\s*-(?=[A-Za-z])", line)
                if found is not None:
                    return int(self._starts[row]) + found.end() - 1
        return None

    def entries(
        self,
        node: Node,
        what: str,
        known: Collection[str],
        example: str = "",
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Entry]:
        """The keys of a mapping; unknown and repeated ones are noted and left out.

        :param elsewhere: keys that belong to something else, with what to do about them.
        """
        if not isinstance(node, MappingNode):
            hint = f" Write for example {example}." if example else did_you_mean("", known)
            self.on(node, f"{what} must be a mapping of keys to values.{hint}")
            return {}
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.on(key, f"a key of {what} must be a plain word.{did_you_mean('', known)}")
                continue
            name = str(key.value)
            if known and name not in known:
                other = elsewhere.get(name.replace("_", " ").lower())
                hint = f" {other}" if other else did_you_mean(name, known)
                self.on(key, f"'{name}' is not a key of {what}.{hint}")
            elif name in entries:
                self.on(key, f"'{name}' is given twice in {what}: keep one")
            else:
                entries[name] = Entry(key, value)
                self._keys[id(value)] = key
        return entries

    def scalar(self, node: Node, what: str, example: str) -> ScalarNode | None:
        """The node if it is a scalar with something in it; otherwise the finding is noted."""
        if isinstance(node, ScalarNode) and str(node.value).strip():
            return node
        if isinstance(node, ScalarNode):
            self.on(node, f"{what} is empty: write for example {example}")
        else:
            self.on(node, f"{what} must be a single value: write for example {example}")
        return None

    def cut_by_comma(self, node: ScalarNode) -> bool:
        """Whether a plain value in a flow collection ends at a comma with a parenthesis still open."""
        value = str(node.value)
        after = self.text[node.end_mark.index :].lstrip()[:1]
        return node.style is None and after == "," and value.count("(") > value.count(")")

    def items(self, node: Node, what: str) -> Iterator[Node]:
        if not isinstance(node, SequenceNode):
            self.on(node, f"{what} must be a list: begin each of its entries with '- '")
            return
        yield from node.value


def _explain_yaml(error: MarkedYAMLError, text: str) -> str:
    problem = str(error.problem or error.context or "not YAML")
    if "mapping values are not allowed" in problem:
        return "a value that contains ': ' must be in quotes, and keys of one mapping must be indented alike"
    if "\\t" in problem:
        return "a tab cannot indent YAML: write spaces"
    mark = error.problem_mark
    if "cannot start any token" in problem and mark is not None:
        return f"a value cannot begin with {text[mark.index : mark.index + 1]}: put it in quotes"
    if "undefined alias" in problem:
        return f"{problem}: a value that begins with * must be in quotes"
    if "expected a comment or a line break" in problem or "expected chomping" in problem:
        return "a value that begins with > or | must be in quotes"
    if "block end" in problem or "block mapping" in str(error.context):
        return (
            "this line does not fit the ones above it: begin the keys of one mapping at the same column, and "
            "put special text in quotes"
        )
    return f"{problem}: check quotes, brackets and indentation here"
