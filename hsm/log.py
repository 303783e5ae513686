"""Structured logs on the standard library: short lines for people, JSON lines for machines.

Values go in as ``log.info("sealed %s", key, extra={"study": uid})`` or through :func:`context`;
they come out as ``study=1.2.3`` or as JSON members. What peers send may not forge lines
(:func:`neutral`), fill the disk with one long line, or with one line many times (:class:`RateLimit`).
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import re
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Format = Literal["auto", "human", "json"]

MESSAGE_CHARACTERS_MAX = 4096
TRACEBACK_CHARACTERS_MAX = 16384
WINDOW_SECONDS = 60.0
SAME_MESSAGE_MAX = 5
SAME_TEMPLATE_MAX = 600
_REMEMBERED_MAX = 2000

_TAMED = (
    "pynetdicom",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "pydicom",
    "sqlalchemy",
    "alembic",
    "httpx",
)

_OF_PEERS = ("pynetdicom", "pydicom")

# C0, DEL and C1 controls, line and paragraph separators, direction overrides, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\x1b"}

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_CONTEXT: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("hsm_log_context")


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: ``log = get_logger(__name__)``."""
    return logging.getLogger(name)


@contextlib.contextmanager
def context(**values: object) -> Iterator[None]:
    """Add ``values`` to every record that this thread logs inside the block.

    :raises ValueError: one of them has the name of a record's own attribute (``name``, ``module`` ...).
    """
    if taken := _STANDARD.intersection(values):
        raise ValueError(f"a log record has its own {', '.join(sorted(taken))}; choose another name")
    token = _CONTEXT.set({**_CONTEXT.get({}), **values})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def neutral(text: str) -> str:
    """``text`` on one line, with control and direction characters shown as escapes."""
    return _UNSAFE.sub(lambda match: _NAMED.get(match[0]) or _escaped(match[0]), text)


def set_up(level: str, form: Format = "auto", stream: TextIO | None = None) -> None:
    """Send every record of the process to ``stream`` (standard error when None).

    Replaces what an earlier call set up. ``auto`` is human on a terminal and JSON otherwise.
    """
    target = sys.stderr if stream is None else stream
    terminal = target.isatty()
    formatter: logging.Formatter
    if form == "json" or (form == "auto" and not terminal):
        formatter = JsonFormatter()
    else:
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        formatter = HumanFormatter(colour=colour, encoding=getattr(target, "encoding", None) or "utf-8")
    handler = _Handler(target)
    handler.setFormatter(formatter)
    handler.addFilter(_add_context)
    handler.addFilter(_tame)
    root = logging.getLogger()
    for old in [found for found in root.handlers if isinstance(found, _Handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    for name in _TAMED:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    set_level(level)
    logging.captureWarnings(True)
    # Else Python remembers every different text for ever, to say it once, and pydicom's texts have values of
    # peers in them. What comes too often is held back as all records are.
    warnings.simplefilter("always", UserWarning, append=True)


def set_level(level: str) -> None:
    """``debug``, ``info``, ``warning`` or ``error``; libraries are kept at warning or above."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _TAMED:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _tame(record: logging.LogRecord) -> bool:
    """What pynetdicom and pydicom make of a peer's nonsense is no error of ours, and a peer may send as much
    of it as it likes: a warning of one line. Their tracebacks are for who debugs."""
    if record.name.partition(".")[0] in _OF_PEERS and record.levelno >= logging.ERROR:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        if logging.getLogger().level > logging.DEBUG:
            record.exc_info = record.exc_text = None
    return True


class HumanFormatter(logging.Formatter):
    """``12:03:04 WARNING ingest: text key=value``, in local time."""

    _COLOURS: Mapping[str, str] = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}

    def __init__(self, colour: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._colour = colour
        self._encoding = encoding

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:7}"
        if self._colour and record.levelname in self._COLOURS:
            level = f"\x1b[{self._COLOURS[record.levelname]}m{level}\x1b[0m"
        name = neutral(record.name.removeprefix("hsm."))
        values = "".join(f" {key}={_quoted(value)}" for key, value in _values(record).items())
        text = f"{clock} {level} {name}: {_message(record)}{values}"
        for line in _traceback(self, record):
            text += f"\n  | {line}"
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, message, values, exception."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        for key, value in _values(record).items():
            plain = (
                value if isinstance(value, bool | int | float) or value is None else neutral(_cut(str(value)))
            )
            line[f"{key}_" if key in line or key == "exception" else key] = plain
        if lines := _traceback(self, record):
            line["exception"] = "\n".join(lines)
        return json.dumps(line)


@dataclass
class _Seen:
    since: float
    level: int
    count: int = 0
    suppressed: int = 0


class RateLimit:
    """Lets a message through 5 times a minute, and messages made from one template 600 times.

    What was held back is counted, and told when its minute is over. Critical records always pass.
    Not thread-safe: the handler's lock is held around it.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether to write ``record``; counts it."""
        if record.levelno >= logging.CRITICAL:
            return True
        text = f"{_message(record)} {_values(record) or ''}".rstrip()
        template = f"messages like: {neutral(_cut(str(record.msg)))}"
        return self._one(record, text, SAME_MESSAGE_MAX) and self._one(record, template, SAME_TEMPLATE_MAX)

    def told(self, everything: bool = False) -> list[logging.LogRecord]:
        """Records that tell what was held back in minutes that are over (or at all), which are forgotten."""
        now = self._monotonic()
        records: list[logging.LogRecord] = []
        while self._seen:
            key, seen = next(iter(self._seen.items()))  # the oldest
            if not everything and now - seen.since < WINDOW_SECONDS and len(self._seen) < _REMEMBERED_MAX:
                break
            del self._seen[key]
            if seen.suppressed:
                arguments = (seen.suppressed, round(now - seen.since), key[1])
                message = "%d more in %d s not shown: %s"
                records.append(logging.LogRecord(key[0], seen.level, "", 0, message, arguments, None))
        return records

    def _one(self, record: logging.LogRecord, text: str, limit: int) -> bool:
        seen = self._seen.setdefault((record.name, text), _Seen(self._monotonic(), record.levelno))
        if seen.count < limit:
            seen.count += 1
            return True
        seen.suppressed += 1
        return False


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to one stream. A stream that is gone is no reason to disturb what logs."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        for told in self._limit.told():
            super().emit(told)
        if self._limit.passes(record):
            super().emit(record)

    def close(self) -> None:
        with self.lock or contextlib.nullcontext():
            for told in self._limit.told(everything=True):
                super().emit(told)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handleError(record)


def _add_context(record: logging.LogRecord) -> bool:
    for key, value in _CONTEXT.get({}).items():
        if key not in vars(record):
            setattr(record, key, value)
    return True


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except (
        TypeError,
        ValueError,
        KeyError,
    ):  # a template that its arguments do not fit is still worth reading
        text = f"{record.msg} {record.args!r}"
    return neutral(_cut(text))


def _values(record: logging.LogRecord) -> dict[str, Any]:
    return {neutral(key): value for key, value in vars(record).items() if key not in _STANDARD}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        text = f"... ({len(text)} characters, the last of them:)\n{text[-TRACEBACK_CHARACTERS_MAX:]}"
    return [neutral(line) for line in text.strip("\n").split("\n")] if text else []


def _cut(text: str) -> str:
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return f"{text[:MESSAGE_CHARACTERS_MAX]}... ({len(text)} characters)"


def _quoted(value: object) -> str:
    text = neutral(_cut(str(value)))
    return json.dumps(text, ensure_ascii=False) if not text or any(c in ' "=' for c in text) else text


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
