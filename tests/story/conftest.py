"""Every story runs on a real daemon with real DCMTK clients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.story.archive import needs_dcmtk


@pytest.fixture(autouse=True, scope="session")
def _dcmtk() -> None:
    reason = needs_dcmtk()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A catalog that the daemon makes itself."""
    return f"sqlite:///{tmp_path / 'catalog.db'}"
