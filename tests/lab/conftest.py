"""Tests of real devices: they run inside the machine (``make lab``) and are skipped, visibly, elsewhere."""

from __future__ import annotations

import pytest
from halls import new_process
from instruments import PANEL, ask, mtx


@pytest.fixture(autouse=True)
def library() -> None:
    """The library as bought today: blank cartridges in slots 1 to 7, empty drives, no faults."""
    if not PANEL.exists():
        pytest.skip("needs the laboratory's tape library: run `make lab`")
    new_process()  # no drive is open that a test before left open
    ask("reset")
    mtx("status")
