"""What is not Python: the image, the unit, the udev rules, make and CI say nothing that is not so."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def logical_lines(text: str) -> list[str]:
    """Lines without comments, continuations joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [
        line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]


def instructions(name: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions of one kind with the stage that they are in."""
    stage, found = "", []
    for line in logical_lines((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2] or "final"
        if word == name:
            found.append((stage, rest))
    return found


def left_out_of_the_build(path: str) -> bool:
    """Whether .dockerignore leaves ``path`` out; the last pattern that matches decides."""
    out = False
    for pattern in logical_lines((ROOT / ".dockerignore").read_text(encoding="utf-8")):
        keep, plain = pattern.startswith("!"), pattern.removeprefix("!")
        tops = [str(parent) for parent in Path(path).parents if str(parent) != "."]
        if any(fnmatch.fnmatch(part, plain) for part in (path, *tops)):
            out = not keep
    return out


def test_everything_that_the_image_copies_is_there_and_in_the_build() -> None:
    sources = [word for stage, rest in instructions("COPY") if stage == "build" for word in rest.split()[:-1]]
    assert {"pyproject.toml", "README.md", "hsm", "policies", "drivers", "cli", "etc"} == set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not left_out_of_the_build(source), source
    assert left_out_of_the_build(".git")
    assert left_out_of_the_build("var/catalog.db")
    assert left_out_of_the_build("tests/unit/test_deployment.py")


def test_the_image_has_every_package_and_extra_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {word for stage, rest in instructions("COPY") if stage == "build" for word in rest.split()[:-1]}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert copied >= {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    (extras,) = re.findall(r"'\.\[(.*?)\]'", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def test_the_image_runs_as_another_user_than_root_and_is_watched() -> None:
    (user,) = [rest for stage, rest in instructions("USER") if stage == "final"]
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)
    settings = " ".join(rest for stage, rest in instructions("ENV") if stage == "final")
    assert "HSM_HOME=/var/lib/hsm" in settings
    assert "HSM_DICOM_LISTEN=0.0.0.0" in settings
    assert instructions("VOLUME") == [("final", "/var/lib/hsm")]
    assert instructions("STOPSIGNAL") == [("final", "SIGTERM")]
    assert '"hsm", "health"' in instructions("HEALTHCHECK")[0][1]


def unit() -> list[tuple[str, str, str]]:
    """Section, key and value of every line of the systemd unit."""
    section, found = "", []
    for line in logical_lines((ROOT / "etc/systemd/hsm.service").read_text(encoding="utf-8")):
        if line.startswith("["):
            section = line.strip("[]")
        else:
            key, sign, value = line.partition("=")
            assert sign, line
            found.append((section, key, value))
    return found


def test_the_systemd_unit_says_how_the_daemon_starts_reloads_and_stops() -> None:
    service = {key: value for section, key, value in unit() if section == "Service"}
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("/bin/hsm serve")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert service["Restart"] == "on-failure"
    assert service["User"] == "hsm"
    assert service["NoNewPrivileges"] == service["PrivateTmp"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert {"WatchdogSec", "TimeoutStopSec", "RuntimeDirectory", "StateDirectory"} <= set(service)
    assert {section for section, _, _ in unit()} == {"Unit", "Service", "Install"}


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "etc/systemd/hsm.service").read_text(encoding="utf-8")
    copy = tmp_path / "hsm.service"
    copy.write_text(text.replace("/opt/hsm/bin/hsm", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "hsm.service" in line]
    assert complaints == []


def test_systemd_finds_little_that_the_unit_leaves_open(tmp_path: Path) -> None:
    """`systemd-analyze security` gives 0 for a service that can do nothing and 10 for one that can do all."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "hsm.service"
    copy.write_bytes((ROOT / "etc/systemd/hsm.service").read_bytes())
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd-analyze judges only units that run")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_unit_bounds_what_a_daemon_gone_wrong_can_take_and_leave() -> None:
    service = {key: value for section, key, value in unit() if section == "Service"}
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["DevicePolicy"] == "closed"
    assert service["LimitCORE"] == "0"
    assert {"MemoryMax", "TasksMax", "LimitNOFILE", "SystemCallFilter", "RestrictAddressFamilies"} <= set(
        service
    )


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (the extra dev has it)")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_keeps_nothing_that_installs_or_builds() -> None:
    runs = " ".join(rest for stage, rest in instructions("RUN") if stage == "final")
    assert "pip uninstall --yes" in runs
    assert "apt-get install" not in runs
    built = " ".join(rest for stage, rest in instructions("RUN") if stage == "build")
    assert "venv --without-pip /opt/hsm" in built


RULE = re.compile(r'[A-Z_]+(\{[^}"]+\})?(==|!=|\+=|:=|=)"[^"]*"')


def test_the_udev_rules_are_well_formed_and_cover_drives_and_changers() -> None:
    text = (ROOT / "etc/udev/60-hsm.rules").read_text(encoding="utf-8")
    rules = logical_lines(text)
    for rule in rules:
        for part in re.split(r", (?=[A-Z])", rule):
            assert RULE.fullmatch(part), part
    assert set(re.findall(r'GOTO="(\w+)"', text)) == set(re.findall(r'LABEL="(\w+)"', text))
    for subsystem in ("scsi_tape", "scsi_generic", "scsi_changer"):
        assert any(subsystem in rule for rule in rules)
    assert text.count('GROUP="hsm", MODE="0660"') == 3
    assert 'ATTRS{type}=="8"' in text


def test_make_knows_the_targets_that_the_documents_name() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert {"run", "test", "lint", "wheel-check", "clean"} <= targets
    for document in ("README.md", "docs/operations.md"):
        for target in re.findall(r"`make ([a-z-]+)`", (ROOT / document).read_text(encoding="utf-8")):
            assert target in targets, f"{document} names make {target}"


@pytest.mark.parametrize("script", [".ci/run", ".ci/wheel-check"])
def test_the_scripts_of_ci_are_bash_that_stops_at_errors(script: str) -> None:
    path = ROOT / script
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert path.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=60)
