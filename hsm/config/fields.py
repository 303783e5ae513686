"""The fields that sections of the configuration are made of: what each takes, and what it says otherwise."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hsm.config.units import parse_duration, parse_size
from hsm.model import ReadBack
from hsm.passcode import parse as parse_passcode

Right = Literal["echo", "store", "find", "get", "move", "commit", "reject", "see rejected"]
RIGHTS: tuple[Right, ...] = ("echo", "store", "find", "get", "move", "commit")
"""What a peer may where nothing is said."""
EVERY_RIGHT: tuple[Right, ...] = (*RIGHTS, "reject", "see rejected")
"""Also what is given by name only: rejection notes, and seeing what they hide for quality reasons."""
Subject = Literal["availability"]
"""What a peer may be told of by itself."""
UserIdentity = Literal["ignored", "optional", "required"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
SOCKET_PATH_MAX_BYTES = 107
"""sizeof(sockaddr_un.sun_path) on Linux, less the closing zero."""


def check_ae_title(value: object) -> str:
    """An AE title as in PS3.5 section 6.2: 1 to 16 characters of the default repertoire, no backslash.

    :raises ValueError: anything else, and spaces at either end, which peers strip.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected an AE title as text, in quotes if it is a number; found {value!r}")  # noqa: TRY004
    if not 1 <= len(value) <= 16:
        raise ValueError(f"expected an AE title of 1 to 16 characters; {value!r} has {len(value)}")
    if "\\" in value or value != value.strip() or not all(" " <= c <= "~" for c in value):
        raise ValueError(
            f"expected an AE title of plain ASCII, no backslash, no space at the ends; found {value!r}"
        )
    return value


def _check_name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"expected a name: a letter, then letters, digits, - or _ (64 at most); found {value!r}"
        )
    return value


def check_host(value: object) -> str:
    """:raises ValueError: neither a host name nor an IP address."""
    if not isinstance(value, str):
        raise ValueError(f"expected a host name or an IP address as text; found {value!r}")  # noqa: TRY004
    if not _HOST.fullmatch(value) or value.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"expected a host name or an IP address; found {value!r}") from None
    return value


def check_url(value: object) -> str:
    expected = "expected sqlite:///FILE or postgresql+psycopg2://USER@HOST/DATABASE"
    if not isinstance(value, str):
        raise ValueError(f"{expected}; found {value!r}")  # noqa: TRY004
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # neither value nor error is shown: a password may be in it
        raise ValueError(f"{expected}; what was found is not a URL") from None
    if url.drivername not in ("sqlite", "postgresql", "postgresql+psycopg2"):
        raise ValueError(f"{expected}; found the scheme {url.drivername!r}")
    if url.password or "password" in url.query:
        raise ValueError(
            "a password does not stand in a configuration: name its file (…?passfile=FILE, as PostgreSQL's "
            "PGPASSFILE, mode 0600), or set PGPASSWORD in the daemon's environment"
        )
    if url.database in (None, "", ":memory:"):
        raise ValueError(f"{expected}; found no {'file' if url.drivername == 'sqlite' else 'database'} in it")
    return value


def _check_socket(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"expected the path of a socket; found {value!r}")
    size = len(str(value).encode("utf-8", "surrogateescape"))
    if size > SOCKET_PATH_MAX_BYTES:
        raise ValueError(
            f"expected a socket path of at most {SOCKET_PATH_MAX_BYTES} bytes; {str(value)!r} has {size}: "
            "choose a shorter HSM_HOME or api.socket"
        )
    return Path(value)


def _check_path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"expected a path as text; found {value!r}")
    return Path(value)


def check_passcode(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a passcode as `hsm config passcode` prints it")  # noqa: TRY004
    parse_passcode(value)
    return value


def _check_user_name(value: object) -> str:
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 64
        or not value.isprintable()
        or value != value.strip()
    ):
        raise ValueError(
            f"expected a user's name of 1 to 64 characters, no space at the ends; found {value!r}"
        )
    return value


def one_or_more(value: object) -> object:
    """One pattern stands for a list of one."""
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not found or not all(_is_pattern(each) for each in found):
        raise ValueError(f'expected a pattern like "HSM*", or a list of them; found {value!r}')
    return tuple(found)


def _is_pattern(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9*?\[\]!_-]{1,64}", value) is not None


def read_back_words(value: object) -> object:
    return ReadBack.of(value)


def tls_or_not(value: object) -> object:
    """``true`` stands for TLS with nothing special."""
    return {} if value is True else None if value is False else value


AeTitle = Annotated[str, BeforeValidator(check_ae_title)]
Name = Annotated[str, BeforeValidator(_check_name)]
# Also none, as the default is: receivers are handed a configuration with its defaults written out.
Site = Annotated[str, BeforeValidator(lambda value: value if value == "" else _check_name(value))]
Host = Annotated[str, BeforeValidator(check_host)]
Size = Annotated[int, BeforeValidator(parse_size)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Folder = Annotated[Path, BeforeValidator(_check_path)]
Socket = Annotated[Path, BeforeValidator(_check_socket)]
UserName = Annotated[str, BeforeValidator(_check_user_name)]


class Section(BaseModel):
    """Base of every part: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")
