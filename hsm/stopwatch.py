"""What each drive does at this moment and since when, and how long it took: measured, kept in the catalog.

Only the drive's own time counts: what the staging area takes to write what was read does not.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import timings
from hsm.catalog.engine import Catalog
from hsm.catalog.timings import Took
from hsm.log import get_logger

log = get_logger(__name__)

Phase = Literal["mount", "locate", "read", "write"]
BETWEEN_BYTES = 64 << 20
"""A read is told as far as it came, so often."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a drive does now. Monotonic and plain seconds."""

    barcode: str
    phase: Phase
    since: float
    expected: float
    """By the drive's model."""
    request_pk: int | None = None
    left: int = 0
    """Bytes of the package under way that are still to be read."""


@dataclass(slots=True)
class _Notes:
    took: list[Took] = field(default_factory=list)


class Stopwatch:
    """One for each daemon; each drive is told of by its session, anybody may look."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._doing: dict[tuple[str, int], Doing] = {}
        self._notes: dict[tuple[str, int], _Notes] = {}
        self._heads: dict[tuple[str, int], tuple[str, int | None]] = {}

    @property
    def now(self) -> dict[tuple[str, int], Doing]:
        """By library and element address of the drive."""
        with self._lock:
            return dict(self._doing)

    def stands(self, library: str, drive: int, barcode: str, position: int | None) -> None:
        """The head of a drive is here now; None: nobody knows where."""
        with self._lock:
            self._heads[library, drive] = (barcode, position)

    def head(self, library: str, drive: int, barcode: str) -> int | None:
        """Where it is on this volume; None where nobody knows, or another one was in the drive last."""
        with self._lock:
            held, position = self._heads.get((library, drive), ("", None))
            return position if held == barcode else None

    @contextlib.contextmanager
    def session(self, library: str, drive: int) -> Iterator[None]:
        """One session of a drive; what it took is kept when it ends."""
        place = (library, drive)
        with self._lock:
            self._notes[place] = _Notes()
        try:
            yield
        finally:
            with self._lock:
                self._doing.pop(place, None)
                took = self._notes.pop(place, _Notes()).took
            self._keep(place, took)

    @contextlib.contextmanager
    def mounting(self, library: str, drive: int, barcode: str, expected: float) -> Iterator[None]:
        """A cartridge is put into a drive; 0 expected: it is in there already."""
        begun = self._begin((library, drive), Doing(barcode, "mount", self._monotonic(), expected))
        yield
        if expected > 0:
            self.stands(library, drive, barcode, 0)
            self._note((library, drive), Took("mount", self._monotonic() - begun, expected))

    def read(
        self,
        library: str,
        drive: int,
        barcode: str,
        chunks: Iterator[bytes],
        *,
        request_pk: int,
        size: int,
        locate_seconds: float,
        read_seconds: float,
    ) -> Iterator[bytes]:
        """The same chunks. Until the first comes the drive locates; seconds are what its model says."""
        place, left = (library, drive), size
        begun = self._begin(
            place, Doing(barcode, "locate", self._monotonic(), locate_seconds, request_pk, size)
        )
        spent, told = 0.0, size
        for number, chunk in enumerate(_timed(chunks, self._monotonic)):
            data, seconds = chunk
            if number == 0:
                if locate_seconds > 0:
                    self._note(place, Took("locate", self._monotonic() - begun, locate_seconds))
            else:
                spent += seconds
            left -= len(data)
            if number == 0 or told - left >= BETWEEN_BYTES:
                told = left
                self._begin(place, Doing(barcode, "read", self._monotonic(), read_seconds, request_pk, left))
            if number and left == 0:
                share = (size - len(data)) / size
                self._note(place, Took("read", spent, read_seconds * share, size))
            yield data

    def _begin(self, place: tuple[str, int], doing: Doing) -> float:
        with self._lock:
            self._doing[place] = doing
        return doing.since

    def _note(self, place: tuple[str, int], took: Took) -> None:
        with self._lock:
            notes = self._notes.get(place)
            if notes is not None:
                notes.took.append(took)

    def _keep(self, place: tuple[str, int], took: list[Took]) -> None:
        if not took:
            return
        try:
            with self._catalog.write() as session:
                timings.note(session, *place, took, self._catalog.clock.now())
        except SQLAlchemyError as error:  # a forecast is a little worse, nothing else
            log.warning("drive %d of %s: what it took is not kept: %s", place[1], place[0], error)

    def _monotonic(self) -> float:
        return self._catalog.clock.monotonic()


def _timed(chunks: Iterator[bytes], monotonic: Callable[[], float]) -> Iterator[tuple[bytes, float]]:
    while True:
        begun = monotonic()
        try:
            chunk = next(chunks)
        except StopIteration:
            return
        yield chunk, monotonic() - begun
