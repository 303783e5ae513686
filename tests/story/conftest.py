"""Every story runs on a real daemon with real DCMTK clients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.story.archive import needs_dcmtk


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `long` belongs to `make day` alone, but for a morning of it and other long stories in
    `make story`: it is left out elsewhere, not skipped."""
    lived = os.environ.get("HSM_DAY", "")
    told = os.environ.get("HSM_STORY") == "long"
    here = Path(__file__).parent
    left_out = [
        item
        for item in items
        if here in item.path.parents
        and item.get_closest_marker("long")
        and not (lived == "long" or (lived == "morning" and "morning" in item.name))
        and not (told and "hospital" not in item.path.name)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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
