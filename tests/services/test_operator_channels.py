"""Messages to operators: a real SMTP server with STARTTLS, a real HTTP server, real programs."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from hsm.config.operators import ChannelConfig
from hsm.operators.channels import NotSent, send
from hsm.operators.message import Message
from tests.wire.wire_tls import Authority

AT = datetime(2026, 3, 1, 2, tzinfo=UTC)
MESSAGE = Message("[HSM] 1 volume is waited for: HSM001L8", "HSM001L8: shelf Zürich\n", {"count": 1})


class Mailbox:
    """What a mail server was given."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((session.ssl is not None, envelope.rcpt_tos, envelope.content))
        return "250 OK"


def _let_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"hsm", b"secret")
    return AuthResult(success=good, handled=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("mail-tls"))


@pytest.fixture(scope="module")
def post_office(authority: Authority) -> Iterator[tuple[Mailbox, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate("archive"), authority.key("archive"))
    box = Mailbox()
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=0,
        tls_context=context,
        require_starttls=True,
        authenticator=_let_in,
        auth_required=True,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        controller.port = free.getsockname()[1]
    controller.start()
    yield box, controller.port
    controller.stop()


def mail(port: int, **more: object) -> ChannelConfig:
    options = {"server": "127.0.0.1", "port": port, "sender": "hsm@example.org", "to": ["ops@example.org"]}
    return ChannelConfig.model_validate({"name": "operator-mail", "mail": options | more})


def test_a_mail_goes_encrypted_with_the_password_of_a_file(
    post_office: tuple[Mailbox, int], authority: Authority, tmp_path: Path
) -> None:
    box, port = post_office
    password = tmp_path / "password"
    password.write_text("secret\n")
    given = {"user": "hsm", "password_file": str(password), "ca": str(authority.ca)}
    send(mail(port, to=["ops@example.org", "boss@example.org"], **given), MESSAGE, AT)
    encrypted, to, content = box.mails.pop()
    found = message_from_bytes(content, policy=policy.default)
    assert encrypted
    assert to == ["ops@example.org", "boss@example.org"]
    assert found["Subject"] == MESSAGE.subject
    assert found["Auto-Submitted"] == "auto-generated"
    assert "Zürich" in found.get_content()
    for wrong, why in (("other", "535"), ("", "is empty")):
        password.write_text(wrong)
        with pytest.raises(NotSent, match=why):
            send(mail(port, **given), MESSAGE, AT)
    password.unlink()
    with pytest.raises(NotSent, match="No such file"):
        send(mail(port, **given), MESSAGE, AT)
    with pytest.raises(NotSent, match=r"(?i)certificate verify failed"):
        send(mail(port), MESSAGE, AT)
    assert box.mails == [], "nothing goes in the clear, or to a server that nobody vouches for"


def test_a_mail_server_that_says_nothing_is_left_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begun = time.monotonic()
        with pytest.raises(NotSent, match=r"operator-mail: .*timed out"):
            send(mail(mute.getsockname()[1], tls="none", seconds_max=0.2), MESSAGE, AT)
        assert time.monotonic() - begun < 5


class _Hook(http.server.BaseHTTPRequestHandler):
    asked: list[tuple[dict[str, str], Any]]
    status: int

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((dict(self.headers), data))
        self.send_response(type(self).status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[tuple[type[_Hook], str]]:
    handler = type("Handler", (_Hook,), {"asked": [], "status": 200})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}/page"
        server.shutdown()
        thread.join()


def test_a_webhook_gets_json_with_its_token(hook: tuple[type[_Hook], str], tmp_path: Path) -> None:
    handler, url = hook
    token = tmp_path / "token"
    token.write_text("t0ken")
    options: dict[str, object] = {"url": url, "token_file": str(token)}
    channel = ChannelConfig.model_validate({"name": "hook", "webhook": options})
    send(channel, MESSAGE, AT)
    headers, data = handler.asked.pop()
    assert (headers["Authorization"], data) == ("Bearer t0ken", {"count": 1})
    for status in (302, 403, 500):
        handler.status = status
        with pytest.raises(NotSent, match=f"hook: the server answered {status}"):
            send(channel, MESSAGE, AT)
    assert len(handler.asked) == 3, "a token follows no redirection"
    assert "t0ken" not in repr(channel)


def test_a_webhook_that_does_not_answer_is_left_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        options = {"url": url, "seconds_max": 0.2}
        with pytest.raises(NotSent, match="hook: "):
            send(ChannelConfig.model_validate({"name": "hook", "webhook": options}), MESSAGE, AT)


def program(code: str, *arguments: str, seconds: float = 20.0) -> ChannelConfig:
    argv = [sys.executable, "-c", code, *arguments]
    return ChannelConfig.model_validate({"name": "pager", "command": {"argv": argv, "seconds_max": seconds}})


def test_a_program_gets_the_prompts_on_its_input_and_no_shell_and_not_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_SECRET", "x")
    code = (
        "import json, os, sys; json.dump([json.load(sys.stdin), sys.argv[2:], os.environ.get('HSM_SUBJECT'),"
        "'HSM_SECRET' in os.environ], open(sys.argv[1], 'w'))"
    )
    send(program(code, str(tmp_path / "got"), "$(touch x); `id`"), MESSAGE, AT)
    got = json.loads((tmp_path / "got").read_text())
    assert got == [{"count": 1}, ["$(touch x); `id`"], MESSAGE.subject, False]


def test_a_program_that_fails_is_quoted_in_bounds() -> None:
    with pytest.raises(NotSent, match="ended with 3: no modem") as failure:
        send(program("import sys; sys.stderr.write('no modem' * 99999); sys.exit(3)"), MESSAGE, AT)
    assert len(str(failure.value)) < 700


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    code = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); "
        "open(sys.argv[1], 'w').write(str(child.pid)); sys.stderr.close(); time.sleep(60)"
    )
    with pytest.raises(NotSent, match="not ended after 2 s"):
        send(program(code, str(started), seconds=2), MESSAGE, AT)
    child = Path(f"/proc/{int(started.read_text())}/stat")
    until = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < until:
        time.sleep(0.01)
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_a_program_that_is_not_there_is_no_crash() -> None:
    channel = ChannelConfig.model_validate({"name": "pager", "command": {"argv": ["/nowhere/page"]}})
    with pytest.raises(NotSent, match="/nowhere/page"):
        send(channel, MESSAGE, AT)
