"""What the driver is told: the options of a pool as one checked value, secrets read from their files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers import options as opt
from drivers.errors import OperatorNeeded, Permanent

OPTIONS = frozenset(
    {
        "host",
        "port",
        "user",
        "path",
        "known_hosts",
        "key_file",
        "key_passphrase_file",
        "key_passphrase_env",
        "agent",
        "password_file",
        "password_env",
        "expect_uuid",
        "reserve_bytes",
        "quota_bytes",
        "connect_seconds",
        "timeout_seconds",
        "connections",
        "ciphers",
        "without_fsync",
    }
)
REQUIRED = frozenset({"host", "user", "path"})
DEFAULT_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
"""AES-GCM first: it needs no separate MAC, which is a third of the time otherwise."""
CONNECT_SECONDS, TIMEOUT_SECONDS = 15.0, 30.0
_SECRET_BYTES_MAX = 4096
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server is, who we are there, and how long anything may take (seconds)."""

    host: str
    user: str
    path: str
    """An absolute folder on the server."""
    port: int = 22
    known_hosts: Path = field(default_factory=lambda: Path("~/.ssh/known_hosts").expanduser())
    key_file: Path | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    agent: bool = False
    password: str | None = field(default=None, repr=False)
    expect_uuid: str | None = None
    reserve_bytes: int = 0
    quota_bytes: int | None = None
    """What may be stored, where the server's file system says nothing or more than is ours."""
    connect_seconds: float = CONNECT_SECONDS
    timeout_seconds: float = TIMEOUT_SECONDS
    """For any one answer of the server, and for any progress of a transfer."""
    connections: int = 8
    ciphers: tuple[str, ...] = DEFAULT_CIPHERS
    without_fsync: bool = False
    """Take a server that cannot be told to flush: what it says it wrote is believed."""

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise Permanent(f"option host: {self.host!r}; expected a name or an address")
        if not self.path.startswith("/") or "\0" in self.path:
            raise Permanent(f"option path: {self.path!r}; expected an absolute folder on the server")
        if not 0 < self.port < 65536:
            raise Permanent(f"option port: {self.port}; expected 1 to 65535")
        if self.connect_seconds <= 0 or self.timeout_seconds <= 0:
            raise Permanent("options connect_seconds and timeout_seconds: expected more than 0")
        if not 2 <= self.connections <= 64:
            raise Permanent(f"option connections: {self.connections}; expected 2 to 64")
        if not (self.key_file or self.agent or self.password):
            raise Permanent(
                "the sftp driver has no way to log in: give key_file, agent: true, password_file "
                "or password_env"
            )

    @property
    def server(self) -> str:
        """For messages: ``sftp://user@host:port``."""
        return f"sftp://{self.user}@{self.host}:{self.port}"

    @property
    def known_name(self) -> str:
        """The host as known_hosts files name it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


def settings(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from a pool's options.

    Secrets come from a file that only its owner may read, or from the environment; never from the
    configuration itself, which is shown, logged and kept in version control.

    :raises Permanent: a value is unusable.
    :raises OperatorNeeded: a secret's file cannot be read, or others may read it.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {name: _needed(options, name) for name in ("host", "user", "path")}
    for name in ("known_hosts", "key_file"):
        path = opt.text(options, name)
        if path is not None:
            given[name] = Path(path).expanduser()
    for name in ("port", "connections"):
        if (number := opt.count(options, name, 1)) is not None:
            given[name] = number
    if (ciphers := opt.names(options, "ciphers")) is not None:
        if isinstance(ciphers, int) or not ciphers:
            raise Permanent("option ciphers: expected a list of names, as `ssh -Q cipher` prints them")
        given["ciphers"] = ciphers
    return Settings(
        **given,
        connect_seconds=opt.factor(options, "connect_seconds", CONNECT_SECONDS),
        timeout_seconds=opt.factor(options, "timeout_seconds", TIMEOUT_SECONDS),
        key_passphrase=_secret(options, "key_passphrase", environment),
        password=_secret(options, "password", environment),
        agent=_flag(options, "agent"),
        without_fsync=_flag(options, "without_fsync"),
        expect_uuid=opt.text(options, "expect_uuid"),
        reserve_bytes=opt.size(options, "reserve_bytes") or 0,
        quota_bytes=opt.size(options, "quota_bytes"),
    )


def require_private(path: Path, what: str) -> None:
    """:raises OperatorNeeded: the file is not there, or others than its owner may read it."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise OperatorNeeded(f"{what} {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise OperatorNeeded(f"{what} {path} may be read by others; run: chmod 600 {path}")


def _needed(options: Mapping[str, Any], name: str) -> str:
    value = opt.text(options, name)
    if value is None:
        raise Permanent(f"driver sftp: option {name} is missing")
    return value


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise Permanent(f"option {name}: {value!r}; expected true or false")
    return value


def _secret(options: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> str | None:
    file, variable = opt.text(options, f"{name}_file"), opt.text(options, f"{name}_env")
    if file and variable:
        raise Permanent(f"options {name}_file and {name}_env: give one of them")
    if variable:
        if not environment.get(variable):
            raise OperatorNeeded(f"option {name}_env: the environment variable {variable} is not set")
        return environment[variable]
    if not file:
        return None
    path = Path(file).expanduser()
    require_private(path, f"the file of option {name}_file,")
    try:
        with open(path, "rb") as opened:
            content = opened.read(_SECRET_BYTES_MAX + 1)
        secret = content.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorNeeded(f"option {name}_file: {path} cannot be read: {error}") from error
    if not secret or len(content) > _SECRET_BYTES_MAX:
        raise OperatorNeeded(f"option {name}_file: {path} holds no secret of 1 to {_SECRET_BYTES_MAX} bytes")
    return secret
