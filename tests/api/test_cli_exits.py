"""How commands end: 0 good, 1 problem found, 2 usage, 3 daemon unreachable, 4 refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_world import LONG_UID, Script
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.errors import NotFound, OperatorNeeded, Refused
from hsm.offline import upgrade_catalog


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *arguments])


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--home`` sets HSM_HOME for this process; monkeypatch puts it back."""
    monkeypatch.setenv("HSM_HOME", "unset")
    monkeypatch.delenv("HSM_SOCKET", raising=False)
    monkeypatch.delenv("HSM_CONFIG", raising=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("study", "find"),
        ("queue", "ls"),
        ("volume", "retire", "T1"),
        ("operator", "watch"),
        ("recall", "1.2.3"),
        ("reload",),
        ("metrics",),
    ],
)
def test_no_daemon_is_3_with_a_hint(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path, *arguments)
    assert result.exit_code == 3
    assert "no daemon answers on" in result.stderr
    assert "hsm serve" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status", "--colour"),
        ("queue", "show"),
        ("queue", "show", "seven"),
        ("queue", "ls", "--limit", "0"),
        ("operator", "refuse", "T1"),
        ("study", "show", "not-a-uid"),
        ("study", "find", "--date", "yesterday"),
        ("queue", "ls", "--state", "tired"),
        ("recall", LONG_UID, "--priority", "now"),
    ],
)
def test_a_command_that_makes_no_sense_is_2(home: Path, arguments: tuple[str, ...]) -> None:
    result = run(home, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr


@pytest.mark.parametrize(
    "error", [Refused("the last verified copy stays"), OperatorNeeded("mail slots are full")]
)
def test_what_a_promise_forbids_is_4(home: Path, script: Script, error: Exception) -> None:
    script.answers["retire"] = error
    result = run(home, "volume", "retire", "T1")
    assert result.exit_code == 4
    assert str(error) in result.stderr


def test_what_is_not_there_is_1(home: Path, script: Script) -> None:
    assert run(home, "study", "show", "9.9").exit_code == 1
    script.answers["retire"] = NotFound("no volume T9")
    assert run(home, "volume", "retire", "T9").exit_code == 1


def test_status_ends_with_1_while_the_daemon_has_problems(home: Path, script: Script) -> None:
    assert run(home, "status").exit_code == 0
    script.answers["status"] = {**script.answers["status"], "problems": ["pool online: read-only"]}
    result = run(home, "status")
    assert result.exit_code == 1
    assert "pool online: read-only" in result.stdout


def test_the_socket_option_goes_before_the_home(home: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--home", str(tmp_path), "--socket", str(home / "hsm.sock"), "status"])
    assert result.exit_code == 0


def test_a_socket_that_only_the_configuration_names_is_found(home: Path, tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(_config(f"api: {{socket: {home / 'hsm.sock'}}}\n"))
    assert run(tmp_path, "status").exit_code == 0


def test_config_check_needs_no_daemon_and_names_the_line(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(_config())
    result = run(tmp_path, "config", "check", str(good))
    assert result.exit_code == 0, result.output
    assert "pools: online (online)" in result.stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text(_config("archiv: {ae_title: HSM}\n"))
    result = run(tmp_path, "config", "check", str(bad))
    assert result.exit_code == 1
    assert f"{bad}:" in result.stderr
    assert "archive" in result.stderr, "a suggestion"
    assert run(tmp_path, "config", "check", str(tmp_path / "none.yaml")).exit_code == 1


def test_policy_check_takes_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(_config())
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.yaml").write_text("policy: a\npriority: 1\nrules:\n  - {name: x, copy to: online}\n")
    for path in (folder, folder / "a.yaml"):
        result = run(tmp_path, "policy", "check", str(path))
        assert result.exit_code == 0, result.output
        assert "policies: a (1 rule)" in result.stdout
    (folder / "b.yaml").write_text("policy: b\npriority: 2\nrules:\n  - {name: x, copy to: moon}\n")
    result = run(tmp_path, "policy", "check", str(folder))
    assert result.exit_code == 1
    assert "b.yaml:4" in result.stderr
    assert run(tmp_path, "policy", "check", str(tmp_path / "none")).exit_code == 1


def test_a_catalog_check_makes_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(_config())
    result = run(tmp_path, "catalog", "check")
    assert result.exit_code == 1
    assert not (tmp_path / "catalog.db").exists()
    assert run(tmp_path, "catalog", "upgrade").exit_code == 0
    result = run(tmp_path, "catalog", "check", "--json")
    assert result.exit_code == 0, result.output
    assert '"ok": true' in result.stdout


def test_a_damaged_catalog_is_1(tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(_config())
    assert run(tmp_path, "catalog", "upgrade").exit_code == 0
    with open(tmp_path / "catalog.db", "r+b") as file:
        file.truncate(20_000)
    assert run(tmp_path, "catalog", "check").exit_code == 1
    (tmp_path / "catalog.db").write_bytes(b"this is no database" * 100)
    assert run(tmp_path, "catalog", "check").exit_code == 1
    assert run(tmp_path, "catalog", "upgrade").exit_code == 1


def test_an_upgrade_under_a_running_daemon_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(_config(f"api: {{socket: {home / 'hsm.sock'}}}\n"))
    result = run(tmp_path, "catalog", "upgrade")
    assert result.exit_code == 4
    assert not (tmp_path / "catalog.db").exists()
    assert upgrade_catalog(None, {"HSM_HOME": str(tmp_path)}).refused


def test_serve_says_what_is_wrong_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text("pools: []\n")
    result = _hsm(tmp_path, "serve")
    assert result.returncode == 1
    assert "hsm.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_names_in_other_scripts_do_not_end_a_command_on_an_ascii_terminal(home: Path) -> None:
    result = _hsm(home, "study", "find", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "D?e^J?ne" in result.stdout
    result = _hsm(home, "study", "find", "--json", PYTHONIOENCODING="ascii")
    assert "D\\u00f6e" in result.stdout


def test_a_reader_that_has_seen_enough_is_no_error(home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-P", "-m", "cli", "--home", str(home), "study", "find"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_command_starts_without_what_only_others_need() -> None:
    """Every command pays for what is imported at the top; a daemon's parts take seconds."""
    heavy = (
        "sqlalchemy",
        "pynetdicom",
        "pydicom",
        "numpy",
        "boto3",
        "paramiko",
        "textual",
        "starlette",
        "lark",
    )
    found = f"import sys, cli.main; print(*[name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", found], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == ""


def _hsm(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cli", "--home", str(home), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def _config(more: str = "") -> str:
    """A small configuration; its policies are beside it."""
    pool = "{name: online, tier: online, layout: files, options: {path: '${HSM_HOME}/online'}}"
    return f"catalog: {{url: 'sqlite:///${{HSM_HOME}}/catalog.db'}}\npools:\n  - {pool}\n{more}"


@pytest.fixture(autouse=True)
def _policies(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
