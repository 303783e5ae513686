"""The guided tour, taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.campaign
def test_the_tour_walks_the_whole_road_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "HSM_HOME": str(tmp_path / "mine"),
        "HSM_DICOM_PORT": "1",
    }
    result = subprocess.run(
        [sys.executable, "-P", "-m", "cli", "demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    said = " ".join(result.stdout.split())
    assert "Instance Availability OFFLINE, Storage Media File-Set ID HSM" in said
    assert "C-MOVE still waiting" in said
    assert said.count("every dataset byte for byte as it was stored") == 2
    assert "That was the whole road" in said
    assert list(tmp_path.iterdir()) == []
