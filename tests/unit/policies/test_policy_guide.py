"""The guide must be true: its examples are good policies, its tables are those of the language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies import FACTS, load_texts
from policies.read import LIMITS_KEYS, POLICY_KEYS
from policies.readrule import PRIORS_KEYS, RULE_KEYS
from policies.readschedule import SCHEDULE_KEYS

GUIDE = (Path(__file__).parents[3] / "docs/policies.md").read_text(encoding="utf-8")
POOLS = {"online", "nearline", "tape"}
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def whole(block: str) -> str:
    """A block of the guide as a whole policy."""
    if block.startswith("policy:"):
        return block
    head = "policy: p\npriority: 1\ncopies: {tape: 1}\n"
    copy = "  - {name: to tape, copy to: tape}\n"
    if block.lstrip().startswith("- "):
        return f"{head}rules:\n{copy}{block}"
    if block.lstrip().startswith("when:"):
        return f"{head}rules:\n{copy}  - name: x\n    release from: online\n    {block.lstrip()}"
    return f"{head}rules:\n{copy}{block}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.count("schedule:") < 2])
def test_each_example_of_the_guide_is_a_good_policy(block: str) -> None:
    loaded = load_texts({"guide.yaml": whole(block)}, POOLS)
    assert loaded.policies
    assert loaded.warnings == ()


def test_each_schedule_of_the_guide_is_good() -> None:
    (block,) = [block for block in BLOCKS if block.count("schedule:") > 1]
    for schedule in re.split(r"^(?=schedule:)", block, flags=re.MULTILINE)[1:]:
        load_texts({"guide.yaml": whole(schedule)}, POOLS)


@pytest.mark.parametrize("name", FACTS)
def test_each_fact_is_in_the_guide_with_its_parentheses(name: str) -> None:
    assert f"| `{FACTS[name].usage}` |" in GUIDE


def test_each_key_is_in_the_guide() -> None:
    for key in (*POLICY_KEYS, *RULE_KEYS, *LIMITS_KEYS, *PRIORS_KEYS, *SCHEDULE_KEYS):
        assert f"`{key}" in GUIDE, key
