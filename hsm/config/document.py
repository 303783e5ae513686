"""A YAML 1.2 document as plain values, with the line of everything in it.

The nodes are walked by hand, so that all duplicate keys are found and not only the first one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

NODES_MAX = 100_000
"""More than any configuration has; stops an alias bomb."""
DEPTH_MAX = 30

_TEXT_TAG = "tag:yaml.org,2002:str"

Place = tuple[str | int, ...]
"""Where a value is: keys and positions from the top."""


@dataclass
class Document:
    """What a file says and where it says it. Lines count from 1."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    errors: list[tuple[int, str, str]] = field(default_factory=list)
    """Line, dotted place (empty for the whole file), and what is wrong."""
    unread: set[Place] = field(default_factory=set)
    """Places whose value could not be read and stands as None: one of the errors says why."""

    def line(self, path: Place) -> int:
        """The line of ``path``, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def dotted(path: Place) -> str:
    """``("pools", 1, "tier")`` as ``pools[1].tier``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(text: str) -> Document:
    """Parse ``text``; what cannot be read is in ``errors`` and never raised."""
    document = Document()
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "cannot be read"
        document.errors.append((mark.line + 1 if mark else 1, "", f"not YAML: {what}"))
        return document
    except (YAMLError, ValueError, RecursionError) as error:
        document.errors.append((1, "", f"not YAML: {str(error).splitlines()[0]}"))
        return document
    if root is not None:
        document.value = _Walk(yaml, document).plain(root, ())
    return document


class _Walk:
    def __init__(self, yaml: YAML, document: Document) -> None:
        self._yaml = yaml
        self._document = document
        self._open: list[Node] = []
        self._seen = 0

    def plain(self, node: Node, path: Place) -> Any:
        self._seen += 1
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        if self._seen > NODES_MAX or len(self._open) > DEPTH_MAX or any(n is node for n in self._open):
            if self._seen <= NODES_MAX + 1:
                self._document.unread.add(path)
                self._error(line, path, "nested too deeply, too large, or an alias inside what it names")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._open.append(node)
        try:
            if isinstance(node, SequenceNode):
                return [self.plain(item, (*path, number)) for number, item in enumerate(node.value)]
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
        finally:
            self._open.pop()
        return None

    def _mapping(self, node: MappingNode, path: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or key_node.tag != _TEXT_TAG:
                shown = key_node.value if isinstance(key_node, ScalarNode) else "a list or mapping"
                self._error(line, path, f"the key {shown} is not text; write it in quotes if it is meant")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in found:
                self._error(line, here, f"given twice; the first is on line {self._document.lines[here]}")
                continue
            self._document.lines[here] = line
            found[key] = None
            found[key] = self.plain(value_node, here)
        return found

    def _scalar(self, node: ScalarNode, path: Place) -> Any:
        try:
            return self._yaml.constructor.construct_object(node)
        except (YAMLError, ValueError) as error:
            self._document.unread.add(path)
            problem = getattr(error, "problem", None) or str(error)
            self._error(node.start_mark.line + 1, path, f"{node.value!r} cannot be read: {problem}")
            return None

    def _error(self, line: int, path: Place, message: str) -> None:
        self._document.errors.append((line, dotted(path), message))
