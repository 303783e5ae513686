"""A driver of somebody else's package: installed beside ours, it is found through its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from drivers import registry
from drivers.errors import Permanent

SAMPLE = Path(__file__).parents[1] / "sample_driver"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of packages with the sample in it, as an installer leaves it: the package and its metadata."""
    project = tomllib.loads((SAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(SAMPLE / "hsm_memory", tmp_path / "hsm_memory")
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return tmp_path


def run(installed: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=False,
    )


def test_an_installed_driver_is_found_by_its_name_and_stores(installed: Path) -> None:
    done = run(
        installed,
        "import io, json\n"
        "from drivers import registry\n"
        "store = registry.open_store('memory', {'shelf': 'a', 'size_bytes': '1 MiB'})\n"
        "store.put('k', io.BytesIO(b'abc'), 3, None)\n"
        "print(json.dumps([b''.join(store.get('k')).decode(), 'memory' in registry.names()]))\n",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["abc", True]


def test_its_options_are_checked_before_it_is_opened(installed: Path) -> None:
    done = run(
        installed,
        "from drivers import registry\nregistry.open_store('memory', {'shelff': 'a', 'size_bytes': 1})\n",
    )
    assert "did you mean 'shelf'" in done.stderr


def test_a_driver_that_is_not_installed_is_said_to_be_unknown() -> None:
    with pytest.raises(Permanent, match="unknown driver 'memory'"):
        registry.open_store("memory", {"shelf": "a"})
