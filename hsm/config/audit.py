"""The audit trail: where the journal is anchored and streamed to, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from hsm.config.fields import Folder, Seconds, Section


class AnchorsConfig(Section):
    """Heads of the journal that are kept elsewhere. Volumes that are mounted get one with every flush."""

    every: Seconds = Field(
        default=6 * 3600.0,
        ge=60,
        description="a duration of a minute at least: how often pools without drives, and the file, get one",
    )
    file: Folder | None = Field(
        default=None, description="the path of a file, best on storage that others administer"
    )


class AuditConfig(Section):
    """The journal outside the database."""

    anchors: AnchorsConfig = Field(default=AnchorsConfig(), description="a mapping: every, file")


def audit_files(data: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where files are named in the section as it is written; what has another shape is left out."""
    section = data.get("audit")
    for name, keys in (("anchors", ("file",)),):
        options = section.get(name) if isinstance(section, Mapping) else None
        if isinstance(options, dict):
            yield from ((options, key) for key in keys)
