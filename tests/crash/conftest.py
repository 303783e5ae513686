"""Real daemons that die. They need no DICOM tools: pynetdicom or a few lines of our own are the peer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash.campaign import HOOK, Campaign, campaign
from tests.crash.steps import MINUTES
from tests.nursery import Nursery

SEED = int(os.environ.get("HSM_CRASH_SEED", "20260101"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `long` belongs to `make crash` alone: it is left out elsewhere, not skipped."""
    if MINUTES:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A catalog that the daemon makes itself."""
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    found = Nursery(HOOK)
    yield found
    found.close()


@pytest.fixture
def make_campaign(nursery: Nursery, tmp_path: Path) -> Iterator[Callable[..., Campaign]]:
    """A new archive to be killed."""
    with ExitStack() as stack:
        made: list[Campaign] = []

        def make(**settings: Any) -> Campaign:
            folder = tmp_path / f"archive{len(made)}"
            made.append(stack.enter_context(campaign(folder, nursery, random.Random(SEED), **settings)))
            return made[-1]

        yield make
