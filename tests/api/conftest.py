"""Fixtures: the scripted services, a home whose socket answers, a client of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import Script, fill, services

from hsm.api.app import build_app
from hsm.api.server import ApiServer
from hsm.api.services import Services
from hsm.catalog.engine import Catalog, open_engine
from hsm.client import Client
from hsm.clock import ManualClock


@pytest.fixture(scope="session")
def _script() -> Script:
    return Script()


@pytest.fixture(scope="session")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def _scripted(_folder: Path, _script: Script, sqlite_template: Path) -> Iterator[Services]:
    """Filled once: the API itself never writes to the catalog, and the services are scripted."""
    shutil.copyfile(sqlite_template, _folder / "catalog.db")
    catalog = Catalog(open_engine(f"sqlite:///{_folder / 'catalog.db'}"), ManualClock())
    with catalog.write() as session:
        fill(session, catalog)
    yield services(catalog, _script)
    catalog.close()


@pytest.fixture(scope="session")
def _home(_folder: Path, _scripted: Services) -> Iterator[Path]:
    server = ApiServer(build_app(_scripted), _folder / "hsm.sock")
    server.start()
    yield _folder
    server.stop()


@pytest.fixture
def scripted(_scripted: Services, script: Script) -> Services:
    """What the API is joined to: a catalog with a few studies, and the scripted services."""
    return _scripted


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
