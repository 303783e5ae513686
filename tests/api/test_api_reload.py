"""A reload of a whole daemon: certificates, tokens, roles and the two-person rule change while it serves."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hsm import tokens
from hsm.client import Client, Problem, Refused, Remote
from hsm.clock import SystemClock
from hsm.config import load
from hsm.daemon import Daemon
from hsm.tokens import Token
from tests.wire.wire_tls import Authority

CONFIG = """\
pools: [{{name: online, tier: online, options: {{path: data}}}}]
dicom: {{port: 0}}
api:
  roles: {{others: none}}
  tcp: {{port: {port}, certificate: archive.pem, key: archive.key}}
  two_person: {{commands: [{commands}]}}
"""


@dataclass
class Home:
    folder: Path
    authority: Authority

    def __post_init__(self) -> None:
        (self.folder / "policies").mkdir()
        self.secret = tokens.new_token()
        made = Token("t", "anna", "admin", tokens.digest_of(self.secret), datetime.now(UTC), None)
        tokens.add(self.folder / "tokens.json", made)
        (self.folder / "token").write_text(self.secret)
        (self.folder / "token").chmod(0o600)
        self.install("archive")
        self.write()
        environ = {"HSM_HOME": str(self.folder)}
        config = load(self.folder / "hsm.yaml", environ)
        self.daemon = Daemon(config, environ, SystemClock())

    def install(self, name: str) -> None:
        """Put a certificate and its key where the configuration names them."""
        for kind, to in ((self.authority.certificate(name), "pem"), (self.authority.key(name), "key")):
            shutil.copyfile(kind, self.folder / f"archive.{to}")

    def write(self, commands: str = "", port: int = 0) -> None:
        (self.folder / "hsm.yaml").write_text(CONFIG.format(commands=commands, port=port))

    @property
    def way(self) -> Remote:
        address = self.daemon.status()["listen"]["api_tls"]
        port = address.rpartition(":")[2]
        return Remote(f"https://localhost:{port}", self.folder / "token", self.authority.ca)

    def serial(self) -> str:
        port = int(self.way.url.rpartition(":")[2])
        shown = ssl.get_server_certificate(("localhost", port))
        return shown.strip()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    authority = Authority(tmp_path / "ca")
    authority.issue("renewed")
    authority.issue("ending", days=3)
    found = Home(tmp_path, authority)
    found.daemon.start()
    yield found
    found.daemon.stop()


def test_a_reload_takes_over_certificates_and_rules_or_nothing(home: Home) -> None:
    with Client(home.way) as before:
        assert before.status()["daemon"]["problems"] == []
        first = home.serial()
        assert first == home.authority.certificate("archive").read_text().strip()

        home.install("renewed")
        assert home.serial() == first
        assert before.reload()["needs_restart"] == []
        assert home.serial() == home.authority.certificate("renewed").read_text().strip()

        (home.folder / "archive.key").write_bytes(home.authority.key("peer").read_bytes())
        with pytest.raises(Problem, match="is not the private key of"):
            before.reload()
        assert home.serial() == home.authority.certificate("renewed").read_text().strip()

        home.install("ending")
        home.write(commands="policy activate", port=1)
        done = before.reload()
        assert done["needs_restart"] == ["api.tcp.port: 0 -> 1"]
        with pytest.raises(Refused, match="policy activate needs a second person"):
            before.activate_policies("new year")
        (problem,) = before.status()["daemon"]["problems"]
        assert problem.startswith("api.tcp: the certificate")
        assert "expires in" in problem

        (home.folder / "tokens.json").chmod(0o666)
        with pytest.raises(Refused, match="its token is not known"):
            before.status()
        with Client(home.folder / "hsm.sock") as local:
            assert any(
                "nobody comes in with a token" in text for text in local.status()["daemon"]["problems"]
            )
            home.daemon.parts.base.refusals.round()
            found = local.audit_log(kind="access", verb="refused")
            roles = local.audit_log(kind="access", verb="roles changed")
        assert [each["detail"]["reason"] for each in found] == ["its token is not known"]
        assert "command policy activate" in roles[0]["detail"]["changed"], "the reload that made it need two"
        assert os.stat(home.folder / "tokens.json").st_mode & 0o777 == 0o666
