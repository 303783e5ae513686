"""Audits of copies and of media as HTML pages that need nothing else: to be mailed, printed and kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cli import text

Record = dict[str, Any]

STYLE = """
body { font: 14px/1.5 sans-serif; margin: 2em auto; max-width: 70em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; width: 100% }
th, td { border-bottom: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }
td.n { text-align: right }
.bad { color: #b00020; font-weight: bold } .good { color: #0a6b2d; font-weight: bold }
"""


def page(found: Record) -> str:
    """The whole page. What comes from the archive is escaped."""
    lost = [
        (policy["policy"], uid)
        for policy in found["policies"]
        for uid in (policy.get("no_good_copy") or {"named": ()})["named"]
    ]
    if found["good"]:
        verdict = _good("Every study has the copies that it was promised, or time is left for them.")
    else:
        verdict = _bad(f"{found['under_protected']} studies lack copies and their time is over.")
    if found.get("no_good_copy"):
        verdict += _bad(f"Studies of which no good copy is left: {found['no_good_copy']}.")
        verdict += _table(("policy", "study without a good copy"), lost)
    goals = _table(
        ("policy", "goal", "within", "protected", "due", "past due"),
        (
            (
                policy["policy"],
                goal["goal"],
                goal["time"],
                *(goal[name]["studies"] for name in ("protected", "due", "past_due")),
            )
            for policy in found["policies"]
            for goal in policy["goals"]
        ),
    )
    studies = _table(
        ("policy", "study", "standing", "since", "lacks", "why", "under way"),
        (
            (
                policy["policy"],
                study["study"],
                study["standing"].replace("_", "-"),
                text.local(study["since"]),
                lacks(study),
                study["why"],
                study["under_way"],
            )
            for policy in found["policies"]
            for study in policy["studies"]
        ),
    )
    left = sum(policy["not_named"] for policy in found["policies"])
    title = f"Copies at {text.local(found['at'])}"
    source = "" if found["source"] == "catalog" else "<p>As the journal has it.</p>"
    return _html(
        title, f"{verdict}{source}{goals}<h2>Studies without their copies</h2>{studies}{_more(left)}"
    )


def media_page(found: Record) -> str:
    """All volumes: what depends on each, which drives and cartridges err, and what needs care."""
    out = [each for each in found["drives"] if not each["in_service"]]
    if found["good"]:
        verdict = _good("No medium and no drive needs anything now.")
    else:
        drives = f"; drives out of service: {len(out)}" if out else ""
        verdict = _bad(f"Volumes that need something done now: {found['needs_action']}{drives}.")
    care = _table(
        ("volume", "now", "what"),
        (
            (each["name"], "yes" if one["act"] else "", one["what"])
            for each in found["volumes"]
            for one in each["advice"]
        ),
    )
    names = ("volume", "pool", "state", "where", "age, days", "mounts", "copies", "damaged", "last copy of")
    volumes = _table(
        (*names, "second last of", "read back since", "hard errors", "soft errors"),
        (
            (
                *(each["name"], each["pool"], each["state"], _where(each), each["age_days"], each["mounts"]),
                *(each["copies"], each["damaged"], each["last_copy_of"]["studies"]),
                *(each["second_last_of"]["studies"], text.local(each["verified_since"])),
                *(each["hard_errors"], each["soft_errors"]),
            )
            for each in found["volumes"]
        ),
    )
    pairs = _table(
        ("drive", "volume", "hard errors", "soft errors", "soft a GB", "failing now", "to blame", "why"),
        (
            (
                f"{each['library']}/{each['drive']}",
                *(each["volume"], each["hard_errors"], each["soft_errors"]),
                "" if each["soft_errors_per_gigabyte"] is None else each["soft_errors_per_gigabyte"],
                *(each["failing"], each["blame"], each["why"]),
            )
            for each in found["pairs"]
        ),
    )
    drives = _table(
        ("drive", "product", "generation", "in service"),
        (
            (
                f"{each['library']}/{each['drive']}",
                *(each["product"], each["generation"] or "", "yes" if each["in_service"] else "NO"),
            )
            for each in found["drives"]
        ),
    )
    note = (
        "<p>Last copy of: studies whose last good copy a volume holds; second last of: that would have one "
        "other left.</p>"
    )
    return _html(
        f"Media at {text.local(found['at'])}",
        f"{verdict}<h2>What needs care</h2>{care}<h2>Volumes</h2>{note}{volumes}"
        f"<h2>Errors by drive and cartridge</h2>{pairs}<h2>Drives</h2>{drives}",
    )


def medium_page(found: Record) -> str:
    """One volume, and the studies that depend on it."""
    only, second = found["last_copy_of"]["studies"], found["second_last_of"]["studies"]
    said = (
        f"If it dies, {text.plural(only, 'study loses', 'studies lose')} the last good copy and {second} the "
        "second last."
    )
    state = f"<p>Pool {escape(found['pool'])}, {escape(found['state'])}, {escape(_where(found))}.</p>"
    care = _table(
        ("now", "what needs care"), (("yes" if one["act"] else "", one["what"]) for one in found["advice"])
    )
    studies = _table(
        ("study", "good copies elsewhere", "packages", "bytes"),
        (
            (each["study"], each["copies_elsewhere"], each["packages"], each["bytes"])
            for each in found["studies"]
        ),
    )
    verdict = _bad(said) if only else f"<p>{escape(said)}</p>"
    return _html(
        f"Volume {found['name']}",
        f"{verdict}{state}{care}<h2>Studies that depend on it</h2>{studies}{_more(found['not_named'])}",
    )


def _where(volume: Record) -> str:
    return " ".join(part for part in (volume["place"], volume.get("shelf") or "") if part)


def _html(title: str, body: str) -> str:
    """:param body: escaped already."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _good(words: str) -> str:
    return f'<p class="good">{escape(words)}</p>'


def _bad(words: str) -> str:
    return f'<p class="bad">{escape(words)}</p>'


def _more(left: int) -> str:
    return f"<p>{left} more are not named here.</p>" if left else ""


def lacks(study: Record) -> str:
    """In words, the copies that a study has not."""
    return ", ".join(f"has {each['have']} of {each['goal']}" for each in study["lacks"])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return (
        f'<td class="n">{value}</td>' if isinstance(value, int | float) else f"<td>{escape(str(value))}</td>"
    )
