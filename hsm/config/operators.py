"""How operators are treated: how long they may take, and who is told when."""

from __future__ import annotations

from pydantic import Field

from hsm.config.fields import Seconds, Section


class OperatorConfig(Section):
    """Prompts: mount requests that a person answers."""

    acknowledged_for: Seconds = Field(
        default=1800.0,
        ge=1,
        description="a duration: how long somebody who has gone for a volume is taken to be on the way",
    )
    switch_after: Seconds | None = Field(
        default=3600.0,
        description="a duration: after it an unanswered prompt gives way to another copy; null for never",
    )
    walk: Seconds = Field(default=600.0, description="a duration: from a shelf to its library")
    other_site: Seconds = Field(default=4 * 3600.0, description="a duration: from another site")
