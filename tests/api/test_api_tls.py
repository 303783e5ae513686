"""The control API for other machines: TLS or nothing, a token or nothing; certificates change as it runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from api_world import Script
from typer.testing import CliRunner

from cli.main import app as command_line
from hsm import tokens
from hsm.api.app import build_app
from hsm.api.doors import Doors
from hsm.api.services import Services
from hsm.api.tcp import TcpServer
from hsm.client import ApiError, BadRequest, Client, Refused, Remote, Unreachable
from hsm.clock import ManualClock
from hsm.config import TcpConfig, accepting_api
from hsm.errors import ConfigError
from hsm.refusals import Refusal
from hsm.tls import BadTls
from hsm.tokens import Token, Tokens
from tests.wire.wire_tls import Authority


@dataclass
class Site:
    """A listener over TLS with four tokens, and what it noted of whom it turned away."""

    folder: Path
    authority: Authority
    services: Services
    clock: ManualClock
    noted: list[Refusal] = field(default_factory=list)
    now: list[float] = field(default_factory=lambda: [0.0])

    def __post_init__(self) -> None:
        self.file = self.folder / "tokens.json"
        self.tokens: dict[str, Path] = {}
        for name, days in (("admin", None), ("operator", 1), ("read-only", 1), ("old", -1)):
            made, moment = tokens.new_token(), self.clock.now()
            expires = None if days is None else moment + timedelta(days=days)
            role = "read-only" if name == "old" else name
            tokens.add(
                self.file, Token(name, f"{name}-person", role, tokens.digest_of(made), moment, expires)
            )
            self.tokens[name] = self.secret_file(name, made)
        doors = Doors(
            tokens=Tokens(self.file), clock=self.clock, note=self.noted.append, monotonic=lambda: self.now[0]
        )
        app = build_app(self.services, doors, note=self.noted.append)
        self.server = TcpServer(app, "127.0.0.1", 0, self.context(), self.noted.append)

    def secret_file(self, name: str, token: str) -> Path:
        path = self.folder / f"{name}.token"
        path.write_text(token + "\n")
        path.chmod(0o600)
        return path

    def context(self, name: str = "archive", *, mutual: bool = False) -> ssl.SSLContext:
        return accepting_api(
            TcpConfig(
                certificate=self.authority.certificate(name),
                key=self.authority.key(name),
                client_ca=self.authority.ca if mutual else None,
                tokens_file=self.file,
            )
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}"

    def client(self, name: str = "admin", **more: Path) -> Client:
        return Client(Remote(self.url, self.tokens[name], **{"ca": self.authority.ca, **more}))

    def why(self, count: int = 1) -> str:
        """The reason of the last refusal, when there are so many."""
        for _ in range(500):
            if len(self.noted) >= count:
                return self.noted[-1].reason
            time.sleep(0.002)
        raise AssertionError(f"only {len(self.noted)} refusals were noted")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = Authority(tmp_path_factory.mktemp("ca"))
    found.issue("expired", days=-1)
    found.issue("elsewhere", dns=("elsewhere.example",), addresses=())
    return found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "Somebody Else")


@pytest.fixture
def site(tmp_path: Path, authority: Authority, scripted: Services) -> Iterator[Site]:
    found = Site(tmp_path, authority, scripted, ManualClock())
    found.server.start()
    yield found
    found.server.stop()


def test_a_token_lets_in_with_its_role_and_the_journal_knows_who(site: Site, script: Script) -> None:
    with site.client() as client:
        assert client.health() == {"ok": True}
        client.lost("T1", "burnt")
    assert script.asked == [("lost", "T1", "admin-person (token admin)", "burnt")]
    with site.client("operator") as client, pytest.raises(Refused, match="needs the role admin") as raised:
        client.lost("T1", "burnt")
    assert raised.value.exit_code == 4
    assert (site.noted[0].actor, site.noted[0].door) == ("operator-person (token operator)", "api tcp")
    with site.client("read-only") as client:
        assert client.find_studies()


def test_without_a_good_token_there_is_not_even_health(site: Site) -> None:
    site.tokens["wrong"] = site.secret_file("wrong", tokens.new_token())
    for name, why in (("wrong", "its token is not known"), ("old", "the token old has expired")):
        with site.client(name) as client, pytest.raises(Refused, match=why) as raised:
            client.health()
        assert raised.value.exit_code == 4
    assert [each.actor for each in site.noted] == ["unknown", "old-person"]
    assert all(each.address == "127.0.0.1" for each in site.noted)
    connection = http.client.HTTPSConnection(
        "localhost", site.server.port, context=site.authority.client(None)
    )
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        site.now[0] += 60
        connection.request("GET", "/v1/health", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("www-authenticate")) == (401, "Bearer")
        assert json.loads(answer.read())["kind"] == "refused"
    connection.close()


def test_an_address_that_guesses_is_locked_out_for_a_while(site: Site) -> None:
    site.tokens["wrong"] = site.secret_file("wrong", tokens.new_token())
    for _ in range(5):
        with site.client("wrong") as client, pytest.raises(Refused):
            client.health()
    assert site.noted[-1].reason.endswith("locked out for 300 s after 5 failures")
    with site.client("admin") as client, pytest.raises(Refused, match="locked out"):
        client.health()
    site.now[0] += 300
    with site.client("admin") as client:
        assert client.health() == {"ok": True}


def test_a_revoked_token_is_worth_nothing_at_once(site: Site) -> None:
    with site.client("operator") as client:
        assert client.health() == {"ok": True}
        tokens.revoke(site.file, "operator")
        with pytest.raises(Refused, match="its token is not known"):
            client.health()


@pytest.mark.parametrize("how", ["others may read it", "gone", "damaged"])
def test_a_file_of_tokens_that_is_no_use_lets_nobody_in(site: Site, how: str) -> None:
    if how == "gone":
        site.file.unlink()
    elif how == "damaged":
        site.file.write_text("{")
    else:
        site.file.chmod(0o644)
    with site.client() as client, pytest.raises(Refused, match="its token is not known"):
        client.health()


def test_plain_http_gets_nowhere(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)) as plain:
        plain.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP/1.1" not in plain.recv(100)
    assert site.why() == "TLS: http request"


def test_who_never_shakes_hands_is_hung_up_on_and_keeps_nobody_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.api.tcp.HANDSHAKE_SECONDS", 0.2)
    silent = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(20)]
    with site.client() as client:
        assert client.health() == {"ok": True}
    for connection in silent:
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_get_nowhere(site: Site, version: ssl.TLSVersion) -> None:
    context = site.authority.client(None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = version
    with pytest.warns(DeprecationWarning):
        context.maximum_version = version
    with socket.create_connection(("127.0.0.1", site.server.port)) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="localhost").recv(1)
    assert site.why() == "TLS: unsupported protocol"


def test_the_client_trusts_no_certificate_but_the_right_one(site: Site, stranger: Authority) -> None:
    with site.client(ca=stranger.ca) as client, pytest.raises(Unreachable, match="verify failed"):
        client.health()
    site.server.context = site.context("expired")
    with site.client() as client, pytest.raises(Unreachable, match="expired"):
        client.health()
    site.server.context = site.context("elsewhere")
    with site.client() as client, pytest.raises(Unreachable, match=r"not valid for 'localhost'|mismatch"):
        client.health()
    # One that signed its own certificate is trusted for itself, when it is named.
    site.server.context = accepting_api(
        TcpConfig(
            certificate=stranger.certificate("archive"), key=stranger.key("archive"), tokens_file=site.file
        )
    )
    with site.client(ca=stranger.certificate("archive")) as client:
        assert client.health() == {"ok": True}


def test_where_certificates_of_clients_are_asked_for_a_token_is_not_enough(
    site: Site, stranger: Authority
) -> None:
    site.server.context = site.context(mutual=True)
    good = {"certificate": site.authority.certificate("peer"), "key": site.authority.key("peer")}
    with site.client(**good) as client:
        assert client.health() == {"ok": True}
    wrong = (
        ({}, "peer did not return a certificate"),
        (
            {"certificate": stranger.certificate("peer"), "key": stranger.key("peer")},
            "certificate verify failed",
        ),
        (
            {"certificate": site.authority.certificate("expired"), "key": site.authority.key("expired")},
            "certificate verify failed",
        ),
    )
    for number, (pair, why) in enumerate(wrong, 1):
        with site.client(**pair) as client, pytest.raises(ApiError):
            client.health()
        assert site.why(number) == f"TLS: {why}"
    site.tokens["wrong"] = site.secret_file("wrong", tokens.new_token())
    with site.client("wrong", **good) as client, pytest.raises(Refused):
        client.health()


def test_a_new_certificate_is_shown_without_a_restart(site: Site) -> None:
    def serial() -> str:
        with socket.create_connection(("127.0.0.1", site.server.port)) as plain:
            with site.authority.client(None).wrap_socket(plain, server_hostname="localhost") as secure:
                found = secure.getpeercert()
        assert found is not None
        return str(found["serialNumber"])

    with site.client() as before:
        assert before.health() == {"ok": True}
        first = serial()
        site.authority.issue("renewed")
        site.server.context = site.context("renewed")
        assert serial() != first
        assert before.health() == {"ok": True}  # who was connected stays so


def test_a_listener_with_a_bad_certificate_does_not_start(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(BadTls, match="is not the private key of"):
        accepting_api(
            TcpConfig(
                certificate=authority.certificate("archive"), key=authority.key("peer"), tokens_file=tmp_path
            )
        )


def test_a_port_that_is_taken_is_named(site: Site) -> None:
    second = TcpServer(lambda *_: None, "127.0.0.1", site.server.port, site.context())
    with pytest.raises(ConfigError, match=rf"api.tcp 127\.0\.0\.1 port {site.server.port}: Address already"):
        second.start()


def test_the_command_line_goes_over_tls_with_a_file_of_a_token(site: Site, script: Script) -> None:
    run = CliRunner().invoke
    there = ["--url", site.url, "--ca", str(site.authority.ca)]
    found = run(command_line, [*there, "--token-file", str(site.tokens["admin"]), "study", "find", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)
    lacking = run(
        command_line, [*there, "--token-file", str(site.tokens["read-only"]), "volume", "verify", "T1"]
    )
    assert lacking.exit_code == 4
    assert "needs the role auditor or operator or admin" in lacking.stderr
    environment = {
        "HSM_URL": site.url,
        "HSM_CA": str(site.authority.ca),
        "HSM_TOKEN_FILE": str(site.tokens["admin"]),
    }
    assert run(command_line, ["health"], env=environment).exit_code == 0
    assert run(command_line, [*there, "health"]).exit_code == 2


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "https://", "https://me:secret@localhost:1", "localhost"]
)
def test_the_client_speaks_tls_to_a_host_or_not_at_all(site: Site, url: str) -> None:
    with pytest.raises(BadRequest, match="expected https://HOST:PORT"):
        Client(Remote(url, site.tokens["admin"], site.authority.ca))


def test_a_token_that_others_may_read_is_not_used(site: Site) -> None:
    site.tokens["admin"].chmod(0o644)
    with pytest.raises(BadRequest, match="mode 0644 lets others read the token"):
        site.client()
    site.tokens["admin"].chmod(0o600)
    site.tokens["admin"].write_text("\n")
    with pytest.raises(BadRequest, match="holds no token"):
        site.client()


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    run = CliRunner().invoke
    file = ["--file", str(tmp_path / "t.json")]
    made = run(command_line, ["token", "new", "ward-7", "--role", "operator", "--person", "anna", *file])
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("hsm_")
    kept = (tmp_path / "t.json").read_text()
    assert secret not in kept
    assert os.stat(tmp_path / "t.json").st_mode & 0o777 == 0o600
    (there,) = tokens.read(tmp_path / "t.json")
    assert tokens.matching([there], secret) is there
    assert (there.person, there.role) == ("anna", "operator")
    into = run(
        command_line, ["token", "new", "cron", "--role", "read-only", "-o", str(tmp_path / "s"), *file]
    )
    assert into.exit_code == 0
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600
    assert (tmp_path / "s").read_text().strip() not in into.output
    listed = run(command_line, ["token", "ls", "--json", *file])
    assert [each["name"] for each in json.loads(listed.stdout)] == ["ward-7", "cron"]
    assert there.digest.hex() not in listed.stdout
    again = run(command_line, ["token", "new", "cron", "--role", "admin", "-o", str(tmp_path / "u"), *file])
    assert (again.exit_code, (tmp_path / "u").exists()) == (1, False)
    assert run(command_line, ["token", "new", "x", "--role", "root", *file]).exit_code == 2
    assert (
        run(command_line, ["token", "new", "x", "--role", "admin", "--expires", "soon", *file]).exit_code == 2
    )
    assert run(command_line, ["token", "revoke", "ward-7", *file]).exit_code == 0
    assert [each.name for each in tokens.read(tmp_path / "t.json")] == ["cron"]
    assert run(command_line, ["token", "revoke", "ward-7", *file]).exit_code == 1
