"""How operators are treated: how long they may take, and who is told when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from hsm.config.document import Place
from hsm.config.fields import Folder, Host, Name, Seconds, Section

STEPS_MAX = 20
_ADDRESS = re.compile(r"[^\s@<>,;]{1,64}@[A-Za-z0-9.-]{1,253}")
_HOUR = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
Days = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _check_address(value: object) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ValueError(f"expected a mail address; found {value!r}")
    return value


def _check_hook(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a URL: https://host/path")  # noqa: TRY004 - pydantic wants a ValueError
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:  # not shown: there may be a token in it
        raise ValueError("expected a URL: https://host/path; what was found is none")
    return value


def _check_hour(value: object) -> time:
    match = _HOUR.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, time):
        return value
    if match is None:
        raise ValueError(f'expected a time of day in quotes, such as "22:00"; found {value!r}')
    return time(int(match[1]), int(match[2]))


def _check_zone(value: object) -> str:
    try:
        ZoneInfo(str(value))
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Zurich; found {value!r}") from None
    return str(value)


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Address = Annotated[str, BeforeValidator(_check_address)]
Hook = Annotated[str, BeforeValidator(_check_hook)]
Hour = Annotated[time, BeforeValidator(_check_hour)]
Zone = Annotated[str, BeforeValidator(_check_zone)]


class MailConfig(Section):
    """Mail by SMTP."""

    server: Host = Field(description="a host name or an IP address")
    port: int = Field(default=587, ge=1, le=65535, description="a port, 1 to 65535")
    tls: Literal["starttls", "from the start", "none"] = Field(
        default="starttls", description='"starttls", "from the start" or "none"'
    )
    ca: Folder | None = Field(
        default=None, description="a file of certificates to trust instead of the machine's"
    )
    user: str | None = Field(default=None, min_length=1, description="a user's name")
    password_file: Folder | None = Field(default=None, description="a file with the user's password")
    sender: Address = Field(description="a mail address")
    to: Annotated[tuple[Address, ...], BeforeValidator(_one_or_more)] = Field(
        min_length=1, max_length=50, description="a mail address, or a list of them"
    )
    seconds_max: Seconds = Field(default=30.0, gt=0, le=600, description="a duration: 10 minutes at most")

    @model_validator(mode="after")
    def _check(self) -> MailConfig:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("expected user and password_file together, or neither")
        return self


class WebhookConfig(Section):
    """A POST of JSON."""

    url: Hook = Field(description="a URL", repr=False)
    token_file: Folder | None = Field(default=None, description="a file with a bearer token")
    seconds_max: Seconds = Field(default=10.0, gt=0, le=600, description="a duration: 10 minutes at most")


class CommandConfig(Section):
    """A program that gets JSON on its standard input; no shell."""

    argv: tuple[str, ...] = Field(
        min_length=1, max_length=100, description="a list: a program and its arguments"
    )
    seconds_max: Seconds = Field(default=30.0, gt=0, le=600, description="a duration: 10 minutes at most")

    @model_validator(mode="after")
    def _check(self) -> CommandConfig:
        if not Path(self.argv[0]).is_absolute():
            raise ValueError(f"expected the whole path of a program first; found {self.argv[0]!r}")
        return self


class ChannelConfig(Section):
    """One way of telling somebody: mail, webhook or command."""

    name: Name = Field(description="a name")
    mail: MailConfig | None = Field(default=None, description="a mapping: server, sender, to")
    webhook: WebhookConfig | None = Field(default=None, description="a mapping: url")
    command: CommandConfig | None = Field(default=None, description="a mapping: argv")

    @model_validator(mode="after")
    def _check(self) -> ChannelConfig:
        given = [each for each in ("mail", "webhook", "command") if getattr(self, each) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected one of mail, webhook and command; found {' and '.join(given) or 'none'}"
            )
        return self


class StepConfig(Section):
    """When somebody is told of a prompt that nobody has answered."""

    after: Seconds = Field(description="a duration since the prompt came up")
    to: Name = Field(description="the name of a channel")
    repeat: Seconds | None = Field(default=None, ge=60, description="a duration of a minute at least")
    urgent: bool = Field(default=False, description="true or false: also in quiet hours")

    @property
    def name(self) -> str:
        """What the catalog calls it: a step that is changed is another one."""
        return f"{self.after:g} s {self.to}"


class QuietConfig(Section):
    """When nobody is told of what is not urgent, in local time."""

    start: Hour = Field(description='a time of day in quotes, such as "22:00"')
    end: Hour = Field(description='a time of day in quotes, such as "06:30"')
    zone: Zone = Field(default="UTC", description="a time zone such as Europe/Zurich")
    days: tuple[Days, ...] = Field(
        default=(), max_length=7, description="a list of days (mon to sun) that are quiet as a whole"
    )


class OperatorConfig(Section):
    """Prompts: mount requests that a person answers."""

    acknowledged_for: Seconds = Field(
        default=1800.0,
        ge=1,
        description="a duration: how long somebody who has gone for a volume is taken to be on the way",
    )
    switch_after: Seconds | None = Field(
        default=3600.0,
        description="a duration: after it an unanswered prompt gives way to another copy; null for never",
    )
    walk: Seconds = Field(default=600.0, description="a duration: from a shelf to its library")
    other_site: Seconds = Field(default=4 * 3600.0, description="a duration: from another site")
    channels: tuple[ChannelConfig, ...] = Field(
        default=(), max_length=STEPS_MAX, description="a list of channels: name, and mail, webhook or command"
    )
    escalation: tuple[StepConfig, ...] = Field(
        default=(), max_length=STEPS_MAX, description="a list of steps: after, to"
    )
    damage_to: Annotated[tuple[Name, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        max_length=STEPS_MAX,
        description="the name of a channel, or a list of them: told of damaged copies",
    )
    quiet_hours: QuietConfig | None = Field(default=None, description="a mapping: start, end, zone, days")


def operator_files(data: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where files are named in the section as it is written; what has another shape is left out."""
    section = data.get("operator")
    channels = section.get("channels") if isinstance(section, Mapping) else None
    for channel in channels if isinstance(channels, list | tuple) else ():
        for kind, keys in (("mail", ("ca", "password_file")), ("webhook", ("token_file",))):
            options = channel.get(kind) if isinstance(channel, Mapping) else None
            if isinstance(options, dict):
                yield from ((options, key) for key in keys)


def operator_errors(data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Steps that nobody hears of, and two that are the same."""
    section = data.get("operator")
    if not isinstance(section, Mapping):
        return
    channels, steps = section.get("channels") or (), section.get("escalation") or ()
    names = [each.get("name") for each in channels if isinstance(each, Mapping)] if _is_list(channels) else []
    told = section.get("damage_to") or ()
    for name in (told,) if isinstance(told, str) else told if _is_list(told) else ():
        if isinstance(name, str) and name not in names:
            known = ", ".join(str(each) for each in names) or "none is configured"
            yield ("operator", "damage_to"), f"expected the name of a channel ({known}); found {name!r}"
    seen: set[tuple[object, object]] = set()
    for number, step in enumerate(steps if _is_list(steps) else ()):
        if not isinstance(step, Mapping):
            continue
        to, place = step.get("to"), ("operator", "escalation", number)
        if isinstance(to, str) and to not in names:
            known = ", ".join(str(each) for each in names) or "none is configured"
            yield (*place, "to"), f"expected the name of a channel ({known}); found {to!r}"
        same = (to, str(step.get("after")))
        if same in seen:
            yield place, f"the same step comes before it: after {step.get('after')} to {to}"
        seen.add(same)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
