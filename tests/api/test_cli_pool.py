"""``hsm pool`` and ``hsm volume drain``: what is asked, what is shown, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api_world import Script
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.errors import Refused

EAST: dict[str, Any] = {
    "name": "east",
    "uuid": "u-1",
    "volume_state": "active",
    "state": "out of service",
    "reason": "connection refused",
    "since": "2026-01-01T00:00:00Z",
    "total": 1000,
    "free": 600,
    "used": 400,
    "cold": False,
    "draining": False,
    "notices": [{"severity": "warning", "subject": "sdb", "message": "path lost"}],
    "figures": [{"name": "paths_up", "value": 1.0, "labels": {"port": "host3"}}],
}
POOL = {
    "name": "cloud",
    "tier": "nearline",
    "kind": "s3",
    "driver": "s3",
    "library": None,
    "layout": "packages",
    "site": "",
    "state": "out of service",
    "reason": "connection refused",
    "volumes": [EAST],
}
GOOD = {"pool": "cloud", "volume": "east", "ok": True, "steps": [], "problems": []}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_HOME", "unset")
    for name in ("HSM_SOCKET", "HSM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *arguments])


def test_a_pool_that_is_out_of_service_is_listed_with_its_reason_and_ends_with_1(
    home: Path, script: Script
) -> None:
    script.answers["pool listing"] = [POOL]
    listed = run(home, "pool", "ls")
    assert listed.exit_code == 1
    assert "connection refused" in " ".join(listed.stdout.split())
    script.answers["pool listing"] = [{**POOL, "reason": "", "state": "in service"}]
    assert run(home, "pool", "ls").exit_code == 0
    assert json.loads(run(home, "pool", "ls", "--json").stdout)[0]["name"] == "cloud"


def test_a_pool_is_shown_with_its_volumes_and_what_their_devices_told(home: Path, script: Script) -> None:
    script.answers["pool show"] = POOL
    shown = " ".join(run(home, "pool", "show", "cloud").stdout.split())
    assert "east" in shown
    assert "sdb: path lost" in shown
    assert script.asked[-1] == ("pool show", "cloud")


def test_a_trial_ends_with_1_when_something_is_wrong(home: Path, script: Script) -> None:
    script.answers["pool test"] = [GOOD]
    assert run(home, "pool", "test", "cloud").exit_code == 0
    script.answers["pool test"] = [{**GOOD, "ok": False, "problems": ["write: it is full (no space)"]}]
    tried = run(home, "pool", "test", "cloud", "--volume", "east")
    assert tried.exit_code == 1
    assert "it is full" in tried.stdout
    assert script.asked[-1] == ("pool test", "cloud", "east")


def test_a_trial_needs_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "nearline").mkdir()
    config = tmp_path / "hsm.yaml"
    config.write_text(
        "pools:\n"
        f"  - {{name: online, tier: online, options: {{path: {tmp_path}/online}}}}\n"
        f"  - {{name: nearline, tier: nearline, options: {{path: {tmp_path}/nearline}}}}\n"
        f"  - {{name: tape, tier: offline, library: robot}}\n"
        "libraries:\n"
        f"  - {{name: robot, driver: simulated, options: {{folder: {tmp_path}/robot}}}}\n"
    )
    good = run(tmp_path, "pool", "test", "nearline")
    assert (good.exit_code, "read back" in good.stdout) == (0, True), good.output
    assert not list((tmp_path / "nearline").rglob("*.bin"))
    missing = run(tmp_path, "pool", "test", "online", "--json")
    assert missing.exit_code == 1
    assert "it is not mounted" in json.loads(missing.stdout)[0]["problems"][0]
    assert not (tmp_path / "online").exists(), "a trial makes no folder"
    assert run(tmp_path, "pool", "test", "tape").exit_code == 4
    assert run(tmp_path, "pool", "test", "moon").exit_code == 4


def test_a_volume_is_drained_under_either_name_of_the_command(home: Path, script: Script) -> None:
    script.answers |= {"pool show": POOL, "drain": {"volume": "east", "left": 3}}
    assert "3 packages to go" in run(home, "pool", "drain", "cloud", "east").stdout
    assert "3 packages to go" in run(home, "volume", "drain", "east").stdout
    assert [asked[:2] for asked in script.asked if asked[0] == "drain"] == [("drain", "east")] * 2
    script.answers["stop drain"] = {"volume": "east", "cancelled": 1}
    assert "1 request is withdrawn" in run(home, "pool", "drain", "cloud", "east", "--stop").stdout
    assert "1 request is withdrawn" in run(home, "volume", "drain", "east", "--stop").stdout
    assert run(home, "pool", "drain", "cloud", "west").exit_code == 4
    script.answers["drain"] = Refused("pool cloud has no other volume")
    assert run(home, "volume", "drain", "east").exit_code == 4


def test_volumes_and_their_devices_are_in_the_metrics(home: Path, script: Script) -> None:
    script.answers["pool listing"] = [POOL]
    text = run(home, "metrics").stdout
    assert 'hsm_volume_in_service{pool="cloud",volume="east"} 0.0' in text
    assert 'hsm_volume_free_bytes{pool="cloud",volume="east"} 600' in text
    assert 'hsm_volume_device_paths_up{pool="cloud",volume="east",port="host3"} 1.0' in text
