"""Broken policies: each message stands at its line and says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies import PolicyError, PolicyErrors, load_folder, load_texts

POOLS = {"online", "nearline", "tape"}
GOOD = """\
policy: p
priority: 10
scope: modality in (CT, MR)
copies: {nearline: 1, tape: 1}
rules:
  - name: a
    copy to: nearline
    when: idle > 10 minutes
  - name: b
    release from: online
    when: idle > 30d and copies(nearline) >= 1
    start above: 85%
    stop below: 70%
    order by: idle desc
  - name: c
    copy to: tape
schedule: every 60 seconds
limits: {studies per run: 1000}
"""


def errors_of(text: str) -> tuple[PolicyError, ...]:
    with pytest.raises(PolicyErrors) as caught:
        load_texts({"p.yaml": text}, POOLS)
    return caught.value.errors


def mend(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_the_text_that_the_broken_ones_are_made_of_is_good() -> None:
    loaded = load_texts({"p.yaml": GOOD}, POOLS)
    assert [policy.name for policy in loaded.policies] == ["p"]
    assert loaded.warnings == ()


WHEN = "idle > 10 minutes"
BROKEN = [
    # (what is replaced, by what, line, column or None, what the message must say)
    # names
    (WHEN, "idel > 30d", 8, 11, "Did you mean 'idle'?"),
    (WHEN, "copies(nearlin) < 1", 8, 18, "Did you mean 'nearline'?"),
    (WHEN, "copies < 1", 8, 11, "write copies(POOL). Known pools: nearline, online, tape."),
    (WHEN, "idle(online) > 1d", 8, 11, "write idle"),
    (WHEN, "fill(disk9) > 10%", 8, 16, "there is no pool 'disk9'"),
    ("copy to: nearline", "copy to: neerline", 7, 14, "Did you mean 'nearline'?"),
    ("release from: online", "release from: onlien", 10, 19, "Did you mean 'online'?"),
    ("{nearline: 1, tape: 1}", "{nearline: 1, tapes: 1}", 4, 23, "Did you mean 'tape'?"),
    # types
    (WHEN, "idle > 30", 8, 18, "30 of what? write a unit, as in 30d"),
    (WHEN, "size > 500", 8, 18, "as in 500 MB"),
    (WHEN, "idle > 5 GB", 8, 18, "a size; expected a length of time such as 90d"),
    (WHEN, "size > 5 days", 8, 18, "a length of time; expected a size"),
    (WHEN, "idle > 3 dais", 8, 18, "Did you mean 'days'?"),
    (WHEN, "idle > 3 m", 8, 18, "write min or months"),
    (WHEN, "size > 3 GBit", 8, 18, "Did you mean 'GB'?"),
    (WHEN, "idle > 5000 years", 8, 18, "write a shorter time"),
    (WHEN, "size > 90000000000 TB", 8, 18, "write at most 9000 PB"),
    (WHEN, "idle = 30d", 8, 16, "write < or >, or between"),
    (WHEN, "age in (30d, 60d)", 8, 11, "write between, or < and >"),
    (WHEN, "institution > 'A'", 8, 23, "write =, != or in, or like"),
    (WHEN, "modality > CT", 8, 20, "write =, != or in"),
    (WHEN, "modality like 'C*'", 8, 25, "write modality with in (CT, MR)"),
    (WHEN, "modality between CT and MR", 8, 11, "write in (...) instead of between"),
    (WHEN, "institution like 5", 8, 28, "write institution like 'CT*'"),
    (WHEN, "size like '5*'", 8, 21, "write size with =, <, > or between"),
    (WHEN, "description = 'CT*'", 8, 25, "write description like 'CT*'"),
    (WHEN, "modality = 'C*'", 8, 22, "write the codes one by one: in (CT, MR)"),
    (WHEN, "accession = 12345", 8, 23, "write the value in quotes: '12345'"),
    (WHEN, "accession in ('1', 2)", 8, 30, "write the value in quotes: '2'"),
    (WHEN, "copies(tape) >= 1.5", 8, 27, "write 1 or 2"),
    (WHEN, "copies(tape) >= two", 8, 27, "expected a whole number such as 2"),
    (WHEN, "instances > 99999999999999999999", 8, 23, "write at most"),
    (WHEN, "fill(online) > 0.85", 8, 26, "did you mean 85%?"),
    (WHEN, "fill(online) > 85", 8, 26, "did you mean 85%?"),
    (WHEN, "fill(online) > 120%", 8, 26, "write at most 100%"),
    (WHEN, "age > 2024-01-31", 8, 17, "for dates write study_date"),
    (WHEN, "study_date > 30d", 8, 24, "expected a date such as 2024-01-31; for lengths of time write age"),
    (WHEN, "study_date > 2024-02-30", 8, 24, "is not in the calendar"),
    (WHEN, "study_date > 2024-1-3", 8, 28, "write dates with two digits each, as in 2024-01-31"),
    (WHEN, "age between 90d and 30d", 8, 23, "write the smaller one first"),
    (WHEN, "idle > age", 8, 18, "compare idle with a value"),
    (WHEN, "size is null", 8, 11, "leave out is null"),
    (WHEN, "institution = ''", 8, 25, "write institution is null"),
    (WHEN, "30d > 10d", 8, 11, "a condition begins with the name of a fact"),
    # syntax
    (WHEN, "idle == 30d", 8, 16, "write = to compare"),
    (WHEN, "idle => 30d", 8, 16, "write >= for at least"),
    (WHEN, "idle > 1d && age > 1d", 8, 21, "write and"),
    (WHEN, "idle > 1d || age > 1d", 8, 21, "write or"),
    (WHEN, "idle > ", 8, 17, "write a value after this, as in idle > 30d"),
    (WHEN, "idle", 8, 15, "write what to compare, as in idle > 30d"),
    (WHEN, "(idle > 1d", 8, 21, "write ) here"),
    (WHEN, "idle > 1d)", 8, 20, "closes nothing"),
    (WHEN, "modality in CT", 8, 23, "write in (CT)"),
    (WHEN, "modality in (CT, MR", 8, 30, "write ) here"),
    (WHEN, "modality in ()", 8, 24, "write a value in them"),
    (WHEN, "modality in [CT]", 8, 23, "write a set in parentheses: (CT, MR)"),
    (WHEN, "idle > 1d age > 2d", 8, 21, "need and or or between them"),
    (WHEN, "idle > 1d and", 8, 21, "needs a whole condition on each side"),
    (WHEN, "and idle > 1d", 8, 11, "needs a whole condition on each side"),
    (WHEN, "10d < idle < 30d", 8, 22, "write age between 10d and 30d"),
    (WHEN, "description like 'CT", 8, 28, "write ' at its end"),
    (WHEN, "description like “CT”", 8, 28, "write a straight quote"),
    (WHEN, "age is 3", 8, 18, "only null or not null"),
    (WHEN, "not idle", 8, 19, "write what to compare"),
    (WHEN, "idle older than 3 days", 8, 16, "write age > 3 years"),
    (WHEN, "idle > -3d", 8, 18, "write a plain number"),
    (WHEN, "(" * 50 + "idle > 1d" + ")" * 50, 8, 51, "split the rule"),
    (WHEN, "not " * 60 + "idle > 1d", 8, 11, "write it once or not at all"),
    (WHEN, " or ".join(["idle > 1d"] * 400), 8, 11, "split the rule"),
    (WHEN, f"modality in ({', '.join(['CT'] * 400)})", 8, 11, "split the rule"),
    (WHEN, "''", 8, 11, "write for example idle > 30d"),
    ("    when: idle > 10 minutes", "    when:", 8, 5, "write for example idle > 30d"),
    # scope
    ("modality in (CT, MR)", "copies(tape) > 0", 3, 8, "write this condition in the when of a rule"),
    (
        "modality in (CT, MR)",
        "[CT, MR]",
        3,
        8,
        "must be a single value: write for example modality in (CT, MR)",
    ),
    # keys
    ("priority: 10\n", "priorty: 10\n", 2, 1, "Did you mean 'priority'?"),
    ("priority: 10\n", "", 1, 1, "add a line such as priority: 100"),
    ("priority: 10\n", "priority: high\n", 2, 11, "must be a whole number from 0"),
    ("priority: 10\n", "priority: -1\n", 2, 11, "must be a whole number from 0"),
    ("priority: 10\n", "priority: 10\npriority: 11\n", 3, 1, "keep one"),
    ("policy: p\n", "", 1, 1, "add a line such as policy: default"),
    ("copy to: nearline", "copy_to: nearline", 7, 5, "Did you mean 'copy to'?"),
    ("    copy to: nearline\n", "", 6, 5, "the rule does nothing: add one of copy to, move to"),
    ("copy to: nearline", "copy to: nearline\n    release from: online", 8, 5, "make two rules"),
    ("copy to: nearline", "copy to: [nearline, tape]", 7, 14, "make a rule for each"),
    ("- name: a", "- nam: a", 6, 5, "Did you mean 'name'?"),
    ("- name: b", "- name: a", 9, 11, "rename one"),
    ("{nearline: 1, tape: 1}", "{nearline: 0, tape: 1}", 4, 20, "must be a whole number from 1 to 9"),
    ("{nearline: 1, tape: 1}", "[nearline, tape]", 4, 9, "must be a mapping of keys to values"),
    ("{studies per run: 1000}", "{study per run: 1000}", 18, 10, "Did you mean 'studies per run'?"),
    ("{studies per run: 1000}", "{bytes per run: 1000}", 18, 25, "as in 2 TB"),
    ("{studies per run: 1000}", "{bytes per run: 2 TX}", 18, 25, "is not a unit of size"),
    # watermarks and order
    ("    stop below: 70%\n", "", 12, 5, "add a line such as stop below: 70%"),
    ("    start above: 85%\n", "", 12, 5, "add a line such as start above: 85%"),
    ("stop below: 70%", "stop below: 90%", 13, 17, "must be less than 'start above'"),
    ("start above: 85%", "start above: 0.85", 12, 18, "must be a percentage"),
    (
        "    copy to: tape\n",
        "    copy to: tape\n    start above: 80%\n",
        17,
        5,
        "watermarks of a copy watch the pool that it copies from",
    ),
    ("order by: idle desc", "order by: idel desc", 14, 15, "Did you mean 'idle'?"),
    ("order by: idle desc", "order by: idle down", 14, 15, "as in idle desc, size desc"),
    ("order by: idle desc", "order by: institution", 14, 15, "cannot order studies"),
    (
        "    when: idle > 30d and copies(nearline) >= 1\n    start above: 85%\n    stop below: 70%\n",
        "",
        10,
        5,
        "this would release every study: add a when",
    ),
    # schedule
    ("every 60 seconds", "60 seconds", 17, 11, "expected 'every 60 seconds' or 'cron 0 2 * * *'"),
    ("every 60 seconds", "every 60", 17, 11, "write a number and a unit"),
    ("every 60 seconds", "every 5 parsecs", 17, 11, "is not a unit of time"),
    ("every 60 seconds", "every 10 years", 17, 11, "from 1 second to 1 year"),
    ("every 60 seconds", "cron 0 2 * *", 17, 11, "has 5 fields and this has 4"),
    ("every 60 seconds", "cron 0 25 * * *", 17, 11, "'25' is no hour: write 0 to 23"),
    ("every 60 seconds", "cron 0 2 31 feb *", 17, 11, "it would never run"),
    ("every 60 seconds", "cron 0 2 * * funday", 17, 11, "write 0 to 7 or sun to sat"),
    ("every 60 seconds", "cron */0 2 * * *", 17, 11, "write 1 to 59"),
    ("every 60 seconds", "cron: 0 2 * * *", 17, 15, "must be in quotes"),
    # YAML
    ("rules:", "rules: none\nrules2:", 5, 8, "must be a list"),
    ("policy: p\n", "policy: 'p\n", 1, 9, "write the same quote at their end"),
    ("scope: modality", "scope: %modality", 3, 8, "cannot begin with %"),
    (WHEN, "> 30d idle", 8, None, "must be in quotes"),
    (WHEN, "*idle", 8, 11, "must be in quotes"),
    ("  - name: a\n", "\t- name: a\n", 6, 1, "write spaces"),
    ("- name: a\n", "- a\n", 7, 12, "keys of one mapping must be indented alike"),
    ("policy: p\n", "policy: p\x07\n", 1, 10, "remove this character"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    BROKEN,
    ids=[f"{n}-{case[1][:30]!r}" for n, case in enumerate(BROKEN)],
)
def test_a_broken_policy_is_refused_at_its_line_with_its_mend(
    old: str, new: str, line: int, column: int | None, says: str
) -> None:
    found = errors_of(mend(old, new))
    matching = [error for error in found if says in error.message]
    assert matching, [str(error) for error in found]
    first = matching[0]
    assert (first.file, first.line) == ("p.yaml", line), str(first)
    if column is not None:
        assert first.column == column, first.render()
    assert first.source == mend(old, new).split("\n")[line - 1]
    assert not first.warning


WHOLE = [
    ("- a\n- b\n", 1, "a policy must be a mapping"),
    ("just words\n", 1, "a policy must be a mapping"),
    ("policy: a\npriority: 1\n", 1, "add rules:"),
    ("policy: a\npriority: 1\nrules: []\n", 3, "add at least one"),
    ("policy: a\npriority: 1\nrules:\n", 3, "must be a list"),
    ("policy: a\npriority: 1\nrules:\n  - copy it\n", 4, "a rule must be a mapping"),
    ("policy: a\npriority: 1\nrules:\n  - name: [x]\n    copy to: tape\n", 4, "must be a single value"),
    ("? [a]\n: 1\n", 1, "a key of a policy must be a plain word"),
    ("[" * 3000, 1, "write it flat"),
    ("{}\n", 1, "there is no 'policy' here"),
    ("policy: " + "x" * 200 + "\n", 1, "shorten it"),
]


@pytest.mark.parametrize(("text", "line", "says"), WHOLE)
def test_what_is_not_the_shape_of_a_policy_is_refused(text: str, line: int, says: str) -> None:
    found = errors_of(text)
    assert any(error.line == line and says in error.message for error in found), [str(e) for e in found]


def test_all_errors_of_all_files_come_at_once_in_order_of_file_and_line() -> None:
    first = GOOD.replace("idle > 10 minutes", "idel > 3 dais or size > 5 and modality like 'x'").replace(
        "85%", "8x"
    )
    second = GOOD.replace("policy: p", "policy: q").replace("priority: 10", "priority: x")
    with pytest.raises(PolicyErrors) as caught:
        load_texts({"b.yaml": second, "a.yaml": first}, POOLS)
    places = [(error.file, error.line) for error in caught.value.errors]
    assert places == [("a.yaml", 8), ("a.yaml", 8), ("a.yaml", 8), ("a.yaml", 12), ("b.yaml", 2)]


def test_an_error_shows_its_source_line_and_a_caret_under_all_of_it() -> None:
    (error,) = errors_of(GOOD.replace("idle > 10 minutes", "idel > 30d"))
    assert error.render().splitlines() == [
        "p.yaml:8:11: error: 'idel' is not a fact. Did you mean 'idle'?",
        "        when: idel > 30d",
        "              ^^^^",
    ]


@pytest.mark.parametrize(
    ("written", "line", "column"),
    [
        ("'description = ''x'' and idel > 3d'", 8, 36),
        ('"description = \\"x\\" and idel > 3d"', 8, 36),
        ("age > 1d\n      and idel > 3d", 9, 11),
        (">-\n      age > 1d\n\n      and idel > 3d", 11, 11),
        ("|  # why\n      age > 1d and\n      idel > 3d", 10, 7),
        ("age > 1d  and   idel > 3d", 8, 27),
    ],
)
def test_the_column_is_right_in_every_style_of_yaml(written: str, line: int, column: int) -> None:
    (error,) = errors_of(GOOD.replace("idle > 10 minutes", written))
    assert (error.line, error.column) == (line, column), error.render()
    assert error.source[error.column - 1 :].startswith("idel")


def test_lines_are_right_with_windows_line_ends_and_a_byte_order_mark() -> None:
    text = "\ufeff" + GOOD.replace("idle > 10 minutes", "idel > 30d").replace("\n", "\r\n")
    (error,) = errors_of(text)
    assert (error.line, error.column, error.source) == (8, 11, "    when: idel > 30d")


def test_two_policies_of_one_priority_are_refused_whatever_their_files_are_called() -> None:
    other = GOOD.replace("policy: p", "policy: q")
    with pytest.raises(PolicyErrors) as caught:
        load_texts({"a.yaml": GOOD, "b.yaml": other}, POOLS)
    (error,) = caught.value.errors
    assert (error.file, error.line) == ("b.yaml", 1)
    assert "has the priority 10 of 'p' (a.yaml:1): give each its own" in error.message


def test_two_policies_of_one_name_are_refused_within_one_file_too() -> None:
    text = GOOD + "---\n" + GOOD.replace("priority: 10", "priority: 11")
    (error,) = errors_of(text)
    assert (error.line, "rename one" in error.message) == (20, True)


def test_the_folder_is_read_and_every_problem_of_its_files_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("85%", "8x"))
    (tmp_path / "b.yaml").write_bytes(b"policy: p\n# caf\xe9\n")
    (tmp_path / "notes.txt").write_text("not a policy")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text("broken: [")
    with pytest.raises(PolicyErrors) as caught:
        load_folder(tmp_path, POOLS)
    assert sorted((Path(error.file).name, error.line) for error in caught.value.errors) == [
        ("a.yaml", 12),
        ("b.yaml", 2),
    ]


def test_a_missing_folder_is_an_error_and_an_empty_one_a_warning(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors, match="cannot be read"):
        load_folder(tmp_path / "none", POOLS)
    empty = load_folder(tmp_path, POOLS)
    assert empty.policies == ()
    assert "nothing is copied and nothing is released" in str(empty.warnings[0])


def test_a_file_that_ends_in_yml_is_warned_about_since_it_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text("broken: [")
    loaded = load_folder(tmp_path, POOLS)
    assert [Path(warning.file).name for warning in loaded.warnings] == ["b.yml"]
    assert "ends in .yaml" in loaded.warnings[0].message
