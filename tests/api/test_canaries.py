"""Secrets and patients do not turn up where they do not belong: canaries are planted and looked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app as command_line
from hsm import tokens
from hsm.clock import SystemClock
from hsm.tokens import Token
from tests.story.archive import CONFIG, HSM, KEEP, Archive, free_port
from tests.wire.wire_tls import Authority

CANARY = "cAnAry"
ONLINE = "pools:\n  - {name: online, tier: online, options: {path: data}}\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "catalog: {url: 'postgresql://hsm:cAnAry@db/hsm'}",
        "catalog: {url: 'postgresql://hsm@db/hsm?password=cAnAry'}",
        "catalog: {url: 'mysql://hsm:cAnAry@db'}",
        "catalog: {password: cAnAry}",
        "  - {name: c, tier: nearline, driver: s3, options: {bucket: b, secret_access_key: cAnAry}}",
        "  - {name: c, tier: nearline, driver: s3, options: {bucket: b, endpoint_url: 'https://u:cAnAry@h'}}",
        "  - {name: c, tier: nearline, driver: sftp, options: {host: h, path: /p, password: cAnAry}}",
        "dicom: {users: [{name: anna, passcode: cAnAry}]}",
        "operator: {channels: [{name: h, webhook: {url: 'ftp://h/cAnAry'}}]}",
        "operator: {channels: [{name: m, mail: {server: h, sender: a@b.c, to: a@b.c, password: cAnAry}}]}",
        "api: {tcp: {token: cAnAry}}",
    ],
)
def test_a_secret_that_was_written_into_the_configuration_is_refused_and_not_repeated(
    tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "hsm.yaml").write_text(ONLINE + wrong + "\n")
    (tmp_path / "policies").mkdir()
    shown = CliRunner().invoke(command_line, ["config", "check", str(tmp_path / "hsm.yaml")])
    assert shown.exit_code != 0
    assert CANARY not in shown.output + shown.stderr


class _Planted(Archive):
    """An archive whose every secret is a canary."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.secrets = home.parent / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.authority = Authority(self.secrets / "tls")
        self.token = tokens.new_token()
        made = Token("t", "anna", "read-only", tokens.digest_of(self.token), SystemClock().now(), None)
        tokens.add(self.secrets / "tokens.json", made)
        self.api_port, closed = free_port(), free_port()
        self._plant("token", self.token)
        self._plant(
            "s3", f"[default]\naws_access_key_id = {CANARY}S3ID\naws_secret_access_key = {CANARY}S3\n"
        )
        for name in ("sftp", "mail", "hook"):
            self._plant(name, f"{CANARY}-{name}")
        files = self.secrets
        pools = f"""\
  - {{{{name: cloud, tier: nearline, driver: s3, options: {{{{bucket: bucket,
     endpoint_url: "http://127.0.0.1:{closed}", credentials_file: {files}/s3}}}}}}}}
  - {{{{name: away, tier: nearline, driver: sftp, options: {{{{host: 127.0.0.1, port: {closed}, user: hsm,
     path: /x, password_file: {files}/sftp, known_hosts: {files}/known}}}}}}}}
"""
        more = f"""\
operator:
  channels:
    - {{{{name: mail, mail: {{{{server: 127.0.0.1, port: {closed}, user: hsm, password_file: {files}/mail,
       sender: a@example.org, to: b@example.org}}}}}}}}
    - {{{{name: hook, webhook: {{{{url: "http://127.0.0.1:{closed}/{CANARY}-url",
       token_file: {files}/hook}}}}}}}}
  escalation: [{{{{after: 1 s, to: mail}}}}, {{{{after: 1 s, to: hook}}}}]
api:
  tcp: {{{{port: {self.api_port}, certificate: {self.authority.certificate("archive")},
         key: {self.authority.key("archive")}, tokens_file: {files}/tokens.json}}}}
"""
        (files / "known").write_text("")
        template = CONFIG.replace("libraries:\n", pools + "libraries:\n").replace(
            "level: info", "level: debug"
        )
        super().__init__(home, f"sqlite:///{home}/catalog.db", KEEP, template + more)

    def _plant(self, name: str, text: str) -> None:
        path = self.secrets / name
        path.write_text(text)
        path.chmod(0o600)

    @property
    def canaries(self) -> list[bytes]:
        key = self.authority.key("archive").read_bytes().splitlines()[1]
        return [CANARY.encode(), self.token.encode(), key]

    def remote(self, *words: str, token: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(HSM), "--url", f"https://localhost:{self.api_port}", *words],
            env=os.environ
            | {"HSM_TOKEN_FILE": str(token or self.secrets / "token"), "HSM_CA": str(self.authority.ca)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def command_lines(self) -> bytes:
        """Of the daemon and of everybody it started."""
        found = b""
        for each in Path("/proc").glob("[0-9]*"):
            try:
                status = (each / "status").read_text()
                if each.name == str(self.pid) or re.search(rf"^PPid:\s+{self.pid}$", status, re.M):
                    found += (each / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
        return found


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_no_secret_turns_up_in_outputs_logs_database_or_process_lists(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("paramiko")
    planted = _Planted(tmp_path / "home")
    planted.start(from_nothing=True)  # its own command line is looked at
    said = []
    try:
        for words in (
            ("status",), ("status", "--json"), ("config", "check", str(planted.config)),
            ("pool", "ls", "--json"), ("pool", "test", "cloud"), ("pool", "test", "away"),
            ("reload",), ("metrics",), ("queue", "ls"), ("audit", "log", "--json"),
        ):  # fmt: skip
            done = planted.command(*words)
            said.append(done.stdout + done.stderr)
        assert planted.remote("status").returncode in (0, 1)
        wrong = tmp_path / "wrong"
        wrong.write_text(planted.token[:-1])
        wrong.chmod(0o600)
        for words, token in ((("status",), wrong), (("volume", "lost", "HSM001L8", "--reason", "x"), None)):
            done = planted.remote(*words, token=token)
            assert done.returncode == 4, done.stderr
            said.append(done.stdout + done.stderr)
        planted.config.write_text(planted.config.read_text() + "unknown: x\n")
        said.append(planted.command("reload").stderr)
        lines = planted.command_lines()
        limits = Path(f"/proc/{planted.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 ", limits), "a core dump would have them all"
        assert b"serve" in lines
        time.sleep(1.5)  # the journal has what was refused
        log = planted.command("audit", "log", "--json", "--kind", "access").stdout
        assert '"refused"' in log
        said.append(log)
    finally:
        planted.stop()
    for text in said:
        for canary in planted.canaries:
            assert canary.decode() not in text, text
    assert not any(canary in lines for canary in planted.canaries)
    ours = ("catalog.db", "hsm.lock", "online", "staging")
    assert not [name for name in ours if (planted.home / name).stat().st_mode & 0o007], "others may read it"
    looked_at = 0
    for path in planted.home.rglob("*"):
        if path.is_file() and path != planted.config:
            content = path.read_bytes()
            looked_at += 1
            assert not any(canary in content for canary in planted.canaries), path
    assert looked_at > 3


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu (dcmtk) is not installed")
def test_no_patient_turns_up_in_the_daemon_s_log_unless_it_is_told_so(tmp_path: Path) -> None:
    """Stored, found, retrieved, held, sealed, refused: the log says UIDs, never who it is."""
    import pydicom

    archive = Archive(
        tmp_path / "home",
        f"sqlite:///{tmp_path}/home/catalog.db",
        KEEP,
        CONFIG.replace("level: info", "level: debug"),
    )
    archive.start()
    try:
        source = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
        dataset = pydicom.dcmread(source)
        dataset.PatientName, dataset.PatientID = "Canary^Carla", "PID-CANARY"
        dataset.PatientBirthDate, dataset.AccessionNumber = "19310203", "ACC-CANARY"
        dataset.ReferringPhysicianName, dataset.StudyDescription = "Canary^Doctor", "Canary study"
        file = tmp_path / "a.dcm"
        dataset.save_as(file)
        uid = dataset.StudyInstanceUID
        assert archive.dcmtk("storescu", str(file)).returncode == 0
        dataset.PixelData = bytes(len(dataset.PixelData))  # other bytes under the same UID
        dataset.save_as(file)
        archive.dcmtk("storescu", str(file))
        file.write_bytes(file.read_bytes()[:-100])  # and a damaged one
        archive.dcmtk("storescu", str(file))
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=PID-CANARY", "-k", "PatientName=Canary*")
        archive.dcmtk("findscu", "-S", *keys)
        archive.dcmtk("findscu", "-S", *keys, "-k", "StudyDate=not a date")
        archive.dcmtk(
            "movescu",
            "-S",
            "-aem",
            "NOBODY",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            f"StudyInstanceUID={uid}",
        )
        archive.command("study", "find", "Canary")
        archive.command("study", "show", uid)
        archive.command("study", "hold", uid, "--reason", "asked for")
        archive.command("recall", "1.2.3.4")
        archive.command("study", "find", "--patient-id", "PID-CANARY", "--date", "nonsense-CANARY")
        time.sleep(1)
    finally:
        archive.stop()
    log = (archive.home / "daemon.log").read_text(errors="replace")
    assert uid in log
    for canary in ("Canary", "CANARY", "19310203"):
        where = [line for line in log.splitlines() if canary in line]
        assert not where, where[:3]
