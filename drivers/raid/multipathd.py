"""What the multipath daemon says of the paths of a map, where it runs: ``multipathd show map NAME json``.

The kernel's sysfs does not tell which paths the device mapper has given up, nor what the path checker finds.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

COMMAND = ("multipathd",)
TIMEOUT_SECONDS = 5.0
_UP = frozenset({"ready", "ghost"})
"""States of the checker in which a path takes commands; a ghost is the array's passive controller."""

Run = Callable[[list[str], float], str | None]


def path_states(name: str, run: Run | None = None) -> dict[str, str]:
    """Disk (``sdc``) -> what the daemon says against it, empty when the path is good. An empty mapping when
    it does not answer (in time): then sysfs alone must do."""
    answer = (run or _run)([*COMMAND, "show", "map", name, "json"], TIMEOUT_SECONDS)
    return parse(answer) if answer else {}


def parse(answer: str) -> dict[str, str]:
    """The states out of the JSON; an empty mapping of what is not its form."""
    try:
        groups = json.loads(answer)["map"]["path_groups"]
        return {str(path["dev"]): _against(path) for group in groups for path in group["paths"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _against(path: Mapping[str, Any]) -> str:
    mapper, checker = str(path.get("dm_st", "")), str(path.get("chk_st", ""))
    if checker and checker not in _UP:
        return f"the path checker says {checker}"
    return "the device mapper has given it up" if mapper == "failed" else ""


def _run(argv: list[str], timeout: float) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
