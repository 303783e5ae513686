"""docs/INVARIANTS.md names tests that exist, and attacks every promise; so does docs/security.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def promises() -> dict[str, list[tuple[str, str]]]:
    sections = re.split(r"^## ", (ROOT / "docs" / "INVARIANTS.md").read_text(), flags=re.MULTILINE)[1:]
    return {section.splitlines()[0]: NAMED.findall(section) for section in sections}


def test_each_of_the_seven_promises_is_attacked() -> None:
    found = promises()
    assert [title.split(".")[0] for title in found] == list("1234567")
    assert all(found.values()), found


def test_every_test_that_a_promise_names_exists() -> None:
    gone = [
        f"{path}::{name}"
        for named in promises().values()
        for path, name in named
        if not (ROOT / path).is_file()
        or not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert gone == []


def test_every_mention_of_a_test_is_one_that_is_checked() -> None:
    text = (ROOT / "docs" / "INVARIANTS.md").read_text()
    checked = sum(len(named) for named in promises().values())
    assert text.count("::") == checked


def test_every_test_that_the_threat_model_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = NAMED.findall(text)
    assert len(named) == text.count("::") > 30
    gone = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert gone == []
