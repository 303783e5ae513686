"""What the parser stumbled over, in the words of someone who writes policies, with the mend."""

from __future__ import annotations

import re

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from policies.errors import Fault

_FOREIGN = (
    ("==", "write = to compare"),
    ("=>", "write >= for at least"),
    ("=<", "write <= for at most"),
    ("&&", "write and"),
    ("&", "write and"),
    ("||", "write or"),
    ("|", "write or"),
    ("!", "write not, or != to compare"),
    ("≥", "write >="),
    ("≤", "write <="),
    ("≠", "write !="),
    ("‘", "write a straight quote: '"),
    ("’", "write a straight quote: '"),
    ("“", "write a straight quote: '"),
    ("”", "write a straight quote: '"),
    ("[", "write a set in parentheses: (CT, MR)"),
    ("{", "write a set in parentheses: (CT, MR)"),
    ("*", "write text with wildcards in quotes after like: description like 'CT*'"),
    ("?", "write text with wildcards in quotes after like: description like 'CT?'"),
    ("~", "write like with wildcards: description like '*Thorax*'"),
    ("$", "there are no variables: write the value itself"),
    (
        "-",
        "there are no negative values and no subtraction: write a plain number, and for times to today age",
    ),
    ("+", "nothing is calculated here: write the result"),
    ("/", "nothing is calculated here: write the result; a date is written 2024-01-31"),
    (":", "write text with a colon in quotes"),
    (".", "write text with a dot in quotes; a number begins with a digit"),
    (";", "write and or or between two conditions"),
)
_WORDS = {
    **dict.fromkeys(("contains", "containing", "includes"), "write like '*TEXT*'"),
    **dict.fromkeys(("starts", "begins", "startswith"), "write like 'TEXT*'"),
    **dict.fromkeys(("ends", "endswith"), "write like '*TEXT'"),
    **dict.fromkeys(("older", "younger", "newer"), "write age > 3 years, or age < 3 years"),
    **dict.fromkeys(("more", "greater", "larger", "above", "over", "exceeds", "after"), "write >"),
    **dict.fromkeys(("less", "smaller", "fewer", "below", "under", "before"), "write <"),
    **dict.fromkeys(("equals", "equal", "eq"), "write ="),
    "matches": "write like '*TEXT*'",
    "has": "write =",
    "than": "write > or <",
}
_VALUES = ("NAME", "NUMBER", "STRING", "DATE")
_ENDS = {"_AND", "_OR", "$END"}


def explain_syntax(text: str, error: UnexpectedInput) -> Fault:
    """What the parser stumbled over, in the words of someone who writes policies."""
    tag = re.search(r"\(?\b[0-9A-Fa-f]{4}\s*,\s*[0-9A-Fa-f]{4}\b\)?", text)
    if tag is not None:
        message = f"{tag.group()} is a tag: write the name of a fact, as in modality = CT"
        return Fault(*tag.span(), message)
    if isinstance(error, UnexpectedCharacters):
        return _explain_character(text, error.pos_in_stream or 0)
    if isinstance(error, UnexpectedToken):
        token = error.token
        expected = set(error.accepts or error.expected)
        if token.type == "$END":
            return _explain_end(text, expected)
        return _explain_token(text, token, expected)
    return Fault(0, len(text), "this is not an expression; write a condition such as idle > 30d")


def _explain_character(text: str, at: int) -> Fault:
    if text[at] in "'\"":
        return Fault(at, len(text), f"the text is not closed: write {text[at]} at its end")
    if re.search(r"\b\d{4}(-\d+)?$", text[:at]) and text[at] == "-":
        return Fault(at, at + 1, "write dates with two digits each, as in 2024-01-31")
    for match in re.finditer(r"\b(\d{1,2})[./](\d{1,2})[./](\d{4})\b", text):
        if match.start() <= at < match.end():
            return Fault(
                *match.span(),
                f"{match.group()} is not read as a date: write year-month-day, as in {match.group(3)}-01-31",
            )
    if text[at] == "." and text[:at].endswith(tuple("0123456789")):
        message = (
            "a number has one decimal point and nothing between thousands; write text such as a UID in quotes"
        )
        return Fault(at, at + 1, message)
    if text[at] == "*" and re.search(r"[\d\w]\s+$", text[:at]):
        return Fault(
            at,
            at + 1,
            "nothing is calculated here: write the result; text with wildcards is written in quotes",
        )
    for foreign, advice in _FOREIGN:
        if text.startswith(foreign, at):
            return Fault(at, at + len(foreign), f"{foreign} is not part of the language: {advice}")
    return Fault(
        at, at + 1, f"{text[at]!r} is not part of the language: write text that contains it in quotes"
    )


def _explain_end(text: str, expected: set[str]) -> Fault:
    at = len(text.rstrip())
    operator = re.search(r"\b(and|or|not)$", text[:at], re.IGNORECASE)
    if operator and "LPAR" in expected:
        return _half(operator.group(), operator.start(), at)
    if "RPAR" in expected or "COMMA" in expected:
        return Fault(at, at + 1, f"{_unclosed(text)} is not closed: write ) here")
    if expected == {"_AND"}:
        return Fault(at, at + 1, "between needs two ends: write as in age between 1 year and 2 years")
    if "COMPARISON" in expected:
        return Fault(
            at, at + 1, "the condition stops after its first word: write what to compare, as in idle > 30d"
        )
    if "_NULL" in expected:
        return Fault(at, at + 1, "the condition is not finished: write null or not null after is")
    return Fault(at, at + 1, "the condition is not finished: write a value after this, as in idle > 30d")


