# ruff: noqa: E501  # one case a line, so that they can be compared
"""Warnings: what is allowed but hardly meant, said with the line and the mend."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies import PolicySet, PoolInfo, load_texts
from policies.carry import Load, carriage, in_the_end

POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("tape-a", "tape", "nearline", "main"),
    PoolInfo("tape-b", "tape", "nearline", "main"),
    PoolInfo("vault", "tape", "offline", "cellar"),
)


def load(*rules: str, head: str = "copies: {tape-a: 1}", name: str = "p", priority: int = 10) -> PolicySet:
    lines = "".join(f"  - {rule}\n" for rule in rules)
    text = f"policy: {name}\npriority: {priority}\n{head}\nrules:\n{lines}"
    return load_texts({"p.yaml": text}, POOLS)


def said(loaded: PolicySet) -> str:
    return "\n".join(f"{each.line}: {each.message}" for each in loaded.warnings)


TAPE = "{name: t, copy to: tape-a}"
FREE = "{name: r, release from: online, when: idle > 30d}"
CASES = [
    # contradictions
    ((TAPE, FREE, "{name: u, release from: tape-a, when: age > 1 year}"), "copies: {tape-a: 1}", "7: rule 'u' releases from tape-a, where the policy's own copies demand 1: it will always be refused"),
    ((TAPE, "{name: m, move to: vault, from: tape-a, when: age > 1 year}"), "copies: {tape-a: 1}", "6: rule 'm' moves from tape-a, where"),
    (("{name: v, copy to: vault}", "{name: u, release from: vault, when: age > 9 years}"), "copies: {tape: 1, sites: 2}", "the only pool of its site, and copies demand 2 different sites"),
    ((TAPE, "{name: n, copy to: nearline, when: idle > 10 min}", "{name: u, release from: nearline, when: age > 2 years}"), "copies: {tape-a: 1}", "6: rule 'n' brings to nearline what rule 'u' takes out of it: a study that meets both goes back and forth; add to its when: and not (age > 2 years)"),
    ((TAPE, "{name: b, recall to: online, when: size < 1 GB}", FREE), "copies: {tape-a: 1}", "6: rule 'b' brings to online what rule 'r' takes"),
    ((TAPE, "{name: u, release from: online, when: legal_hold and idle > 1d}"), "copies: {tape-a: 1}", "under legal hold: it will always be refused; write not legal_hold"),
    ((TAPE, "{name: u, release from: online, when: retention > 1 year}"), "copies: {tape-a: 1}", "studies that are retained: it will always be refused"),
    # protection
    ((FREE,), "limits: {}", "5: rule 'r' releases from online what no copy goal protects; only the archive's own rule of one other verified copy stands: add copies: {POOL: 1}. No rule of the policy copies anywhere."),
    ((TAPE, FREE), "limits: {}", "6: rule 'r' releases from online what no copy goal protects"),
    ((TAPE, FREE), "copies: {tape-a: 1, vault: 1}", "no rule copies to vault, which copies demand: unless studies arrive there nothing is ever released; add a rule with copy to: vault"),
    ((TAPE, FREE), "copies: {tape: 2}", "its rules make 1 of the 2 verified copies in kind tape, which copies demand"),
    ((TAPE, FREE), "copies: {sites: 2}", "its rules copy to 1 of the 2 different sites that copies demand"),
    ((TAPE, FREE, "{name: n, copy to: nearline}"), "copies: {tape: 1, offline: 1}", "no rule copies to offline, which copies demand: unless studies arrive there nothing is ever released; add a rule with copy to: vault"),
    # shadows
    ((TAPE, FREE, "{name: s, release from: online, when: idle > 90d}"), "copies: {tape-a: 1}", "7: rule 's' does nothing that rule 'r' before it would not do"),
    ((TAPE, "{name: s, copy to: tape-a, when: idle > 90d}"), "copies: {tape-a: 1}", "6: rule 's' does nothing that rule 't' before it would not do"),
    # never and always
    (("{name: t, copy to: tape-a, when: (idle > 90d and idle < 30d) or size > 1 GB}",), "limits: {}", "has a part that can never match (idle > 90d and idle < 30d): no value of idle meets all its conditions"),
    (("{name: t, copy to: tape-a, when: idle > 90d or idle < 100d}",), "limits: {}", "has a condition that always holds"),
    ((TAPE, "{name: p, prefetch to: online, when: received < 1h, priors: {when: age > 1d and age < 1d}}"), "limits: {}", "can never find a prior: no value of age"),
    # endless
    ((TAPE, "{name: v, verify: tape-a, when: idle > 1 year}"), "limits: {}", "6: rule 'v' reads back the same copies in every run: add to its when verified(tape-a) > 1 year"),
    ((TAPE, "{name: p, prefetch to: online, priors: {at most: 3}}"), "limits: {}", "fetches priors of every study again in every run"),
    # deadlines and schedules
    (("{name: t, copy to: tape-a, when: received > 2d}",), "copies: {tape-a: 1 within 24h}", "tape-a demands its copies within 1 d and rule 't' waits longer than that"),
    (("{name: t, copy to: tape-a, when: idle > 30 min}",), "copies: {tape-a: 1 within 10 minutes}", "rule 't' waits longer"),
    ((TAPE,), "copies: {tape-a: 1 within 4h}\nschedule: {every: 5 min, between: 20:00 and 06:00}", "within 4 h and the schedule runs nothing for up to 14 h"),
    ((TAPE,), "copies: {tape-a: 1 within 24h}\nschedule: {cron: 0 2 * * mon-fri}", "the schedule runs nothing for up to 3 d"),
    ((TAPE,), "copies: {tape-a: 1 within 24h}\nschedule: {every: 1 hour, not on: [sat, sun]}", "for up to 2 d 1 h"),
    ((TAPE,), "schedule: {cron: 0 12 * * *, between: 20:00 and 06:00}", "its cron 0 12 * * * begins at no time between 20:00 and 06:00: it never runs"),
    ((TAPE,), "schedule: {every: 2 h, between: [12:00 and 13:00, 20:00 and 06:00]}", "only in windows of 1 h, which it may miss"),
    ((TAPE,), "schedule: {every: 3 days, between: 20:00 and 06:00}", "it runs every 3 d and only in windows of 10 h, which it may miss"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "head", "says"), CASES, ids=[case[2][:50] for case in CASES])
def test_what_is_hardly_meant_is_warned_about_once(rules: tuple[str, ...], head: str, says: str) -> None:
    found = said(load(*rules, head=head))
    assert found.count(says) == 1, found


GOOD = [
    ((TAPE, FREE), "copies: {tape-a: 1}"),
    ((TAPE, "{name: b, recall to: online, when: accesses(7d) > 2}", FREE), "copies: {tape-a: 1}"),
    ((TAPE, "{name: n, copy to: nearline, when: age <= 2 years}", "{name: u, release from: nearline, when: age > 2 years}"), "copies: {tape-a: 1}"),
    ((TAPE, "{name: n, copy to: nearline, when: not age > 2 years}", "{name: u, release from: nearline, when: age > 2 years}"), "copies: {tape-a: 1}"),
    ((TAPE, "{name: b, copy to: tape-b}", FREE), "copies: {tape: 2}"),
    ((TAPE, "{name: v, copy to: vault}", FREE), "copies: {sites: 2, tape: 2}"),
    ((TAPE,), "copies: {tape-a: 1 within 24h}\nschedule: {cron: 0 2 * * *}"),
    ((TAPE, "{name: v, verify: tape-a, when: verified(tape-a) > 1 year}"), "limits: {}"),
    ((TAPE, "{name: p, prefetch to: online, when: received < 1h, priors: {at most: 3}}", FREE), "copies: {tape-a: 1}"),
    ((TAPE, FREE, "{name: w, release from: online, when: idle > 7d, start above: 85%, stop below: 70%}"), "copies: {tape-a: 1}"),
    ((TAPE, "{name: s, release from: online, when: idle > 90d}", FREE), "copies: {tape-a: 1}"),
    (("{name: m, move to: nearline, from: online, when: idle > 30d}", TAPE), "copies: {tape-a: 1}"),
    (("{name: m, move to: nearline, from: online, when: idle > 30d and idle <= 2 years}", "{name: o, move to: vault, from: nearline, when: idle > 2 years}", TAPE), "copies: {tape-a: 1}"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "head"), GOOD)
def test_what_is_well_meant_is_not_warned_about(rules: tuple[str, ...], head: str) -> None:
    assert said(load(*rules, head=head)) == ""


def test_the_deliberately_dangerous_policy_is_told_so() -> None:
    loaded = load("{name: gone, release from: online, when: received > 1d}", head="limits: {}")
    assert "what no copy goal protects" in said(loaded)
    assert "No rule of the policy copies anywhere." in said(loaded)


def sets(*scopes: str) -> PolicySet:
    texts = {
        f"{n}.yaml": f"policy: p{n}\npriority: {n + 1}\n{scope}\nrules:\n  - {TAPE}\n"
        for n, scope in enumerate(scopes)
    }
    return load_texts(texts, POOLS)


def test_overlaps_are_noted_with_who_owns_the_study_and_are_no_warnings() -> None:
    loaded = sets("scope: modality = MG", "scope: institution = 'A'", "limits: {}")
    assert loaded.warnings == ()
    (note,) = loaded.notes
    assert (note.file, note.line) == ("1.yaml", 1)
    assert note.message == (
        "policies 'p0' and 'p1' may both mean a study: then 'p0' owns it, by its priority 1 before 2"
    )


def test_scopes_that_exclude_each_other_are_not_noted() -> None:
    assert sets("scope: source_ae like 'A*'", "scope: source_ae in (B1, B2)").notes == ()


def test_a_scope_that_lies_in_an_earlier_one_never_owns_a_study() -> None:
    assert "'p0' goes before it" in said(
        sets("scope: modality in (CT, MR)", "scope: modality = CT and age > 1d")
    )


def test_a_scope_that_earlier_ones_cover_together_never_owns_a_study() -> None:
    loaded = sets("scope: size > 1 GB", "scope: size <= 1 GB", "scope: modality = CT")
    assert "'p0', 'p1' go before it and together own every study" in said(loaded)


def test_a_scope_that_no_study_meets_is_warned_about_and_covers_nothing() -> None:
    loaded = sets("scope: size > 2 GB and size < 1 GB", "scope: size > 3 GB")
    assert said(loaded).count("never owns a study") == 1
    assert "no value of size meets all its conditions" in said(loaded)


def test_an_unused_class_is_warned_about_at_its_name() -> None:
    text = f"policy: p\npriority: 1\nclasses:\n  big: size > 1 GB\nrules:\n  - {TAPE}\n"
    (warning,) = load_texts({"p.yaml": text}, POOLS).warnings
    assert (warning.line, warning.column) == (4, 3)
    assert "class 'big' is used nowhere" in warning.message


# load


NIGHT = "copies: {tape-a: 1}\nschedule: {every: 5 min, between: 20:00 and 06:00}"


def test_a_schedule_that_cannot_carry_its_load_says_what_it_needs_of_what() -> None:
    policy = load(TAPE, head=NIGHT).policies[0]
    found = carriage(policy, [Load("t", 1000, 31 * 3600 * 100e6, 100e6)])
    assert found.needed == timedelta(hours=31)
    (warning,) = found.warnings
    assert "needs 31 h of a 10 h window, most of it rule 't' with 10.1 TiB a day at 100 MB/s" in warning


def test_bandwidth_and_blackout_days_take_their_share() -> None:
    head = (
        "limits: {bandwidth: 50 MB/s}\nschedule: {every: 5 min, between: 20:00 and 06:00, not on: [sat, sun]}"
    )
    policy = load(TAPE, head=head).policies[0]
    found = carriage(policy, [Load("t", 1000, 5 * 3600 * 50e6, 100e6)])
    assert found.needed == timedelta(hours=7)
    assert found.warnings == ()
    (warning,) = carriage(policy, [Load("t", 1000, 10 * 3600 * 50e6, 100e6)]).warnings
    assert "needs 14 h of a 10 h window" in warning
    assert "raise the bandwidth" in warning


def test_limits_of_a_run_that_let_less_go_than_comes_are_told() -> None:
    head = "limits: {studies per run: 10, bytes per run: 1 GB}\nschedule: cron 0 2 * * *"
    found = carriage(load(TAPE, head=head).policies[0], [Load("t", 25, 5e9, 100e6)])
    assert "lets 10 a day go and 25 come" in found.warnings[0]
    assert "per run lets 954 MiB a day go and 4.66 GiB come" in found.warnings[1]


def test_a_backlog_is_done_in_what_the_day_leaves() -> None:
    policy = load(TAPE, head=NIGHT).policies[0]
    calm = carriage(policy, [Load("t", 1, 5 * 3600 * 1e8, 1e8, backlog_bytes=50 * 3600 * 1e8)])
    assert calm.backlog == timedelta(days=10)
    full = carriage(policy, [Load("t", 1, 11 * 3600 * 1e8, 1e8, backlog_bytes=1e9)])
    assert full.backlog is None


@pytest.mark.parametrize(
    ("when", "asks"),
    [
        ("received > 1 day", set()),
        ("received > 1 day and modality = CT", {"modality"}),
        ("modality = CT or idle > 30d", set()),
        ("modality = CT or institution = 'A' and not copies(tape-a) > 1", {"modality", "institution"}),
        ("not (age > 1 year or tags = keep) and patient_age < 18 years", {"patient_age"}),
        ("class(c) and accesses(30d) = 0", {"size"}),
    ],
)
def test_what_passes_is_left_out_of_the_load_of_a_rule(when: str, asks: set[str]) -> None:
    classes = "classes: {c: size > 1 GB and fill(online) > 50%}"
    rules = ("{name: a, copy to: tape-a, when: class(c)}", f"{{name: t, copy to: tape-a, when: {when}}}")
    rule = load(*rules, head=classes).policies[0].rules[1]
    assert {leaf.ref.fact.name for leaf in in_the_end(rule.when).leaves()} == asks


def test_a_load_of_no_rule_and_a_rate_of_nothing_are_refused() -> None:
    policy = load(TAPE).policies[0]
    with pytest.raises(LookupError, match="no rule 'x'"):
        carriage(policy, [Load("x", 1, 1, 1)])
    with pytest.raises(ValueError, match="above 0"):
        Load("t", 1, 1, 0)
