"""The Prometheus text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable

from hsm.catalog.views.overview import Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEVICE = "A reading of the device below a volume that needs no drive."
HELP = {
    "hsm_up": "1 while the daemon answers.",
    "hsm_start_time_seconds": "When the daemon started, in seconds since the epoch.",
    "hsm_problems": "Problems that `hsm status` lists.",
    "hsm_associations": "DICOM associations that are open.",
    "hsm_studies": "Studies in the catalog.",
    "hsm_instances": "Instances in the catalog.",
    "hsm_bytes": "Bytes of all instances as they were received.",
    "hsm_packages": "Sealed packages.",
    "hsm_unsealed": "Instances that are in no package yet.",
    "hsm_volume_in_service": "1 while a volume without a drive can be used, 0.5 while it takes no writes.",
    "hsm_volume_free_bytes": "Room on a volume that needs no drive, as of its last probe.",
    "hsm_pool_used_bytes": "Bytes used on a pool's volumes.",
    "hsm_pool_capacity_bytes": "Bytes that a pool's volumes hold when full.",
    "hsm_pool_package_bytes": "Bytes of the packages with a copy in the pool.",
    "hsm_pool_volumes": "Volumes of a pool by state.",
    "hsm_pool_scratch_volumes": "Blank cartridges in the library that may become a pool's.",
    "hsm_drives_out_of_service": "Drives that are not used until somebody puts them back into service.",
    "hsm_pool_copies": "Copies in a pool by state.",
    "hsm_queue_requests": "Requests that are not finished, and failed ones, by kind and state.",
    "hsm_mount_requests_open": "Volumes that an operator is asked for.",
}


def render(samples: Iterable[Sample]) -> str:
    """The samples as a scrape: those of one name together, each name with its help and type."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.name, []).append(sample)
    lines = []
    for name, group in groups.items():
        lines += [f"# HELP {name} {HELP.get(name, DEVICE)}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(sample)} {sample.value!r}" for sample in group]
    return "\n".join(lines) + "\n"


def _labels(sample: Sample) -> str:
    if not sample.labels:
        return ""
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels)
    return "{" + pairs + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
