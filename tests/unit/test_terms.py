"""Matching terms against Python's own idea of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import terms
from hsm.terms import LEVEL_OF, AnyOf, Exact, Field, Level, NameMatch, Range, Wildcard

LETTERS = st.text(alphabet=st.sampled_from("ab*?\\%_["), max_size=12)


def reference(pattern: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile(
        "".join(wild.get(token) or re.escape(token[-1]) for token in terms.tokens(pattern)), re.DOTALL
    )


@given(LETTERS, LETTERS)
def test_matching_is_what_a_regular_expression_says(pattern: str, text: str) -> None:
    assert terms.matches(pattern, text) == bool(reference(pattern).fullmatch(text))


def test_many_stars_do_not_take_for_ever() -> None:
    assert not terms.matches("*a" * 200 + "b", "a" * 500)


@given(LETTERS)
def test_a_plain_pattern_is_its_literal(text: str) -> None:
    escaped = re.sub(r"([*?\\])", r"\\\1", text)
    assert terms.is_plain(escaped)
    assert terms.literal(escaped) == text
    assert terms.matches(escaped, text)


def test_text_keys() -> None:
    assert terms.text_term("") is None
    assert terms.text_term("**") is None
    assert terms.text_term("CT") == Exact("CT")
    assert terms.text_term("C**T?") == Wildcard("C*T?")
    assert terms.text_term("a\\*") == Wildcard("a\\\\*")


@pytest.mark.parametrize(
    ("key", "name", "found"),
    [
        ("doe*", "Doe^John", True),
        ("DOE^JOHN", "doe^john^^^", True),
        ("Doe", "Doe^John", False),
        ("Doe^*", "Doe", True),
        ("Doe^*", "Doeman^John", False),
        ("Doe*^*", "Doeman", True),
        ("Doe^*^*", "Doe^John^Q", True),
        ("D?e^John", "Doe^John", True),
        ("*john", "Doe^John", True),
        ("=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=山田*", "山田^太郎", False),
        ("==やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("Yamada*=山田*=やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山*う", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("ヤマダ*", "ﾔﾏﾀﾞ^ﾀﾛｳ", True),
        ("M?ller", "MÜLLER", True),
    ],
)
def test_person_names(key: str, name: str, found: bool) -> None:
    term = terms.name_term(key)
    assert term is not None
    assert term.accepts(name) is found


@pytest.mark.parametrize("key", ["", "*", "*^*", "^^", "=", "==", "*=*", "  "])
def test_a_name_key_that_says_nothing_matches_everything(key: str) -> None:
    assert terms.name_term(key) is None


def test_terms_that_would_match_everything_or_nothing_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="matches nothing"):
        AnyOf(())
    with pytest.raises(ValueError, match="matches everything"):
        Range(None, None)
    with pytest.raises(ValueError, match="matches everything"):
        NameMatch(("", "", ""), True)


def test_every_field_has_the_level_its_name_says() -> None:
    prefixes = {"patient": Level.PATIENT, "study": Level.STUDY, "series": Level.SERIES}
    for field in Field:
        prefix = field.value.split("_")[0]
        if prefix in prefixes:
            assert LEVEL_OF[field] is prefixes[prefix], field
    assert LEVEL_OF[Field.MODALITIES] is Level.STUDY
    assert LEVEL_OF[Field.MODALITY] is Level.SERIES
    assert LEVEL_OF[Field.SOP_CLASS_UID] is Level.IMAGE
