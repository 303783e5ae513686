"""The guide must be true: its examples are good policies, its tables are those of the language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies import FACTS, PoolInfo, Same, load_texts
from policies.check import check_expression
from policies.policy import Colocate
from policies.read import LIMITS_KEYS, POLICY_KEYS
from policies.readrule import PRIORS_KEYS, RULE_KEYS
from policies.readschedule import SCHEDULE_KEYS

GUIDE = (Path(__file__).parents[3] / "docs/policies.md").read_text(encoding="utf-8")
POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("tape", "tape", "nearline", "main"),
    PoolInfo("vault", "tape", "nearline", "cellar"),
)
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
WARNED = re.compile(r"# warned: (.*)\n")


def whole(block: str) -> str:
    """A block of the guide as a whole policy."""
    if block.startswith("policy:") or WARNED.match(block):
        return block
    copy = "  - {name: archive, copy to: tape}\n"
    head = "policy: p\npriority: 1\n"
    if block.startswith("classes:"):
        uses = re.findall(r"^  ([\w-]+):", block, re.MULTILINE)
        rules = "".join(f"  - {{name: n{n}, copy to: tape, when: class({c})}}\n" for n, c in enumerate(uses))
        return f"{block}---\n{head}rules:\n{rules}"
    if block.startswith("copies:"):
        goals = block.replace("tape: 2", "tape: 2")
        return f"{head}{goals}rules:\n{copy}  - {{name: near, copy to: nearline}}\n"
    head += "copies: {tape: 1}\n"
    if block.lstrip().startswith("- "):
        return f"{head}rules:\n{copy}{block}"
    if block.lstrip().startswith("when:"):
        return f"{head}rules:\n{copy}  - name: x\n    release from: online\n    {block.lstrip()}"
    return f"{head}rules:\n{copy}{block}"


SINGLE = [block for block in BLOCKS if block.count("schedule:") < 2]


@pytest.mark.parametrize("block", SINGLE)
def test_each_example_of_the_guide_is_a_good_policy(block: str) -> None:
    loaded = load_texts({"guide.yaml": whole(block)}, POOLS)
    assert loaded.policies
    expected = WARNED.match(block)
    if expected is None:
        assert loaded.warnings == ()
    else:
        assert expected.group(1) in "\n".join(warning.message for warning in loaded.warnings)


def test_the_guide_has_examples_of_every_kind_of_rule() -> None:
    written = "\n".join(SINGLE)
    for key in (*RULE_KEYS, *POLICY_KEYS, *LIMITS_KEYS, *SCHEDULE_KEYS, *PRIORS_KEYS):
        assert re.search(rf"\b{key}:", written) or key == "cron", key


def test_each_schedule_of_the_guide_is_good() -> None:
    (block,) = [block for block in BLOCKS if block.count("schedule:") > 1]
    for schedule in re.split(r"^(?=schedule:)", block, flags=re.MULTILINE)[1:]:
        load_texts({"guide.yaml": whole(schedule)}, POOLS)


@pytest.mark.parametrize("name", FACTS)
def test_each_fact_is_in_the_guide_with_its_parentheses(name: str) -> None:
    assert f"| `{FACTS[name].usage}` |" in GUIDE


def test_each_key_and_word_is_in_the_guide() -> None:
    for key in (*POLICY_KEYS, *RULE_KEYS, *LIMITS_KEYS, *PRIORS_KEYS, *SCHEDULE_KEYS):
        assert f"`{key}" in GUIDE, key
    for word in (*Same, *Colocate):
        assert f"`{word}`" in GUIDE, word


def test_each_command_of_the_guide_is_there() -> None:
    import cli.main  # heavy: only for this test

    found = set(re.findall(r"hsm (policy|study) (\w+)", GUIDE))
    assert len(found) >= 8
    groups = {group.name: group.typer_instance for group in cli.main.app.registered_groups}
    for group, command in found:
        names = {
            each.name or each.callback.__name__  # type: ignore[union-attr]
            for each in groups[group].registered_commands
        }
        assert command in names, f"hsm {group} {command}"


def test_the_conditions_in_the_tables_of_the_guide_are_good() -> None:
    tables = [line for line in GUIDE.split("\n") if line.startswith("|")]
    table = tables[tables.index("| test | for | example |") :]
    shown = [re.findall(r"`([^`]+)`", line.split("|")[3]) for line in table[2:10]]
    conditions = [each for some in shown for each in some if not each.startswith(("when:", "not class"))]
    assert len(conditions) >= 8
    for condition in conditions:
        assert check_expression(condition, POOLS).expression is not None, condition


def test_each_condition_named_at_a_fact_is_good() -> None:
    for line in GUIDE.split("\n"):
        if line.startswith("| `"):
            for written in re.findall(r"`([^`]*(?: = | > )[^`]*)`", line.partition("|")[2]):
                if "..." not in written and "class" not in written and ": " not in written:
                    assert check_expression(written, POOLS).expression is not None, written
