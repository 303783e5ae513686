"""What is received can be recalled again: the largest dataset, by the size of the staging area."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hsm.config.driverrules import Finding
from hsm.config.units import parse_size
from hsm.window import passes_at_most

DATASET_BYTES: Final = 4 << 30
"""The largest that is received where nothing else is said."""
STAGING_BYTES: Final = 20 << 30
HEAD_BYTES: Final = 4096
"""At most: preamble and File Meta Information of a Part 10 file (PS3.10 section 7.1)."""


def dataset_bytes(data: Mapping[str, Any]) -> int:
    """Of the largest dataset that is received, where nothing is said of it."""
    most = _recallable(data)
    return DATASET_BYTES if most is None else min(DATASET_BYTES, most)


def staging_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What would be received and never come back is refused before anything is received."""
    most, dicom = _recallable(data), data.get("dicom")
    given = _size(dicom.get("max_dataset_bytes")) if isinstance(dicom, Mapping) else None
    if most is not None and given is not None and given > most:
        yield (
            ("dicom", "max_dataset_bytes"),
            f"an instance of {given} bytes could not be recalled through staging.size_max_bytes: "
            f"expected at most {most}, or a larger staging area",
        )


def _recallable(data: Mapping[str, Any]) -> int | None:
    """Bytes of the largest dataset that comes back from a volume that must be mounted, or from cold storage;
    None where there are none, or the size of the staging area is no size."""
    pools = data.get("pools")
    if not isinstance(pools, list | tuple) or not any(map(_is_recalled, pools)):
        return None
    staging = data.get("staging", {})
    area = _size(staging.get("size_max_bytes", STAGING_BYTES)) if isinstance(staging, Mapping) else None
    return max(passes_at_most(area) - HEAD_BYTES, 1) if area is not None else None


def _is_recalled(pool: object) -> bool:
    if not isinstance(pool, Mapping):
        return False
    options = pool.get("options")
    return bool(pool.get("library")) or (isinstance(options, Mapping) and bool(options.get("storage_class")))


def _size(value: object) -> int | None:
    """None where validation reports it."""
    try:
        return parse_size(value)
    except ValueError:
        return None
