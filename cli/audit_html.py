"""The audit of copies as one HTML page that needs nothing else: to be mailed, printed and kept."""

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
    verdict = (
        '<p class="good">Every study has the copies that it was promised, or time is left for them.</p>'
        if found["good"]
        else f'<p class="bad">{found["under_protected"]} studies lack copies and their time is over.</p>'
    )
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
    more = f"<p>{left} more are not named here.</p>" if left else ""
    title = f"Copies at {escape(text.local(found['at']))}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{verdict}{goals}"
        f"<h2>Studies without their copies</h2>{studies}{more}</body></html>\n"
    )


def lacks(study: Record) -> str:
    """In words, the copies that a study has not."""
    return ", ".join(f"has {each['have']} of {each['goal']}" for each in study["lacks"])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f'<td class="n">{value}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
