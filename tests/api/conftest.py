"""Fixtures: the scripted services, a home whose socket answers, a client of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import Script, fill, services

from hsm.api.app import build_app
from hsm.api.server import ApiServer
from hsm.catalog.engine import Catalog, open_engine
from hsm.client import Client
from hsm.clock import ManualClock


@pytest.fixture(scope="session")
def _script() -> Script:
    return Script()


@pytest.fixture(scope="session")
def _home(_script: Script, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Started once: the API itself never writes to the catalog, and the services are scripted."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    catalog = Catalog(open_engine(f"sqlite:///{folder / 'catalog.db'}"), ManualClock())
    with catalog.write() as session:
        fill(session, catalog)
    server = ApiServer(build_app(services(catalog, _script)), folder / "hsm.sock")
    server.start()
    yield folder
    server.stop()
    catalog.close()


@pytest.fixture
def script(_script: Script) -> Script:
    """What the services are asked in this test, and what they answer."""
    _script.reset()
    return _script


@pytest.fixture
def home(_home: Path, script: Script) -> Path:
    """A data folder whose ``hsm.sock`` answers."""
    return _home


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    with Client(home / "hsm.sock") as opened:
        yield opened
