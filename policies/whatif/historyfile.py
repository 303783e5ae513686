"""A history as a file: JSON Lines or CSV, compressed when the name ends in ``.gz``."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from policies.facts import FACTS, Kind
from policies.whatif.history import Access, AccessKind, Arrival, Event, FactValue, HistoryError

_FIXED = ("event", "at", "study", "size")


def read_history(path: str | Path) -> Iterator[Event]:
    """The events of ``NAME.jsonl``, ``NAME.csv`` or either with ``.gz``, one at a time.

    :raises HistoryError: the file cannot be read, or a line of it is no event; names file and line.
    """
    path = Path(path)
    rows = _reader(path)
    number = 0
    try:
        with _open(path, "r") as stream:
            for line, row in rows(stream):
                number = line
                yield _event(row)
    except (KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise HistoryError(f"{path}:{_line(error, number)}: not an event of a history: {what}") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise HistoryError(f"{path}: cannot be read: {error}") from error


def write_history(path: str | Path, events: Iterable[Event]) -> int:
    """Write events as ``path``'s name says; returns how many. CSV has a column for each fact that the
    first thousand arrivals know. :raises OSError: it cannot be written."""
    path = Path(path)
    _reader(path)
    with _open(path, "w") as stream:
        return (_write_csv if _suffix(path) == ".csv" else _write_lines)(stream, events)


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _reader(path: Path) -> Callable[[IO[str]], Iterator[tuple[int, Mapping[str, Any]]]]:
    readers = {".jsonl": _read_lines, ".csv": _read_csv}
    reader = readers.get(_suffix(path))
    if reader is None:
        raise HistoryError(f"{path}: a history ends in .jsonl, .csv, .jsonl.gz or .csv.gz")
    return reader


@contextmanager
def _open(path: Path, mode: Literal["r", "w"]) -> Iterator[IO[str]]:
    if path.suffix != ".gz":
        with open(path, mode, encoding="utf-8", newline="") as stream:
            yield stream
        return
    with (
        open(path, f"{mode}b") as raw,
        # No name and no time in the header: the same history gives the same bytes.
        gzip.GzipFile("", f"{mode}b", 6, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        yield stream


class _BadLine(ValueError):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _line(error: Exception, number: int) -> int:
    return error.line if isinstance(error, _BadLine) else number


def _read_lines(stream: IO[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _BadLine(number, f"not JSON: {error}") from error
        if not isinstance(row, dict):
            raise _BadLine(number, "expected a JSON object on each line")
        yield number, row


def _read_csv(stream: IO[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(stream)
    if not set(_FIXED) <= set(reader.fieldnames or ()):
        raise _BadLine(1, f"the first line must name the columns {', '.join(_FIXED)}")
    for row in reader:
        if None in row or None in row.values():
            raise _BadLine(reader.line_num, f"expected {len(reader.fieldnames or ())} columns")
        facts = {key: value for key, value in row.items() if key not in _FIXED and value != ""}
        yield reader.line_num, {**{key: row[key] for key in _FIXED}, "facts": facts}


def _event(row: Mapping[str, Any]) -> Event:
    at = datetime.fromisoformat(str(row["at"]))
    study, what = str(row["study"]), str(row["event"])
    if what == "arrival":
        facts = row.get("facts") or {}
        if not isinstance(facts, Mapping):
            raise ValueError("facts must be an object")
        return Arrival(at, study, int(row["size"]), {key: _fact(key, facts[key]) for key in facts})
    return Access(at, study, AccessKind(what))


_KINDS = {fact.source: fact.kind for fact in FACTS.values()}


def _fact(key: str, value: object) -> FactValue:
    """A value of JSON, or its text in CSV, as the source's kind wants it."""
    kind = _KINDS.get(key)
    if value is None or value == "":
        return None
    if kind is Kind.TEXTS:
        parts = str(value).split("\\") if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise ValueError(f"{key} must be a list of texts")
        return tuple(str(part) for part in parts if part)
    if kind is Kind.FLAG:
        return value is True or str(value).lower() in ("1", "true", "yes")
    return int(str(value)) if kind is Kind.COUNT else str(value)


def _row(event: Event) -> dict[str, Any]:
    at = event.at.astimezone(UTC).isoformat()
    if isinstance(event, Access):
        return {"event": event.kind.value, "at": at, "study": event.study}
    facts = {key: value for key, value in event.facts.items() if value not in (None, "")}
    return {"event": "arrival", "at": at, "study": event.study, "size": event.size, "facts": facts}


def _write_lines(stream: IO[str], events: Iterable[Event]) -> int:
    count = 0
    for event in events:
        stream.write(json.dumps(_row(event), ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


def _write_csv(stream: IO[str], events: Iterable[Event]) -> int:
    head: list[dict[str, Any]] = []
    rows = map(_row, events)
    for row in rows:
        head.append(row)
        if len(head) == 1000:
            break
    names = sorted({name for row in head for name in row.get("facts", {})})
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_FIXED, *names])
    count = 0
    for source in (head, rows):
        for row in source:
            facts = row.get("facts", {})
            cells = [row.get(key, "") for key in _FIXED]
            writer.writerow([*cells, *(_cell(facts.get(name, "")) for name in names)])
            count += 1
    return count


def _cell(value: object) -> object:
    return "\\".join(value) if isinstance(value, tuple) else value
