"""The journal in a file: JSON lines that chain as the records do, flushed to the disk, cut into several
files.

A line is ``{"seq":N,"digest":"...","record":[...]}``; ``record`` is, character for character, what the digest
is made of after the digest before. So the file proves itself, and file and database vouch for each other.
What the file ends with is also from where to go on: no cursor beside it can disagree with it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hsm.catalog.chain import GENESIS, follows
from hsm.catalog.chaincheck import Problem
from hsm.catalog.chainread import Link
from hsm.trail.sink import BEGINNING, NotTaken, Place, Whose

LINE_BYTES_MAX = 64 << 20
_TAIL_BYTES = 1 << 20
_START = re.compile(rb'\{"seq":([0-9]{1,18}),"digest":"([0-9a-f]{64})","record":')
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class FileSink:
    """See :class:`hsm.trail.sink.Sink`.

    :param bytes_max: a file that has grown beyond it gets the name ``<stem>.<first>-<last><suffix>``.
    :param keep: so many of those stay, the last ones; None: all.
    """

    def __init__(self, path: Path, bytes_max: int, keep: int | None) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._keep = keep
        self._fd = -1

    @property
    def name(self) -> str:
        return f"the file {self._path}"

    def begin(self) -> Place:
        """Reads the end of the file, and cuts off a line that a crash has torn."""
        self.close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, _FLAGS, 0o600)
            whole = _whole_bytes(self._fd)
            os.ftruncate(self._fd, whole)
            last = _last_line(self._path)
            if last is None:
                older = files(self._path)[:-1]
                last = _last_line(older[-1]) if older else None
        except OSError as error:
            raise NotTaken(error.strerror or str(error)) from error
        return BEGINNING if last is None else _place(last, self._path)

    def whose(self) -> Whose:
        """Every node writes its own."""
        return Whose.OURS

    def not_taken(self) -> None:
        """Nobody else could."""

    def take(self, links: Sequence[Link]) -> None:
        try:
            if os.fstat(self._fd).st_size >= self._bytes_max:
                self._rotate(links[0].entry.seq - 1)
            data = memoryview(b"".join(map(encode, links)))
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as error:
            raise NotTaken(error.strerror or str(error)) from error

    def idle(self) -> None:
        """Somebody may have moved the file away: then there is a new one."""
        if self._fd >= 0:
            try:
                mine, there = os.fstat(self._fd), os.stat(self._path, follow_symlinks=False)
            except OSError as error:
                raise NotTaken(f"it is gone: {error.strerror or error}") from error
            if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
                raise NotTaken("it was exchanged")

    def abort(self) -> None:
        """A write to a file cannot be ended by anybody."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self, last: int) -> None:
        first = _place(_first_line(self._path), self._path).seq
        full = self._path.with_name(f"{self._path.stem}.{first:012d}-{last:012d}{self._path.suffix}")
        os.rename(self._path, full)
        self.close()
        self._fd = os.open(self._path, _FLAGS, 0o600)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._keep is not None:
            older = files(self._path)[:-1]
            for path in older[: max(0, len(older) - self._keep)]:
                path.unlink(missing_ok=True)


def encode(link: Link) -> bytes:
    """One line. Its record is the chain's own text, so that nobody need know how it is made."""
    return f'{{"seq":{link.entry.seq},"digest":"{link.digest.hex()}","record":{link.line}}}\n'.encode()


def files(path: Path) -> list[Path]:
    """The files that were full, in order, and the one that is written."""
    name = re.compile(rf"{re.escape(path.stem)}\.[0-9]{{12,18}}-[0-9]{{12,18}}{re.escape(path.suffix)}")
    older = [each for each in path.parent.glob(f"{path.stem}.*") if name.fullmatch(each.name)]
    return [*sorted(older, key=lambda each: int(each.name[len(path.stem) + 1 :].split("-")[0])), path]


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says; ``record`` is the chain's text."""

    where: str
    seq: int
    digest: bytes
    record: str


def read(path: Path) -> Iterator[Line | Problem]:
    """Every line of every file, in order, and what is wrong with them by themselves: a line that is no
    record, a chain that is broken. A line that is being written is left out.

    :raises OSError: a file cannot be read.
    """
    before: Line | None = None
    for each in files(path):
        if not each.exists():
            continue
        with each.open("rb") as file:
            for number, raw in enumerate(iter(partial(file.readline, LINE_BYTES_MAX), b""), 1):
                if not raw.endswith(b"\n"):
                    break
                line = _line(raw, f"{each}, line {number}")
                if line is None:
                    yield Problem(before.seq + 1 if before else 1, f"{each}, line {number}: is no record")
                    continue
                yield from _broken(before, line)
                yield line
                before = line


def last_record(path: Path) -> int | None:
    """The number of the last record that the files have now; None: there is none, or the last line is none.

    :raises OSError: a file cannot be read.
    """
    for each in reversed(files(path)):
        if not each.exists():
            continue
        with each.open("rb") as file:
            whole = _whole_bytes(file.fileno())  # behind that a line is being written
        if whole:
            match = _START.match(_last_line(each, whole) or b"")
            return int(match[1]) if match is not None else None
    return None


def _broken(before: Line | None, line: Line) -> Iterator[Problem]:
    digest = before.digest if before is not None else GENESIS
    if before is None and line.seq != 1:
        return  # older files were deleted: what it follows is not known here
    if line.seq != (before.seq if before is not None else 0) + 1:
        yield Problem(
            line.seq, f"{line.where}: record {line.seq} does not come next: lines are missing or moved"
        )
    elif follows(digest, line.record) != line.digest:
        yield Problem(line.seq, f"{line.where}: record {line.seq} was altered, or the line before it")


def _line(raw: bytes, where: str) -> Line | None:
    match = _START.match(raw)
    if match is None or not raw.endswith(b"}\n"):
        return None
    try:
        record = raw[match.end() : -2].decode()
        if json.loads(record)[0] != int(match[1]):
            return None
    except (ValueError, TypeError, IndexError, KeyError):
        return None
    return Line(where, int(match[1]), bytes.fromhex(match[2].decode()), record)


def _place(raw: bytes | None, path: Path) -> Place:
    match = _START.match(raw or b"")
    if match is None:
        raise NotTaken(
            f"{path} is not one of this journal's: its last line is no record; move it away, and begin anew"
        )
    return Place(int(match[1]), bytes.fromhex(match[2].decode()))


def _whole_bytes(fd: int) -> int:
    """Up to the last end of a line."""
    at = os.fstat(fd).st_size
    while at:
        start = max(0, at - _TAIL_BYTES)
        found = os.pread(fd, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(LINE_BYTES_MAX)


def _last_line(path: Path, until: int | None = None) -> bytes | None:
    """None: the file is empty.

    :param until: the file ends here; None: where it does.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) if until is None else until
        if not end:
            return None
        size = _TAIL_BYTES
        while True:
            start = max(0, end - size)
            file.seek(start)
            found = file.read(end - start).rstrip(b"\n").rpartition(b"\n")
            if found[1] or not start:
                return found[2]
            size *= 2
