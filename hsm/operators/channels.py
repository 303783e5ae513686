"""The ways a message goes: mail (RFC 5321), a POST of JSON, or a program. Each has a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import smtplib
import ssl
import subprocess
import time
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import IO

import httpx

from hsm.config.operators import ChannelConfig, CommandConfig, MailConfig, WebhookConfig
from hsm.operators.message import Message, clean

ERROR_MAX = 300
SECRET_MAX_BYTES = 4096


class NotSent(Exception):
    """A message did not go; the text says why."""


def send(channel: ChannelConfig, message: Message, now: datetime) -> None:
    """:raises NotSent: it did not go, or nobody can tell."""
    try:
        if channel.mail is not None:
            _mail(channel.mail, message, now)
        elif channel.webhook is not None:
            _post(channel.webhook, message)
        elif channel.command is not None:
            _run(channel.command, message)
    except NotSent as error:
        raise NotSent(f"{channel.name}: {error}") from error
    except (OSError, smtplib.SMTPException, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotSent(f"{channel.name}: {_words(error)}") from error


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return clean(text)[:ERROR_MAX]


def _secret(path: Path) -> str:
    """:raises OSError: it cannot be read."""
    with open(path, encoding="utf-8") as file:
        found = file.read(SECRET_MAX_BYTES).strip()
    if not found:
        raise NotSent(f"{path} is empty; expected a password or token in it")
    return found


def _mail(config: MailConfig, message: Message, now: datetime) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.subject, config.sender, ", ".join(config.to)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = make_msgid(domain=config.sender.partition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    mail.set_content(message.text)
    trust = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
    at, limit = config.server, config.seconds_max
    server: smtplib.SMTP = (
        smtplib.SMTP_SSL(at, config.port, timeout=limit, context=trust)
        if config.tls == "from the start"
        else smtplib.SMTP(at, config.port, timeout=limit)
    )
    with server:
        if config.tls == "starttls":
            server.starttls(context=trust)
        if config.user is not None and config.password_file is not None:
            server.login(config.user, _secret(config.password_file))
        refused = server.send_message(mail)
    if refused:
        raise NotSent(f"the server does not take it for {', '.join(refused)}")


def _post(config: WebhookConfig, message: Message) -> None:
    headers = {"User-Agent": "hsm"}
    if config.token_file is not None:
        headers["Authorization"] = f"Bearer {_secret(config.token_file)}"
    with (
        httpx.Client(timeout=config.seconds_max, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", config.url, json=message.data, headers=headers) as answer,
    ):
        if not answer.is_success:  # its body is nobody's business
            raise NotSent(f"the server answered {answer.status_code}")


def _run(config: CommandConfig, message: Message) -> None:
    """The program gets the JSON on its standard input and nothing of our environment but a path."""
    process = subprocess.Popen(
        config.argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HSM_SUBJECT": message.subject},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin as given, process.stderr as said:
        try:
            complained = _talk(process, given, said, json.dumps(message.data).encode(), config.seconds_max)
        finally:
            _end(process)
    if process.returncode:
        raise NotSent(f"{config.argv[0]} ended with {process.returncode}: {complained}".rstrip(": "))


def _talk(
    process: subprocess.Popen[bytes], given: IO[bytes], said: IO[bytes], data: bytes, seconds: float
) -> str:
    """Write what it is to read, and read what it complains of, as long as it lives.

    :raises NotSent: it takes too long.
    """
    kept, left, until = bytearray(), memoryview(data), time.monotonic() + seconds
    for pipe in (given, said):
        os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(given, selectors.EVENT_WRITE)
        selector.register(said, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() >= until:
                raise NotSent(f"it has not ended after {seconds:g} s")
            for key, _ in selector.select(max(0.0, until - time.monotonic())):
                if key.fileobj is said:
                    chunk = os.read(said.fileno(), 4096)
                    kept += chunk[: max(0, ERROR_MAX - len(kept))]
                    if not chunk:
                        selector.unregister(said)
                else:
                    try:
                        left = left[os.write(given.fileno(), left) :]
                    except BrokenPipeError:  # it does not want to know more
                        left = left[:0]
                    if not left:
                        selector.unregister(given)
                        given.close()
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise NotSent(f"it has not ended after {seconds:g} s") from None
    return clean(kept.decode("utf-8", "replace")).strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it stays: not what it started either."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
