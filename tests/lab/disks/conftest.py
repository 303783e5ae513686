"""Disk storage on the kernel's own parts: it runs inside the machine with the set-up ``disks``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent.parent))


@pytest.fixture(autouse=True)
def library() -> None:
    """Instead of the tape library: nothing, each test makes what it needs."""
    if os.environ.get("LAB_SETUP") != "disks":
        pytest.skip("needs the laboratory's kernel: run `make lab`")
