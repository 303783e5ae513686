"""Real daemons that die. They need no DICOM tools: pynetdicom is the peer."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A catalog that the daemon makes itself."""
    return f"sqlite:///{tmp_path / 'catalog.db'}"