def _unclosed(text: str) -> str:
    """What the innermost parenthesis that is still open belongs to."""
    opened: list[int] = []
    for match in re.finditer(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[()]", text):
        if match.group() == "(":
            opened.append(match.start())
        elif match.group() == ")" and opened:
            opened.pop()
    before = text[: opened[-1]].rstrip() if opened else ""
    return "the set" if re.search(r"\bin$", before, re.IGNORECASE) else "a parenthesis"


def _explain_token(text: str, token: Token, expected: set[str]) -> Fault:
    at = token.start_pos or 0
    end = token.end_pos or at + 1
    word = str(token)
    before = text[:at].rstrip()
    # Two signs in a row are one sign of another language.
    if token.type == "COMPARISON" and before and before[-1] in "=<>!":
        for foreign, advice in _FOREIGN:
            if text.startswith(foreign, len(before) - 1):
                return Fault(len(before) - 1, end, f"{foreign} is not part of the language: {advice}")
    if token.type == "COMPARISON" and "_AND" in expected and "COMPARISON" not in expected:
        return Fault(
            at, end, "only one comparison at a time: write age between 10d and 30d, or join two with and"
        )
    if word.lower() in _WORDS and "COMPARISON" in expected:
        return Fault(at, end, f"{word!r} is not part of the language: {_WORDS[word.lower()]}")
    if re.fullmatch(r"(if|when|where|then)", before, re.IGNORECASE):
        start = len(before) - len(before.split()[-1])
        return Fault(
            start, len(before), f"leave out {before!r}: a condition begins with a fact, as in idle > 30d"
        )
    return _explain_value(text, token, expected) or _explain_rest(text, token, expected)


def _explain_value(text: str, token: Token, expected: set[str]) -> Fault | None:
    """What is wrong with values, their sets and the commas between them."""
    at = token.start_pos or 0
    end = token.end_pos or at + 1
    word = str(token)
    before = text[:at].rstrip()
    if "LPAR" in expected and re.search(r"\bin$", before, re.IGNORECASE):
        some = re.match(r"[\w'\"-]+(\s*,\s*[\w'\"-]+)*", text[at:])
        return Fault(at, end, f"in needs a set in parentheses: write in ({some.group() if some else word})")
    if token.type == "LPAR" and before.endswith(("=", ">", "<")):
        return Fault(at, end, "several values need in: write as in modality in (CT, MR)")
    if token.type == "COMMA":
        return _explain_comma(text, at, expected)
    if token.type in _VALUES and "COMMA" in expected:
        return Fault(at, end, f"values of a set are parted by commas: write a comma before {word!r}")
    if token.type == "NUMBER" and re.search(r"\d\s*[A-Za-z]+$", before):
        return Fault(at, end, "a value has one number and one unit: write for example 18 months")
    return None


def _explain_rest(text: str, token: Token, expected: set[str]) -> Fault:
    at = token.start_pos or 0
    end = token.end_pos or at + 1
    word = str(token)
    before = text[:at].rstrip()
    value = token.type in _VALUES
    if "_NULL" in expected:
        return Fault(at, end, f"after is only null or not null may stand: write = {word} to compare")
    if value and "COMPARISON" in expected:
        advice = "write a comparison (=, !=, <, <=, >, >=, in, between, like, is null)"
        return Fault(at, end, f"unexpected {word!r}: {advice} before it, as in idle > 30d")
    if value and expected & _ENDS:
        return Fault(
            at, end, f"two conditions need and or or between them; text with spaces needs quotes: {word!r}"
        )
    if token.type == "RPAR":
        return Fault(at, end, _explain_closing(before))
    if token.type in ("_AND", "_OR", "_NOT"):
        return _half(word, at, end)
    if "NAME" in expected or "NUMBER" in expected:
        return Fault(at, end, f"unexpected {word!r}: write a value here, as in idle > 30d")
    return Fault(at, end, f"unexpected {word!r}: write and or or before a further condition")


def _explain_closing(before: str) -> str:
    if before.endswith("("):
        return "the parentheses are empty: write a value in them"
    if before.endswith(","):
        return "a value is missing after the last comma: write it, or leave the comma out"
    return "this ) closes nothing, or a value is missing before it: write the value or leave ) out"


def _explain_comma(text: str, at: int, expected: set[str]) -> Fault:
    if re.search(r"\d$", text[:at]) and re.match(r"\d", text[at + 1 :]):
        return Fault(at, at + 1, "a comma is no decimal point: write a point, as in 1.5 years")
    if re.search(r"\bbetween\b[^()]*$", text[:at], re.IGNORECASE) and expected == {"_AND"}:
        return Fault(at, at + 1, "between needs and, not a comma: write as in age between 1 year and 2 years")
    if expected == {"RPAR"}:
        return Fault(
            at,
            at + 1,
            "one value may stand in these parentheses: write a condition for each and join them with and",
        )
    return Fault(at, at + 1, "a comma does not join conditions: write and or or instead")


def _half(word: str, start: int, end: int) -> Fault:
    if word.lower() == "not":
        return Fault(start, end, "not needs a whole condition after it, as in not idle > 30d")
    example = f"idle > 30d {word} age > 1 year"
    return Fault(start, end, f"{word} needs a whole condition on each side, as in {example}")
