"""Where volumes stand and how prompts ended, in an operator's words. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hsm.catalog.prompts import PromptRef

Record = dict[str, Any]

HELD = ("C-MOVE", "C-GET")
"""How those who wait for a retrieve that is held begin."""


def held_since(waiters: list[Record]) -> datetime | None:
    """Since when the longest retrieve that is held waits; deliveries and commands wait without end."""
    held = (each["since"] for each in waiters if each["who"].startswith(HELD))
    return min(held, default=None)


def closed(prompt: PromptRef) -> str:
    """One sentence about a mount request that was answered."""
    at = f" at {prompt.answered_at:%Y-%m-%d %H:%M} UTC" if prompt.answered_at else ""
    why = f": {prompt.comment}" if prompt.comment else ""
    outcome = prompt.outcome or prompt.state.value
    return f"{prompt.barcode} was answered already: {outcome}, by {prompt.answered_by}{at}{why}"


def end_of(prompt: PromptRef) -> Record:
    return {
        "outcome": prompt.outcome or prompt.state.value,
        "answered_by": prompt.answered_by,
        "answered_at": prompt.answered_at,
        "comment": prompt.comment,
    }
