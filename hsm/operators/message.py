"""What is told about prompts: one message for all of them that are due. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Record = Mapping[str, Any]
SHOWN_MAX = 50
NAMES_MAX = 3


@dataclass(frozen=True, slots=True)
class Message:
    """A subject, text for people, and the same for programs."""

    subject: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def compose(prompts: Sequence[Record], archive: str, now: datetime) -> Message:
    """About these prompts (as :meth:`hsm.operators.Operators.prompts` gives them), the most urgent first."""
    names = [str(each["barcode"]) for each in prompts]
    shown = ", ".join(names[:NAMES_MAX]) + (
        f" and {len(names) - NAMES_MAX} more" if names[NAMES_MAX:] else ""
    )
    urgent = "URGENT: " if any(each["priority"] == "stat" for each in prompts) else ""
    count = "1 volume is" if len(names) == 1 else f"{len(names)} volumes are"
    subject = clean(f"[{archive}] {urgent}{count} waited for: {shown}")
    parts = [_paragraph(each) for each in prompts[:SHOWN_MAX]]
    if len(prompts) > SHOWN_MAX:
        parts.append(f"and {len(prompts) - SHOWN_MAX} more")
    parts.append("Answer with: hsm operator watch, or hsm operator scan BARCODE")
    data = {
        "archive": archive,
        "at": _time(now),
        "subject": subject,
        "prompts": [_data(each) for each in prompts[:SHOWN_MAX]],
        "count": len(prompts),
    }
    return Message(subject, "\n\n".join(parts) + "\n", data)


def _paragraph(prompt: Record) -> str:
    lines = [f"{prompt['barcode']}: {prompt['where']}"]
    if prompt["into"]:
        lines.append(f"put it into {prompt['into']} of {prompt['library']}")
    lines.append(f"{prompt['priority']}, asked for at {_time(prompt['created_at'])}")
    lines += [f"for {each['who']}" for each in prompt["waiters"][:NAMES_MAX]]
    if len(prompt["waiters"]) > NAMES_MAX:
        lines.append(f"and for {len(prompt['waiters']) - NAMES_MAX} others")
    lines += [f"or bring {each['barcode']}: {each['where']}" for each in prompt["alternatives"]]
    lines += [f"note: it {prompt['note']}"] if prompt["note"] else []
    return "\n    ".join(clean(line) for line in lines)


def _data(prompt: Record) -> dict[str, Any]:
    same = ("id", "barcode", "where", "library", "into", "priority", "note", "bytes", "requests")
    return {key: prompt[key] for key in same} | {
        "since": _time(prompt["created_at"]),
        "waiters": [str(each["who"]) for each in prompt["waiters"][:SHOWN_MAX]],
        "alternatives": [
            {"barcode": each["barcode"], "where": each["where"]} for each in prompt["alternatives"]
        ],
    }


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean(text: str) -> str:
    """One line: what a peer called itself must not become a header of a mail."""
    return "".join(character if character.isprintable() else " " for character in text)
