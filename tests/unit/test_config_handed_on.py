"""Receivers are handed the daemon's configuration as JSON, defaults and all: it must come back."""

from __future__ import annotations

import json
from pathlib import Path

from hsm.config import Config, load
from tests.story.archive import KEEP, Archive


def test_a_configuration_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", f"sqlite:///{tmp_path}/catalog.db", KEEP)
    config = load(archive.config, {"HSM_HOME": str(archive.home)})
    back = Config.model_validate(json.loads(config.model_dump_json()))
    assert back.model_dump() == config.model_dump()
    assert back.pools[0].site == ""
