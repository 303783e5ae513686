"""The configuration of deletion: how long the trash keeps studies, and what goes with them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hsm.config.fields import Seconds, Section


class DeletionConfig(Section):
    trash: Seconds = Field(
        default=30 * 86400.0,
        description="a duration: how long every copy of a deleted study stays, and it can be taken back",
    )
    late: Literal["accept", "refuse"] = Field(
        default="accept",
        description='"accept" (what arrives for a deleted study is kept as something new) or "refuse"',
    )
    forget_patient: bool = Field(
        default=False,
        strict=True,
        description="true or false: once no copy is left the catalog keeps UIDs and digests, no names",
    )
