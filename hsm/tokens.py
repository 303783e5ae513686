"""Bearer tokens of the control API (RFC 6750): what is kept of them, and whose one is.

A token is 256 random bits, so its SHA-256 is all that is kept: it cannot be guessed from that, and is checked
in microseconds. The file is for the daemon's user alone to write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from hsm.errors import BadInput, ConfigError

PREFIX: Final = "hsm_"
"""So that scanners for secrets that slipped out know one when they see it."""
RANDOM_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 200
TOKENS_MAX: Final = 1000
FILE_BYTES_MAX: Final = 1 << 20
FORMAT: Final = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_ROLES: Final = frozenset({"admin", "operator", "auditor", "read-only"})
_OTHERS_MAY = stat.S_IWGRP | stat.S_IRWXO


class TokenFileError(ConfigError):
    """The file cannot be used; nobody comes in with a token until it is mended."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of one token.

    :raises ValueError: a value that makes no sense.
    """

    name: str
    person: str
    """Who has it: for the journal, and where two persons are needed."""
    role: str
    digest: bytes
    """SHA-256 of the token."""
    created_at: datetime
    expires_at: datetime | None

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("person", self.person)):
            if not _NAME.fullmatch(value):
                raise ValueError(
                    f"{field} {value[:80]!r}: expected letters, digits and . _ @ - (64 characters at most)"
                )
        if self.role not in _ROLES:
            raise ValueError(f"role {self.role[:40]!r}: expected one of {', '.join(sorted(_ROLES))}")
        if len(self.digest) != hashlib.sha256().digest_size:
            raise ValueError("sha256: expected 64 hexadecimal digits")
        for moment in (self.created_at, self.expires_at):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{moment} has no time zone")

    def is_good(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at

    def record(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "name": self.name,
            "person": self.person,
            "role": self.role,
            "sha256": self.digest.hex(),
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at.isoformat() if self.expires_at is not None else None,
        }


def new_token(random: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """A token that nobody can guess. It is shown once and kept nowhere."""
    return PREFIX + random(RANDOM_BYTES)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def matching(tokens: Sequence[Token], given: str) -> Token | None:
    """Whose token it is; takes the same time whichever it is, and whether there is one."""
    digest = digest_of(given[:TOKEN_CHARACTERS_MAX])
    found: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found if len(given) <= TOKEN_CHARACTERS_MAX else None


def read(path: Path) -> tuple[Token, ...]:
    """
    :raises TokenFileError: no such file, not this user's or root's, others may write or read it, or damaged.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            _require_private(path, os.fstat(file.fileno()))
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TokenFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > FILE_BYTES_MAX:
        raise TokenFileError(f"{path}: larger than {FILE_BYTES_MAX} bytes; this is no file of tokens")
    try:
        found = tuple(_token(each) for each in _entries(json.loads(content)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenFileError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    if len({token.name for token in found}) != len(found) or len(found) > TOKENS_MAX:
        raise TokenFileError(f"{path}: two tokens have one name, or there are more than {TOKENS_MAX}")
    return found


def _require_private(path: Path, there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise TokenFileError(f"{path}: not a file")
    if there.st_uid not in (0, os.geteuid()):
        raise TokenFileError(f"{path}: belongs to uid {there.st_uid}, expected the daemon's own user or root")
    if there.st_mode & _OTHERS_MAY:
        raise TokenFileError(
            f"{path}: mode {stat.S_IMODE(there.st_mode):04o} lets others at it: chmod 0600 {path}"
        )


def _entries(found: Any) -> list[Any]:
    if found["format"] != FORMAT or not isinstance(found["tokens"], list):
        raise ValueError(f"expected format {FORMAT} and a list of tokens")
    return list(found["tokens"])


def _token(each: dict[str, Any]) -> Token:
    expires = each["expires_at"]
    return Token(
        str(each["name"]),
        str(each["person"]),
        str(each["role"]),
        bytes.fromhex(each["sha256"]),
        datetime.fromisoformat(each["created_at"]),
        datetime.fromisoformat(expires) if expires is not None else None,
    )


def add(path: Path, token: Token) -> None:
    """
    :raises BadInput: there is one with this name.
    :raises TokenFileError: the file cannot be used.
    """
    with _changing(path) as tokens:
        if any(each.name == token.name for each in tokens):
            raise BadInput(f"{path}: there is a token {token.name} already; revoke it first")
        if len(tokens) >= TOKENS_MAX:
            raise BadInput(f"{path}: has {TOKENS_MAX} tokens already; revoke some")
        tokens.append(token)


def revoke(path: Path, name: str) -> None:
    """
    :raises BadInput: there is none with this name.
    :raises TokenFileError: the file cannot be used.
    """
    with _changing(path) as tokens:
        kept = [each for each in tokens if each.name != name]
        if len(kept) == len(tokens):
            raise BadInput(f"{path}: has no token {name[:80]!r}")
        tokens[:] = kept


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[list[Token]]:
    """The tokens, to be changed: written back at the end, whole or not at all, one writer at a time."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            tokens = list(read(path)) if path.exists() else []
            yield tokens
            _write(path, tokens, os.fstat(folder))
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise TokenFileError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write(path: Path, tokens: Sequence[Token], folder: os.stat_result) -> None:
    text = json.dumps({"format": FORMAT, "tokens": [token.record() for token in tokens]}, indent=1)
    beside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        if os.geteuid() == 0:  # root makes it for the daemon, whose folder it lies in
            os.fchown(handle, folder.st_uid, folder.st_gid)
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)
    os.replace(beside, path)


class Tokens:
    """The tokens of a file, read again when it has changed. A file that is no use lets nobody in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: tuple[int, int, int, int] | None = None
        self._found: tuple[Token, ...] = ()
        self.problem = ""
        """Why nobody comes in; empty where the file is good."""

    def holder(self, given: str) -> Token | None:
        """Whose token it is, expired or not."""
        self.look()
        return matching(self._found, given)

    def all(self) -> tuple[Token, ...]:
        """Every token of the file as it is now, expired ones too."""
        self.look()
        return self._found

    def look(self) -> None:
        """Take over what the file says now."""
        try:
            there = os.stat(self.path)
            mark = (there.st_ino, there.st_mtime_ns, there.st_ctime_ns, there.st_size)
        except OSError:
            mark = None
        if mark is not None and mark == self._mark:
            return
        try:
            self._found, self.problem = read(self.path), ""
        except TokenFileError as error:
            self._found, self.problem = (), f"nobody comes in with a token: {error}"
        self._mark = mark
