"""Finding, reading and validating the configuration file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hsm.config.certificates import file_findings
from hsm.config.document import Place, dotted, read_document
from hsm.config.model import Config
from hsm.config.rules import cross_errors, resolved
from hsm.errors import ConfigError

FILE_BYTES_MAX = 1 << 20
DEFAULT_HOME = "var"
_ENVIRONMENT: Mapping[tuple[str, str], str] = {
    ("dicom", "listen"): "HSM_DICOM_LISTEN",
    ("dicom", "port"): "HSM_DICOM_PORT",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and what was expected."""

    source: str
    """The file, or the environment variable."""
    line: int | None
    """From 1; None for an environment variable."""
    place: str
    """Dotted, such as ``pools[1].tier``; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{where}: {self.place + ': ' if self.place else ''}{self.message}"


class InvalidConfig(ConfigError):
    """The file can be read but not used; ``problems`` holds every one that was found."""

    def __init__(self, source: Path, problems: list[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"the configuration {source} has {count}:{lines}")
        self.problems = tuple(problems)


def packaged_etc() -> Path:
    """The folder with the default configuration: ``hsm/_etc`` of a wheel, or ``etc`` of the checkout.

    :raises ConfigError: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_etc", package.parent / "etc"):
        if (folder / "hsm.yaml").is_file():
            return folder
    raise ConfigError(
        f"no default configuration beside {package}: the installation is incomplete; reinstall it"
    )


def home_folder(environ: Mapping[str, str]) -> Path:
    """``$HSM_HOME``, absolute; ``./var`` when it is not set or empty."""
    return Path(environ.get("HSM_HOME") or DEFAULT_HOME).expanduser().absolute()


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The file to read: ``path``, else ``$HSM_CONFIG``, else ``$HSM_HOME/hsm.yaml``, else the default.

    :raises ConfigError: the file that was named is not there.
    """
    named = path if path is not None else environ.get("HSM_CONFIG") or None
    if named is not None:
        found = Path(named).expanduser().absolute()
        if not found.is_file():
            said = "--config" if path is not None else "HSM_CONFIG"
            raise ConfigError(f"{found}: no such configuration file (named by {said})")
        return found
    at_home = home_folder(environ) / "hsm.yaml"
    return at_home if at_home.is_file() else packaged_etc() / "hsm.yaml"


def load(path: Path | None, environ: Mapping[str, str], *, files: bool = True) -> Config:
    """Read and validate the whole configuration.

    :param files: whether certificates and keys that it names are looked at too, which not everybody may.

    :raises InvalidConfig: with every problem, its file and line, and what was expected there.
    :raises ConfigError: no such file, or it cannot be read.
    """
    source = find_config(path, environ)
    document = read_document(_read(source))
    data = {} if document.value is None else document.value
    problems = [Problem(str(source), line, place, text) for line, place, text in document.errors]
    if not isinstance(data, dict):
        found = "a list" if isinstance(data, list) else repr(data)
        problems.append(Problem(str(source), 1, "", f"expected a mapping of settings; found {found}"))
        raise InvalidConfig(source, problems)
    if document.value is None and problems:  # nothing could be read: what is missing is not news
        raise InvalidConfig(source, problems)
    overridden = _override(data, environ)
    whole = {**data, "home": home_folder(environ), "source": source}
    findings: list[tuple[Place, str]] = [
        ((name,), _unknown_key(name, Config)) for name in ("home", "source") if name in data
    ]
    config: Config | None = None
    try:
        config = Config.model_validate(whole)
    except ValidationError as error:
        findings += [_translate(detail, data) for detail in error.errors() if detail["type"] != "cross"]
    findings += cross_errors(resolved(whole))
    if files and config is not None and not findings:
        findings += file_findings(config)
    for place, text in dict.fromkeys(found for found in findings if found[0] not in document.unread):
        if place in overridden:
            problems.append(Problem(overridden[place], None, dotted(place), text))
        else:
            problems.append(Problem(str(source), document.line(place), dotted(place), text))
    if problems or config is None:
        problems.sort(key=lambda problem: (problem.line or 0, problem.place))
        raise InvalidConfig(source, problems)
    return config


def _read(source: Path) -> str:
    try:
        with open(source, "rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror or error}") from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{source}: larger than {FILE_BYTES_MAX} bytes; this is not a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidConfig(source, [Problem(str(source), line, "", "not UTF-8 text")]) from error


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Place, str]:
    """Put the environment's values into ``data``; returns the places that they took."""
    taken: dict[Place, str] = {}
    for place, variable in _ENVIRONMENT.items():
        if value := environ.get(variable):
            section = data.setdefault(place[0], {})
            if isinstance(section, dict):
                section[place[1]] = int(value) if value.isascii() and value.isdigit() else value
                taken[place] = f"environment variable {variable}"
    return taken


def _translate(detail: ErrorDetails, data: dict[str, Any]) -> tuple[Place, str]:
    """One of pydantic's errors in our words; what was found is quoted as it is written in ``data``."""
    place: Place = tuple(detail["loc"])
    kind = detail["type"]
    model, field = _field(place)
    if kind == "extra_forbidden":
        return place, _unknown_key(str(place[-1]), model)
    if kind == "value_error":
        return place, str(detail["ctx"]["error"])
    expected = f"expected {field.description}" if field and field.description else detail["msg"]
    if kind == "model_type" and isinstance(place[-1], int) and model is not None:
        expected = f"expected a mapping with {', '.join(model.model_fields)}"
    if kind == "bool_type" and detail["input"] in ("yes", "no", "on", "off"):
        expected += f" (in YAML 1.2 {detail['input']} is text)"
    if kind == "missing":
        return place, f"is missing; {expected}"
    return place, f"{expected}; found {_shown(_written(data, place))}"


def _written(data: Any, place: Place) -> object:
    for part in place:
        data = data[part]
    found: object = data
    return found


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(key: str, model: type[BaseModel] | None) -> str:
    known = [name for name in model.model_fields if name not in ("home", "source")] if model else []
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; expected one of {', '.join(known)}"


def _field(place: Place) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model that the last key of ``place`` belongs to, and its field if there is one."""
    model: type[BaseModel] | None = Config
    holder: type[BaseModel] | None = None
    field: FieldInfo | None = None
    for part in place:
        if isinstance(part, int):
            continue  # an item of a list: same field, its item's model
        if model is None:
            break
        holder, field = model, model.model_fields.get(part)
        model = _model_of(field.annotation) if field else None
    if place and isinstance(place[-1], int):
        return model, field
    return holder, field


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_of(arg))), None)
