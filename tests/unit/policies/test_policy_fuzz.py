"""Whatever a file holds, loading it ends in a policy set or in errors with places, never otherwise."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_agreement import POOLS, checked, expressions

from policies import PolicyErrors, load_texts
from policies.check import check_expression
from tests.examples import examples

SNIPPETS = (
    "and ",
    "not ",
    "(",
    ")",
    "'",
    '"',
    "copies(",
    "in (",
    "30d",
    "2024-13-01",
    "9" * 30,
    "%",
    "\\",
    "=",
    "~",
)
SNIPPETS = (
    *SNIPPETS,
    "*a",
    "&a ",
    "<<: ",
    "? ",
    "- ",
    "{",
    "]",
    "|\n",
    "\t",
    "\r",
    "\x00",
    "\u2028",
    "é",
    "!!int ",
    "#",
)
BASE = """\
policy: p
priority: 10
scope: modality in (CT, MR)
copies: {nearline: 1}
rules:
  - name: b
    release from: online
    when: idle > 30d and copies(nearline) >= 1
    start above: 85%
    stop below: 70%
    order by: idle desc
schedule: every 60 seconds
"""


@settings(max_examples=examples(120), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(BASE)), st.integers(0, 5), st.sampled_from(SNIPPETS)), max_size=4)
)
def test_a_damaged_file_is_refused_with_places_or_is_good(edits: list[tuple[int, int, str]]) -> None:
    text = BASE
    for at, cut, snippet in edits:
        text = text[:at] + snippet + text[at + cut :]
    lines = text.split("\n")
    try:
        loaded = load_texts({"p.yaml": text}, POOLS)
    except PolicyErrors as errors:
        assert errors.errors
        for error in errors.errors:
            assert 1 <= error.line <= len(lines), error
            assert error.column >= 1
            assert error.message
            assert error.render()
    else:
        assert len(loaded.policies) <= 2


@settings(max_examples=examples(120), deadline=None)
@given(
    st.text(st.sampled_from("abidle copies(tp)<>=!'\"\\*?%0123456789.-, \n"), max_size=40)
    | st.text(max_size=20)
)
def test_any_text_is_an_expression_or_has_faults_within_it(text: str) -> None:
    found = check_expression(text, POOLS)
    assert (found.expression is None) == any(not fault.warning for fault in found.faults)
    for fault in found.faults:
        assert 0 <= fault.start <= len(text)
        assert fault.start <= fault.end <= len(text) + 1


@settings(max_examples=examples(60), deadline=None)
@given(expressions(), st.booleans())
def test_an_expression_means_the_same_whatever_its_white_space_and_case(text: str, upper: bool) -> None:
    spaced = text.replace(" ", " \n ")
    if upper:
        for word in ("and", "or", "not", "in", "is", "null", "between", "like"):
            spaced = spaced.replace(f" {word} ", f" {word.upper()} ")
    if "'" not in text:
        assert checked(spaced).root == checked(text).root


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(expressions(), min_size=4, max_size=4))
def test_any_good_conditions_make_a_good_policy_with_or_without_warnings(texts: list[str]) -> None:
    first, second, third, fourth = map(json.dumps, texts)
    loaded = load_texts(
        {
            "p.yaml": f"classes: {{c: {first}}}\n---\npolicy: p\npriority: 1\n"
            "copies: {tape: 2 within 24h, sites: 2}\n"
            f"rules:\n  - {{name: a, copy to: tape-a, when: {second}}}\n"
            f"  - {{name: b, release from: online, when: {third}, stay at least: 3d}}\n"
            f"  - {{name: c, move to: nearline, from: online, when: {fourth}}}\n"
            "  - {name: d, copy to: tape-b, when: class(c)}\n"
        },
        POOLS,
    )
    assert all(warning.warning and warning.line for warning in loaded.warnings)
